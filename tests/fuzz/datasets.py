"""Files of data sets: IDX, CIFAR's pickles, records and archives, parquet, Tiny ImageNet."""

from __future__ import annotations

import functools
import gzip
import io
import struct
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st
from PIL import Image

from ticketlab.data import cifar, idx, parquet, tiny_imagenet
from ticketlab.data.check import checked
from ticketlab.data.names import DATASETS
from ticketlab.data.types import Data
from ticketlab.data.unpickle import unpickle

from . import pickles, zip_files
from .damage import TEXTS, damaged
from .reader import Reader, file

Tree = Mapping[str, bytes]


def _pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def _write(tree: Tree, folder: Path) -> None:
    for name, content in tree.items():
        path = folder / "from" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _read(layout: ModuleType, name: str, classes: int | None = None) -> Callable[[Path], object]:
    """Reads a data set as `load` does, but from one layout, perhaps of fewer classes."""

    def read(folder: Path) -> bool:
        info = DATASETS[name] if classes is None else replace(DATASETS[name], classes=classes)
        files = layout.find(folder / "from", name)
        if not files:
            return False
        train, test = layout.read(files, name, info)
        checked(Data(name, train, test, info.classes, info.mean, info.std))
        return True

    return read


@st.composite
def _one_damaged(draw: st.DrawFn, tree: Tree, lies: st.SearchStrategy[bytes] | None = None) -> Tree:
    name = draw(st.sampled_from(sorted(tree)))
    if draw(st.integers(0, 19)) == 0:
        return {n: c for n, c in tree.items() if n != name}
    return {**tree, name: draw(damaged(tree[name]) if lies is None or draw(st.booleans()) else lies)}


