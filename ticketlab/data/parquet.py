"""Images in parquet files, as the Hugging Face hub stores them."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from ticketlab.data.names import DatasetInfo
from ticketlab.data.optional import optional
from ticketlab.data.types import Split
from ticketlab.errors import InputError

LOOKS_LIKE = "train*.parquet and test*.parquet (or train/*.parquet and test/*.parquet)"
# No others: some formats are programs (EPS), which Pillow gives to ghostscript.
_FORMATS = ("PNG", "JPEG", "WEBP")
_SHARD = re.compile(r"-(\d+)-of-(\d+)")


def find(folder: Path, name: str) -> tuple[Path, ...]:
    """The shards of both splits in `folder`, training first; empty if a split is missing."""
    found = [
        sorted(folder.glob(f"{part}*.parquet")) or sorted(folder.glob(f"{part}/*.parquet"))
        for part in ("train", "test")
    ]
    return (*found[0], *found[1]) if all(found) else ()


def read(files: tuple[Path, ...], name: str, info: DatasetInfo) -> tuple[Split, Split]:
    """(train, test). Raises InputError for missing shards, other columns or other pictures."""
    train = tuple(path for path in files if _part(path) == "train")
    test = tuple(path for path in files if _part(path) == "test")
    return _split(train, name, info), _split(test, name, info)


def _part(path: Path) -> str:
    own = next((part for part in ("train", "test") if path.name.startswith(part)), None)
    return own or path.parent.name


def _split(files: tuple[Path, ...], name: str, info: DatasetInfo) -> Split:
    shards = [match for path in files if (match := _SHARD.search(path.name))]
    if shards and (total := int(shards[0][2])) != len(shards):
        missing = sorted(set(range(total)) - {int(match[1]) for match in shards})
        raise InputError(
            f"asked for all {total} shards like {files[0]}, got {len(shards)}; missing: {str(missing)[1:-1]}"
        )
    parts = [_shard(path, name, info) for path in files]
    return Split(torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts]))


def _shard(path: Path, name: str, info: DatasetInfo) -> tuple[torch.Tensor, torch.Tensor]:
    pyarrow, pq = optional("pyarrow"), optional("pyarrow.parquet")
    optional("PIL.Image")
    try:
        with pq.ParquetFile(path) as file:
            columns = file.schema_arrow.names
            image = next((c for c in ("img", "image") if c in columns), None)
            label = "fine_label" if name == "cifar100" and "fine_label" in columns else "label"
            if image is None or label not in columns:
                raise InputError(f"asked {path} for the columns img or image, and {label}; got {', '.join(columns)}")
            table = file.read(columns=[image, label])
        if not pyarrow.types.is_integer(kind := table.schema.field(label).type) or table[label].null_count:
            raise InputError(f"asked {path} for a whole number as the {label} of every row, got {kind} or nothing")
        pictures = table[image].combine_chunks().field("bytes").to_pylist()
        targets = torch.from_numpy(table[label].to_numpy().astype(np.int64))
    except (pyarrow.ArrowException, OSError, LookupError, AttributeError, ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"asked for images in {path}, got an unreadable file: {error}") from error
    channels, height, width = info.shape
    inputs = np.empty((len(pictures), height, width, channels), np.uint8)
    for row, picture in enumerate(pictures):
        inputs[row] = _decoded(picture, info, f"{path}, row {row}")
    return torch.from_numpy(np.ascontiguousarray(inputs.transpose(0, 3, 1, 2))), targets


def _decoded(picture: bytes | None, info: DatasetInfo, where: str) -> np.ndarray:
    channels, height, width = info.shape
    mode, pillow = "RGB" if channels == 3 else "L", optional("PIL.Image")
    try:
        with pillow.open(BytesIO(picture or b""), formats=_FORMATS) as image:
            if (image.mode, image.size) != (mode, (width, height)):
                raise InputError(
                    f"asked for {mode} pictures of {width}x{height} in {where}, "
                    f"got {image.mode} {image.width}x{image.height}"
                )
            return np.asarray(image).reshape(height, width, channels)
    except (OSError, SyntaxError, ValueError, TypeError, pillow.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"asked for a picture in {where}, got something else: {error}") from error
