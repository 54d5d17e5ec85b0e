"""Every data set, from every layout, comes out as the arrays that went in."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ticketlab.data import cache, download
from ticketlab.data.load import load
from ticketlab.data.names import DATASETS
from ticketlab.errors import InputError

from . import layouts
from .layouts import Arrays, archive, cifar_pickles, cifar_records, examples, idx, parquet

REAL = os.environ.get("TICKETLAB_DATA")
COUNTS = {"cifar10": (40, 20), "cifar100": (200, 100), "fashion-mnist": (30, 20)}
Writer = Callable[[Path, Arrays, Arrays], None]


def made(name: str) -> tuple[Arrays, Arrays]:
    info, (train, test) = DATASETS[name], COUNTS[name]
    return examples(train, info.classes, info.shape, 0), examples(test, info.classes, info.shape, 1)


def tar(name: str, version: str, write: Callable[..., None]) -> Writer:
    kind = name.replace("cifar", "cifar-")

    def writer(folder: Path, train: Arrays, test: Arrays) -> None:
        write(folder.parent / "unpacked", name, train, test)
        archive(folder / f"{kind}-{version}.tar.gz", folder.parent / "unpacked")

    return writer


LAYOUTS: dict[str, tuple[str, Writer]] = {
    "hub, WebP": ("cifar10", lambda f, a, b: parquet(f, a, b, "img", "label", "WEBP", 4)),
    "hub, PNG, plain_text": ("cifar10", lambda f, a, b: parquet(f / "plain_text", a, b, "img", "label", "PNG", 1)),
    "hub, named": ("cifar10", lambda f, a, b: parquet(f / "cifar10/data", a, b, "image", "label", "PNG", 2)),
    "hub, fine": ("cifar100", lambda f, a, b: parquet(f / "cifar100", a, b, "img", "fine_label", "PNG", 1)),
    "hub, label": ("cifar100", lambda f, a, b: parquet(f, a, b, "img", "label", "WEBP", 1)),
    "hub, grey": ("fashion-mnist", lambda f, a, b: parquet(f / "fashion_mnist", a, b, "image", "label", "PNG", 1)),
    "tar, 10": ("cifar10", tar("cifar10", "python", cifar_pickles)),
    "tar, 100": ("cifar100", tar("cifar100", "python", cifar_pickles)),
    "tar, binary": ("cifar10", tar("cifar10", "binary", cifar_records)),
    "pickles": ("cifar10", lambda f, a, b: cifar_pickles(f, "cifar10", a, b)),
    "pickles, torchvision": ("cifar10", lambda f, a, b: cifar_pickles(f / "cifar-10-batches-py", "cifar10", a, b)),
    "pickles, 100": ("cifar100", lambda f, a, b: cifar_pickles(f / "cifar-100-python", "cifar100", a, b)),
    "pickles, new protocol": ("cifar10", lambda f, a, b: cifar_pickles(f, "cifar10", a, b, protocol=5)),
    "binary": ("cifar10", lambda f, a, b: cifar_records(f / "cifar-10-batches-bin", "cifar10", a, b)),
    "binary, 100": ("cifar100", lambda f, a, b: cifar_records(f / "cifar-100-binary", "cifar100", a, b)),
    "idx": ("fashion-mnist", lambda f, a, b: idx(f, a, b, zipped=False)),
    "idx, zipped": ("fashion-mnist", lambda f, a, b: idx(f, a, b, zipped=True)),
    "idx, torchvision": ("fashion-mnist", lambda f, a, b: idx(f / "FashionMNIST/raw", a, b, zipped=False)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout: str, tmp_path: Path) -> None:
    name, write = LAYOUTS[layout]
    train, test = made(name)
    folder = tmp_path / "given"
    folder.mkdir()
    write(folder, train, test)
    first, second = load(name, folder), load(name, str(folder))
    for data in (first, second):
        for split, (images, labels) in ((data.train, train), (data.test, test)):
            assert split.inputs.dtype == torch.uint8 and split.targets.dtype == torch.int64
            np.testing.assert_array_equal(split.inputs.numpy(), images)
            np.testing.assert_array_equal(split.targets.numpy(), labels)
    assert first.in_shape == DATASETS[name].shape
    assert first.fingerprint == second.fingerprint


def test_variable_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = made("fashion-mnist")
    idx(tmp_path / "all" / "fashion-mnist", train, test, zipped=True)
    monkeypatch.setenv("TICKETLAB_DATA", str(tmp_path / "all"))
    assert len(load("fashion-mnist").train) == 30
    monkeypatch.setenv("TICKETLAB_DATA", str(tmp_path / "none"))
    with pytest.raises(InputError, match="none, which does not exist"):
        load("fashion-mnist")


def test_system_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    idx(tmp_path / "system" / "fashion-mnist", *made("fashion-mnist"), zipped=True)
    monkeypatch.setattr("ticketlab.data.load._SYSTEM", tmp_path / "system")
    assert len(load("fashion-mnist").test) == 20


def test_second_load_does_not_decode(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts.parquet(tmp_path / "d", *made("cifar10"), "img", "label", "PNG", 1)
    fresh = load("cifar10", tmp_path / "d")
    assert len(list((own_cache / "decoded").iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr("ticketlab.data.parquet._decoded", None)
        assert load("cifar10", tmp_path / "d").fingerprint == fresh.fingerprint
    (path,) = (own_cache / "decoded").iterdir()
    path.write_bytes(b"damaged")
    assert load("cifar10", tmp_path / "d").fingerprint == fresh.fingerprint
    layouts.parquet(tmp_path / "d", *made("cifar10")[::-1], "img", "label", "PNG", 1)
    assert len(load("cifar10", tmp_path / "d").train) == 20  # other files: other contents


def test_cache_that_cannot_be_written_is_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TICKETLAB_CACHE", str(tmp_path / "file"))
    layouts.parquet(tmp_path / "d", *made("cifar10"), "img", "label", "PNG", 1)
    assert len(load("cifar10", tmp_path / "d").train) == 40


def test_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TICKETLAB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache.folder() == Path("/somewhere/ticketlab")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.folder() == Path.home() / ".cache" / "ticketlab"


@pytest.mark.parametrize("name", sorted(download.FILES))
def test_no_network_says_where_to_put_the_files(name: str, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    import pooch

    def offline(*_: object, **__: object) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr(pooch, "retrieve", offline)
    with pytest.raises(InputError, match=f"no route.*{own_cache / 'downloads' / name}.*TICKETLAB_DATA"):
        load(name)


def test_download_then_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import pooch

    idx(tmp_path / "served", *made("fashion-mnist"), zipped=True)

    def fetch(url: str, known_hash: str, fname: str, path: Path, downloader: object) -> str:
        assert known_hash.startswith("md5:") and url.endswith(fname)
        path.mkdir(parents=True, exist_ok=True)
        return str((tmp_path / "served" / fname).replace(path / fname))

    monkeypatch.setattr(pooch, "retrieve", fetch)
    assert len(load("fashion-mnist").train) == 30


def test_missing_package_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts.parquet(tmp_path, *made("cifar10"), "img", "label", "PNG", 1)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'ticketlab\[data\]'"):
        load("cifar10", tmp_path)


@pytest.mark.skipif(not REAL, reason="TICKETLAB_DATA names no folder with CIFAR")
@pytest.mark.parametrize("name", ["cifar10", pytest.param("cifar100", marks=pytest.mark.slow)])
def test_real_cifar(name: str) -> None:
    """The published means, 5,000 or 500 examples of every class, and a cache that gives the same."""
    data = load(name, REAL)
    assert len(data.train) == 50_000 and len(data.test) == 10_000
    assert data.train.targets.bincount().unique().tolist() == [50_000 // data.classes]
    assert data.chance == 100 / data.classes
    for channel, mean, std in zip(range(3), data.mean, data.std, strict=True):
        values = data.train.inputs[:, channel].float() / 255
        assert (values.mean().item(), values.std().item()) == pytest.approx((mean, std), abs=2e-4)
    assert load(name, REAL).fingerprint == data.fingerprint
