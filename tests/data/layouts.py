"""Writes small data sets in each layout that the loader knows."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Arrays = tuple[np.ndarray, np.ndarray]


def examples(count: int, classes: int, shape: tuple[int, int, int], seed: int) -> Arrays:
    """uint8 images (N, C, H, W) and labels in which every class occurs."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, *shape)).astype(np.uint8)
    return images, rng.permutation(np.arange(count) % classes)


def parquet(folder: Path, train: Arrays, test: Arrays, image: str, label: str, kind: str, shards: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _shard(folder / "test-00000-of-00001.parquet", test, image, label, kind)
    cuts = [np.array_split(part, shards) for part in train]
    for i in range(shards):
        path = folder / f"train-{i:05}-of-{shards:05}.parquet"
        _shard(path, (cuts[0][i], cuts[1][i]), image, label, kind)


def _shard(path: Path, part: Arrays, image: str, label: str, kind: str) -> None:
    pictures = []
    for picture in part[0]:
        stream = io.BytesIO()
        pixels = picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0)
        Image.fromarray(pixels).save(stream, kind, **({"lossless": True} if kind == "WEBP" else {}))
        pictures.append({"bytes": stream.getvalue(), "path": "x.png"})
    kinds = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = {image: pa.array(pictures, kinds), label: pa.array(part[1])}
    if label == "fine_label":
        table["coarse_label"] = pa.array(part[1] // 5)
    pq.write_table(pa.table(table), path, row_group_size=7)


def cifar_batches(name: str, train: Arrays, test: Arrays) -> dict[str, Arrays]:
    if name == "cifar100":
        return {"train": train, "test": test}
    cuts = [np.array_split(part, 5) for part in train]
    return {f"data_batch_{i + 1}": (cuts[0][i], cuts[1][i]) for i in range(5)} | {"test_batch": test}


def cifar_pickles(folder: Path, name: str, train: Arrays, test: Arrays, protocol: int = 2) -> None:
    """As the official files: bytes for keys, pixels (N, 3072), a list of labels."""
    folder.mkdir(parents=True, exist_ok=True)
    label = b"labels" if name == "cifar10" else b"fine_labels"
    for batch, (images, labels) in cifar_batches(name, train, test).items():
        content = {b"batch_label": batch.encode(), b"data": images.reshape(len(images), -1), label: labels.tolist()}
        (folder / batch).write_bytes(pickle.dumps(content, protocol))


def cifar_records(folder: Path, name: str, train: Arrays, test: Arrays) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for batch, (images, labels) in cifar_batches(name, train, test).items():
        columns = [labels[:, None]] if name == "cifar10" else [labels[:, None] // 5, labels[:, None]]
        records = np.concatenate([*columns, images.reshape(len(images), -1)], axis=1)
        (folder / f"{batch}.bin").write_bytes(records.astype(np.uint8).tobytes())


def archive(path: Path, folder: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)


def idx(folder: Path, train: Arrays, test: Arrays, zipped: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, (images, labels) in (("train", train), ("t10k", test)):
        for what, array in (("images-idx3-ubyte", images[:, 0]), ("labels-idx1-ubyte", labels)):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            content = header + array.astype(np.uint8).tobytes()
            path = folder / f"{part}-{what}{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(content) if zipped else content)


def tiny_pictures(classes: int = 200, train: int = 2, val: int = 1) -> dict[str, bytes]:
    """Tiny ImageNet as the official archive holds it: contents by path. The validation classes come in no order."""
    rng = np.random.default_rng(0)
    wnids = [f"n{number:08}" for number in rng.permutation(classes) * 7]
    contents = {"wnids.txt": "\n".join(wnids).encode() + b"\n"}
    lines = []
    for turn, wnid in enumerate(wnids):
        contents[f"train/{wnid}/{wnid}_boxes.txt"] = b""
        for i in range(train):
            contents[f"train/{wnid}/images/{wnid}_{i}.JPEG"] = jpeg(rng)
        for i in range(val):
            file = f"val_{i * classes + turn}.JPEG"
            contents[f"val/images/{file}"] = jpeg(rng)
            lines.append(f"{file}\t{wnid}\t0\t32\t44\t62\n")
    return contents | {"val/val_annotations.txt": "".join(lines).encode()}


def jpeg(rng: np.random.Generator, size: tuple[int, ...] = (64, 64, 3), kind: str = "JPEG") -> bytes:
    """A picture with something to see: noise alone would test JPEG rather than us."""
    stream = io.BytesIO()
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, *size[2:])).astype(np.uint8))
    coarse.resize((size[1], size[0])).save(stream, kind)
    return stream.getvalue()


def tree(folder: Path, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def zipped(path: Path, contents: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