def _idx_file(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@functools.cache
def _idx() -> Tree:
    images, labels = _pixels(2, 28, 28), np.array([3, 9], np.uint8)
    zipped = gzip.compress(_idx_file(images), mtime=0)
    return {
        idx.NAMES[0] + ".gz": zipped,
        idx.NAMES[1]: _idx_file(labels),
        idx.NAMES[2]: _idx_file(images),
        idx.NAMES[3]: _idx_file(labels),
    }


def _idx_lies() -> st.SearchStrategy[bytes]:
    sizes = st.just([1] * 70) | st.lists(st.sampled_from([0, 1, 2, 28, 2**31, 2**32 - 1]), max_size=6)
    made = st.builds(
        lambda s, n: struct.pack(f">HBB{len(s)}I", 0, 8, len(s), *s) + bytes(n), sizes, st.sampled_from([0, 1, 2, 1568])
    )
    bomb = gzip.compress(bytes(4_000_000), mtime=0)
    return st.one_of(
        made,
        made.map(lambda c: gzip.compress(c, mtime=0)),
        st.sampled_from([bomb, bomb[:50], b"\x1f\x8b", b"", b"\0\0\x08\xff"]),
    )


@functools.cache
def _batches() -> Tree:
    images = _pixels(2, 3072)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    return {name: pickles.batch(images, [0, 9], 2 + i % 4) for i, name in enumerate(names)}


@functools.cache
def _records() -> Tree:
    rows = np.concatenate([np.array([[3], [4]], np.uint8), _pixels(2, 3072)], axis=1).tobytes()
    return {f"{name}.bin": rows for name in _batches()}


def _tar(tree: Tree, kinds: Mapping[str, bytes] | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in tree.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if kinds and name in kinds:
                member.type, member.linkname, member.size = kinds[name], "/etc/passwd", 0
                content = b""
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


@st.composite
def _tars(draw: st.DrawFn) -> Tree:
    tree: dict[str, bytes] = {f"cifar-10-batches-py/{n}": c for n, c in _batches().items()}
    kinds: dict[str, bytes] = {}
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from(sorted(tree)))
        how = draw(st.integers(0, 3))
        if how == 0:
            kinds[name] = draw(
                st.sampled_from([tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
            )
        elif how == 1:
            tree[draw(st.sampled_from(["../", "/tmp/", "a/" * 60])) + name.rpartition("/")[2]] = tree.pop(name)
        else:
            tree[name] = draw(pickles.lying())
    content = _tar(tree, kinds)
    zipped = gzip.compress(content, 1, mtime=0) if draw(st.booleans()) else content
    return {"cifar-10-python.tar.gz": draw(damaged(zipped, 2)) if draw(st.booleans()) else zipped}


def _picture(size: tuple[int, int] = (32, 32), kind: str = "PNG", mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.fromarray(_pixels(size[1], size[0], 3)).convert(mode).save(out, kind)
    return out.getvalue()


def _shard(pictures: list[bytes | None], labels: list[object], image: str = "img") -> bytes:
    out = io.BytesIO()
    kinds = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = pa.array([None if p is None else {"bytes": p, "path": "../x.png"} for p in pictures], kinds)
    pq.write_table(pa.table({image: rows, "label": pa.array(labels)}), out)
    return out.getvalue()


@functools.cache
def _parquet() -> Tree:
    shard = _shard([_picture(), _picture()], [0, 9])
    return {"train-00000-of-00001.parquet": shard, "test-00000-of-00001.parquet": shard}


def _png_of(width: int, height: int) -> bytes:
    """A picture that says that it is so large."""
    from zlib import crc32

    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", crc32(head)) + b"\0\0\0\0IEND\xaeB`\x82"
    )


_EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n(%pipe%true) (w) file\nshowpage\n%%EOF\n"


@functools.cache
def _pictures() -> list[bytes]:
    kinds = [_picture(kind=k) for k in ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "ICO", "TGA")]
    return [
        *kinds,
        _EPS,
        _png_of(32, 32),
        _png_of(30_000, 30_000),
        _png_of(2**31 - 1, 2**31 - 1),
        _picture((16, 16)),
        _picture(mode="L"),
        b"",
    ]


@functools.cache
def _made_shards() -> list[bytes]:
    """Shards that are whole, with other columns, types and labels."""
    good = _picture()
    others: list[list[object]] = [["a"], [None], [1.5], [-1], [2**40], [[1]], [b"x"], [True]]
    tables = [
        pa.table({"img": [good], "label": [0]}),
        pa.table({"img": [{"x": 1}], "label": [0]}),
        pa.table({"label": [0]}),
        pa.table({"img": [], "label": []}),
    ]
    tables += [
        pa.table({"img": [{"bytes": "text", "path": ""}], "label": [0]}),
        pa.table({"img": [{"bytes": [1], "path": ""}], "label": [0]}),
    ]
    found = [_shard([good], labels) for labels in others] + [_shard([None], [0]), _shard([], [])]
    for table in tables:
        out = io.BytesIO()
        pq.write_table(table, out)
        found.append(out.getvalue())
    return found


def _shards() -> st.SearchStrategy[bytes]:
    one = st.one_of(st.sampled_from(_pictures()), damaged(_picture(), 2), damaged(_picture(kind="WEBP"), 2))
    return st.one_of(one.map(lambda p: _shard([p], [0])), st.sampled_from(_made_shards()))


@functools.cache
def _tiny() -> Tree:
    picture = _picture((64, 64), "JPEG")
    names = ["train/n1/images/n1_0.JPEG", "train/n2/images/n2_0.JPEG", "val/images/val_0.JPEG", "val/images/val_1.JPEG"]
    lists = {
        "wnids.txt": b"n1\nn2\n",
        "val/val_annotations.txt": b"val_0.JPEG\tn1\t0\t0\t1\t1\nval_1.JPEG\tn2\t0\t0\t1\t1\n",
    }
    return {**dict.fromkeys(names, picture), **lists}


def _tiny_lies() -> st.SearchStrategy[bytes]:
    texts = st.lists(
        st.one_of(st.sampled_from([t.encode("utf-8", "replace") for t in TEXTS]), st.binary(max_size=9)), max_size=4
    ).map(b"\n".join)
    return st.one_of(st.sampled_from(_pictures()), texts, damaged(_picture((64, 64), "JPEG"), 3))


def _tiny_zip() -> st.SearchStrategy[Tree]:
    inside = {f"tiny-imagenet-200/{n}": c for n, c in _tiny().items()}
    made = st.one_of(zip_files.lying(inside), _one_damaged(inside, _tiny_lies()).flatmap(zip_files.lying))
    return made.map(lambda content: {"tiny-imagenet-200.zip": content})


def _read_pickle(folder: Path) -> None:
    value = unpickle((folder / "x.pkl").read_bytes(), "x.pkl")
    for part in value.values() if isinstance(value, dict) else [value]:
        if isinstance(part, np.ndarray):
            # Looked at, every byte: a forged type would show here.
            assert part.dtype.kind in "biuf" and not part.dtype.hasobject
            np.asarray(part, np.float64).sum()


READERS = [
    Reader(
        "pickle",
        lambda: pickles.batch(_pixels(2, 3072), [0, 9]),
        lambda: st.one_of(
            pickles.lying(), pickles.lying(), damaged(pickles.batch(_pixels(1, 12), [0])), st.binary(max_size=40)
        ),
        file("x.pkl"),
        _read_pickle,
        6,
    ),
    Reader("idx", _idx, lambda: _one_damaged(_idx(), _idx_lies()), _write, _read(idx, "fashion-mnist"), 1),
    Reader(
        "cifar pickles", _batches, lambda: _one_damaged(_batches(), pickles.lying()), _write, _read(cifar, "cifar10"), 1
    ),
    Reader("cifar records", _records, lambda: _one_damaged(_records()), _write, _read(cifar, "cifar10"), 0.5),
    Reader(
        "cifar archive",
        lambda: {"cifar-10-python.tar.gz": gzip.compress(_tar(_batches()), mtime=0)},
        _tars,
        _write,
        _read(cifar, "cifar10"),
        1,
    ),
    Reader("parquet", _parquet, lambda: _one_damaged(_parquet(), _shards()), _write, _read(parquet, "cifar10"), 1),
    Reader(
        "tiny imagenet",
        _tiny,
        lambda: _one_damaged(_tiny(), _tiny_lies()),
        _write,
        _read(tiny_imagenet, "tiny-imagenet", 2),
        0.5,
    ),
    Reader(
        "tiny imagenet archive",
        lambda: {
            "tiny-imagenet-200.zip": zip_files.packed([zip_files.Entry(n.encode(), c) for n, c in _tiny().items()])
        },
        _tiny_zip,
        _write,
        _read(tiny_imagenet, "tiny-imagenet", 2),
        0.5,
    ),
]
