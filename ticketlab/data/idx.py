"""IDX files, the format of MNIST and Fashion-MNIST (LeCun, Cortes & Burges 1998), plain or gzipped."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from ticketlab.data.names import DatasetInfo
from ticketlab.data.types import Split
from ticketlab.errors import InputError

NAMES = tuple(f"{part}-{what}" for part in ("train", "t10k") for what in ("images-idx3-ubyte", "labels-idx1-ubyte"))
_LARGEST = 1 << 28  # bytes: the official pictures take 47 MB
LOOKS_LIKE = f"{', '.join(NAMES)}, each plain or .gz"


def find(folder: Path, name: str) -> tuple[Path, ...]:
    """The four files in `folder`, in the order of NAMES; empty if none is there."""
    paths = [next((p for p in (folder / n, folder / f"{n}.gz") if p.is_file()), None) for n in NAMES]
    present = tuple(path for path in paths if path)
    if present and len(present) < 4:
        missing = [n for n, path in zip(NAMES, paths, strict=True) if path is None]
        raise InputError(f"asked {folder} for {', '.join(NAMES)}; missing: {', '.join(missing)}")
    return present


def read(files: tuple[Path, ...], name: str, info: DatasetInfo) -> tuple[Split, Split]:
    """(train, test). Raises InputError for a damaged file and for other sizes than the data set's."""
    train_images, train_labels, test_images, test_labels = (_array(path) for path in files)
    return (
        _split(train_images, train_labels, files[0], info),
        _split(test_images, test_labels, files[2], info),
    )


def _split(images: np.ndarray, labels: np.ndarray, where: Path, info: DatasetInfo) -> Split:
    if images.shape[1:] != info.shape[1:] or labels.shape != images.shape[:1]:
        raise InputError(
            f"asked {where} for pictures of {info.shape[1]}x{info.shape[2]} with one label each, "
            f"got pictures {images.shape} and labels {labels.shape}"
        )
    return Split(torch.from_numpy(images.copy()).unsqueeze(1), torch.from_numpy(labels.astype(np.int64)))


def _array(path: Path) -> np.ndarray:
    """An IDX file holds two zeros, the type (8: bytes), the number of dimensions, their sizes, the values."""
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.GzipFile(fileobj=BytesIO(content)).read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ValueError(f"it holds more than {_LARGEST} bytes")
        zeros, kind, ndim = struct.unpack_from(">HBB", content)
        if ndim > 3:
            raise ValueError(f"{ndim} dimensions")
        shape = struct.unpack_from(f">{ndim}I", content, 4)
        body = np.frombuffer(content, np.uint8, offset=4 + 4 * ndim)
    except (OSError, EOFError, zlib.error, struct.error, ValueError) as error:
        raise InputError(f"asked for the IDX file {path}, got a damaged file: {error}") from error
    if (zeros, kind) != (0, 8) or math.prod(shape) != len(body):
        raise InputError(
            f"asked for the IDX file {path} of unsigned bytes, got type {kind} with {len(body)} bytes for sizes {shape}"
        )
    # Sizes beside a zero may be too large for an array, and hold nothing.
    return body.reshape(shape if len(body) else (0,) * ndim)
