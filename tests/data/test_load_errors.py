"""Whatever is wrong with the files, the error says what was asked and what was there."""

import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from ticketlab.data.load import load
from ticketlab.errors import InputError

from .layouts import Arrays, archive, cifar_pickles, cifar_records, examples, idx, parquet

RGB, GREY = (3, 32, 32), (1, 28, 28)


def two(shape: tuple[int, int, int], classes: int = 10) -> tuple[Arrays, Arrays]:
    return examples(20, classes, shape, 0), examples(10, classes, shape, 1)


def refused(name: str, folder: Path, *says: str) -> None:
    with pytest.raises(InputError) as error:
        load(name, folder)
    for part in says:
        assert re.search(part, str(error.value)), str(error.value)


def test_unknown_name() -> None:
    with pytest.raises(InputError, match=r"'cifar-10'.*Did you mean.*'cifar10'"):
        load("cifar-10")


def test_folder_without_the_data(tmp_path: Path) -> None:
    refused("cifar10", tmp_path / "absent", "cifar10.*absent", "does not exist", "train\\*.parquet")
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "mnist").mkdir()
    refused("cifar10", tmp_path, "holds mnist/, notes.txt", "cifar-10-python.tar.gz")
    refused("fashion-mnist", tmp_path, "train-images-idx3-ubyte")
    refused("cifar10", tmp_path / "notes.txt", "is a file")


def test_never_downloads_with_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ticketlab.data.load.download", lambda name: pytest.fail("downloads"))
    refused("cifar10", tmp_path, "holds nothing")


def test_missing_shard(tmp_path: Path) -> None:
    parquet(tmp_path, *two(RGB), "img", "label", "PNG", 4)
    (tmp_path / "train-00002-of-00004.parquet").unlink()
    refused("cifar10", tmp_path, "all 4 shards", "got 3; missing: 2")


def test_other_columns(tmp_path: Path) -> None:
    parquet(tmp_path, *two(RGB), "photo", "label", "PNG", 1)
    refused("cifar10", tmp_path, "img or image", "got photo, label")


def test_other_pictures(tmp_path: Path) -> None:
    parquet(tmp_path, *two((1, 32, 32)), "img", "label", "PNG", 1)
    refused("cifar10", tmp_path, "RGB pictures of 32x32 in .*row 0, got L 32x32")


def test_labels_of_another_data_set(tmp_path: Path) -> None:
    parquet(tmp_path, *two(RGB, classes=20), "img", "label", "PNG", 1)
    refused("cifar10", tmp_path, "training set.*label 19; 10 classes have the labels 0 to 9")


def test_no_picture(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for part in ("train", "test"):
        table = pa.table({"img": [{"bytes": b"no picture", "path": ""}], "label": [0]})
        pq.write_table(table, tmp_path / f"{part}.parquet")
    refused("cifar10", tmp_path, "picture in .*row 0")
    for part in ("train", "test"):
        pq.write_table(pa.table({"img": ["text"], "label": [0]}), tmp_path / f"{part}.parquet")
    refused("cifar10", tmp_path, "unreadable")


@pytest.mark.parametrize("name", ["train-00000-of-00001.parquet", "cifar-10-python.tar.gz", "data_batch_1"])
def test_damaged_file(name: str, tmp_path: Path) -> None:
    if name.endswith("parquet"):
        parquet(tmp_path, *two(RGB), "img", "label", "PNG", 1)
    elif name.endswith("gz"):
        cifar_pickles(tmp_path / "x", "cifar10", *two(RGB))
        archive(tmp_path / name, tmp_path / "x")
    else:
        cifar_pickles(tmp_path, "cifar10", *two(RGB))
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused("cifar10", tmp_path, "unreadable|damaged|refused", re.escape(name))


def test_missing_batch(tmp_path: Path) -> None:
    cifar_pickles(tmp_path, "cifar10", *two(RGB))
    (tmp_path / "data_batch_3").unlink()
    refused("cifar10", tmp_path, "missing: data_batch_3")


def test_half_a_record(tmp_path: Path) -> None:
    cifar_records(tmp_path, "cifar100", *two(RGB, classes=100))
    (tmp_path / "train.bin").write_bytes(bytes(4000))
    refused("cifar100", tmp_path, "records of 3074 bytes, got 4000")


def test_pickle_that_would_run_something(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    cifar_pickles(tmp_path, "cifar10", *two(RGB))
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({b"data": Evil()}))
    refused("cifar10", tmp_path, "mkdir is neither")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [[], {b"data": [1]}, {b"data": np.zeros((2, 5)), b"labels": [0, 1]}])
def test_pickle_of_something_else(tmp_path: Path, content: object) -> None:
    cifar_pickles(tmp_path, "cifar10", *two(RGB))
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(content, 2))
    refused("cifar10", tmp_path, "asked .*data_batch_1 for data and labels")


def test_idx_errors(tmp_path: Path) -> None:
    train, test = two(GREY)
    idx(tmp_path, train, (test[0], test[1][:3]), zipped=False)
    refused("fashion-mnist", tmp_path, "one label each, got pictures \\(10, 28, 28\\) and labels \\(3,\\)")
    idx(tmp_path, *two((1, 27, 28)), zipped=False)
    refused("fashion-mnist", tmp_path, "28x28")
    idx(tmp_path, train, test, zipped=False)
    images = tmp_path / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1])
    refused("fashion-mnist", tmp_path, "15679 bytes for sizes \\(20, 28, 28\\)")
    images.write_bytes(b"\x1f\x8bnot gzip")
    refused("fashion-mnist", tmp_path, "damaged")
    images.unlink()
    refused("fashion-mnist", tmp_path, "missing: train-images-idx3-ubyte")
