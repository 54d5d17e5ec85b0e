"""Where a data set's files lie: in a folder of any usual layout, found by what the folder holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

from ticketlab.data import cifar, idx, parquet, tiny_imagenet
from ticketlab.data.names import DATASETS
from ticketlab.data.types import Split
from ticketlab.errors import InputError

# The layouts of each data set, and what they look like.
_LAYOUTS: dict[str, dict[ModuleType, str]] = {
    "cifar10": {parquet: parquet.LOOKS_LIKE, cifar: cifar.LOOKS_LIKE["cifar10"]},
    "cifar100": {parquet: parquet.LOOKS_LIKE, cifar: cifar.LOOKS_LIKE["cifar100"]},
    "fashion-mnist": {parquet: parquet.LOOKS_LIKE, idx: idx.LOOKS_LIKE},
    "tiny-imagenet": {tiny_imagenet: tiny_imagenet.LOOKS_LIKE},
}


@dataclass(frozen=True)
class Source:
    """The files of one data set, and how to read them."""

    files: tuple[Path, ...]
    read: Callable[[], tuple[Split, Split]]


def find(folder: Path, name: str) -> Source | None:
    """The data set `name` in `folder` or its usual sub-folders; None if no known layout is there."""
    info = DATASETS[name]
    for place in _places(folder, name):
        for layout in _LAYOUTS[name]:
            if files := layout.find(place, name):
                return Source(files, partial(layout.read, files, name, info))
    return None


def not_found(folder: Path, name: str) -> InputError:
    """What was looked for in `folder`, and what is there instead."""
    if folder.is_dir():
        names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
        more = f", and {len(names) - 8} more" if len(names) > 8 else ""
        found = f"holds {', '.join(names[:8]) or 'nothing'}{more}"
    else:
        found = "is a file" if folder.exists() else "does not exist"
    return InputError(
        f"asked for data set {name!r} in {folder}, which {found}. "
        f"Looked there and in its sub-folders for {'; or '.join(_LAYOUTS[name].values())}"
    )


def _places(folder: Path, name: str, depth: int = 3) -> Iterator[Path]:
    """`folder`, then those of its sub-folders that are named as data sets are usually packed."""
    own = _plain(name)
    usual = {own + end for end in ("", "200", "batchespy", "batchesbin", "python", "binary")} | {
        "plaintext",
        "data",
        "raw",
    }
    if folder.is_dir():
        yield folder
        for child in sorted(folder.iterdir()) if depth else ():
            if child.is_dir() and _plain(child.name) in usual:
                yield from _places(child, name, depth - 1)


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())
