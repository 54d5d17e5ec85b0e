"""Tiny ImageNet: the official archive or its contents, with the validation pictures as packed or moved to classes.

The validation set is the test set here: the labels of the official test pictures were never published.
"""

from __future__ import annotations

import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np
import torch

from ticketlab.data import cache
from ticketlab.data.names import DatasetInfo
from ticketlab.data.optional import optional
from ticketlab.data.types import Split
from ticketlab.errors import InputError

LOOKS_LIKE = "tiny-imagenet-200.zip, or train with val (pictures in class folders, or val/images with annotations)"
_TOP = "tiny-imagenet-200"
_CLASSES = "wnids.txt"
_ANNOTATIONS = "val/val_annotations.txt"
_PICTURE = re.compile(r"(train|val)/([^/.][^/]*)/(?:images/)?([^/.][^/]*\.(?i:jpe?g))")
# What zipfile raises on headers that lie. RuntimeError: also what is encrypted, or of a kind that it does not know.
_LIES = (RuntimeError, ValueError, OverflowError, struct.error)
_LARGEST = 1 << 20  # bytes of one file: the official pictures take 2 kB, the annotations 0.4 MB


@dataclass(frozen=True)
class _Files:
    """What a folder or an archive holds, by its path therein."""

    where: str
    names: frozenset[str]
    open: Callable[[str], IO[bytes]]

    def content(self, name: str) -> bytes:
        try:
            with self.open(name) as stream:
                content = stream.read(_LARGEST + 1)
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, *_LIES) as error:
            raise InputError(f"asked for {self.where}/{name:.200}, got: {error!s:.200}") from error
        if len(content) > _LARGEST:
            raise InputError(f"asked for at most {_LARGEST} bytes in {self.where}/{name:.200}, got more")
        return content

    def text(self, name: str) -> list[str]:
        return self.content(name).decode(errors="replace").splitlines()


@dataclass(frozen=True, order=True)
class _Picture:
    """A labelled picture. They are sorted by class, then by name: alike in every layout."""

    wnid: str
    file: str
    path: str


def find(folder: Path, name: str) -> tuple[Path, ...]:
    """The folders of pictures and the lists in `folder`, `train` first, else the archive; empty if neither is there."""
    tops = (folder / "train", folder / "val")
    if all(top.is_dir() for top in tops):
        children = sorted(path for top in tops for path in top.iterdir() if path.is_dir())
        inner = (path / "images" for path in children if (path / "images").is_dir())
        lists = (path for path in (folder / _CLASSES, folder / _ANNOTATIONS) if path.is_file())
        return (*tops, *children, *inner, *lists)
    archive = folder / f"{_TOP}.zip"
    return (archive,) if archive.is_file() else ()


def read(files: tuple[Path, ...], name: str, info: DatasetInfo) -> tuple[Split, Split]:
    """(train, validation). Raises InputError for missing or unknown classes and for damaged or other pictures.

    Decoding takes half a minute, so it is cached, by the time of the folders and not of the 110,000 pictures: to ask
    for those takes minutes on a network disk. Pictures added, removed, renamed or replaced (as unzip and rsync do)
    change their folder; only one that is overwritten in place goes unnoticed.
    """
    return cache.cached(name, files, partial(_read, files, info))


def _read(files: tuple[Path, ...], info: DatasetInfo) -> tuple[Split, Split]:
    optional("PIL.Image")
    with _opened(files) as held:
        classes = _classes(held, info)
        parts = [_pictures(held, part, classes) for part in ("train", "val")]
        train, val = (_split(held, pictures, classes, info) for pictures in parts)
    return train, val


@contextmanager
def _opened(files: tuple[Path, ...]) -> Iterator[_Files]:
    if files[0].suffix != ".zip":
        root = files[0].parent
        paths = (child for path in files for child in (path.iterdir() if path.is_dir() else (path,)))
        names = frozenset(path.relative_to(root).as_posix() for path in paths)
        yield _Files(str(root), names, lambda name: (root / name).open("rb"))
        return
    try:
        archive = zipfile.ZipFile(files[0])
    except (OSError, zipfile.BadZipFile, *_LIES) as error:
        raise InputError(f"asked for the archive {files[0]}, got a damaged file: {error}") from error
    with archive:
        members = {name.removeprefix(f"{_TOP}/"): name for name in archive.namelist()}
        yield _Files(str(files[0]), frozenset(members), lambda name: archive.open(members[name]))


def _classes(held: _Files, info: DatasetInfo) -> dict[str, int]:
    """The number of each class: its place among the sorted names, whatever the order of list and folders."""
    if _CLASSES in held.names:
        where, wnids = f"{held.where}/{_CLASSES}", {line.strip() for line in held.text(_CLASSES)} - {""}
    else:
        found = map(_PICTURE.fullmatch, held.names)
        where, wnids = f"{held.where}/train", {match[2] for match in found if match and match[1] == "train"}
    if len(wnids) != info.classes:
        raise InputError(f"asked {where} for {info.classes} classes, got {len(wnids)}")
    return {wnid: number for number, wnid in enumerate(sorted(wnids))}


def _pictures(held: _Files, part: str, classes: dict[str, int]) -> list[_Picture]:
    """The pictures of `train` or `val`; the class of those in val/images is in the annotations."""
    matches = [match for match in map(_PICTURE.fullmatch, held.names) if match and match[1] == part]
    loose = {match[3] for match in matches if part == "val" and match[2] == "images"}
    wnids = _annotated(held, loose) if loose else {}
    pictures = sorted(
        _Picture(wnids[match[3]] if loose and match[2] == "images" else match[2], match[3], match[0])
        for match in matches
    )
    for one, other in pairwise(pictures):
        if (one.wnid, one.file) == (other.wnid, other.file):
            raise InputError(f"asked {held.where} for every picture once, got {one.path:.200} and {other.path:.200}")
    for picture in pictures:
        if picture.wnid not in classes:
            raise InputError(
                f"asked {held.where} for pictures of its {len(classes)} classes, "
                f"got {picture.path:.200} of class {picture.wnid!r:.100}"
            )
    if empty := sorted(classes.keys() - {picture.wnid for picture in pictures}):
        more = f" and {len(empty) - 3} more" if len(empty) > 3 else ""
        raise InputError(
            f"asked {held.where}/{part} for pictures of all {len(classes)} classes, "
            f"got none of {', '.join(empty[:3]):.200}{more}"
        )
    return pictures


def _annotated(held: _Files, loose: set[str]) -> dict[str, str]:
    """The class of every picture in val/images."""
    where = f"{held.where}/{_ANNOTATIONS}"
    if _ANNOTATIONS not in held.names:
        raise InputError(f"asked for {where}, got {len(loose)} pictures in val/images and no such file")
    wnids: dict[str, str] = {}
    for number, line in enumerate(held.text(_ANNOTATIONS), start=1):
        file, *rest = line.split("\t")
        if not rest or file not in loose or file in wnids:
            raise InputError(
                f"asked {where}, line {number}, for a picture of val/images not named before, a tab and its class; "
                f"got {line!r:.200}"
            )
        wnids[file] = rest[0].strip()
    if missing := sorted(loose - wnids.keys()):
        raise InputError(f"asked {where} for the class of every picture in val/images, got none for {missing[0]:.200}")
    return wnids


def _split(held: _Files, pictures: list[_Picture], classes: dict[str, int], info: DatasetInfo) -> Split:
    # Threads gain next to nothing: most of the time goes into opening such small pictures, one at a time in Python.
    inputs = np.empty((len(pictures), *info.shape), np.uint8)
    for row, picture in enumerate(pictures):
        inputs[row] = _decoded(held, picture.path, info)
    targets = torch.tensor([classes[picture.wnid] for picture in pictures])
    return Split(torch.from_numpy(inputs), targets)


def _decoded(held: _Files, path: str, info: DatasetInfo) -> np.ndarray:
    """The picture as (C, H, W); grey ones become RGB."""
    content, where, pillow = held.content(path), f"{held.where}/{path:.200}", optional("PIL.Image")
    _, height, width = info.shape
    try:
        with pillow.open(BytesIO(content), formats=("JPEG", "PNG")) as image:
            if image.size == (width, height):  # as the header says: nothing larger is ever decoded
                return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as error:
        raise InputError(f"asked for a picture in {where}, got something else: {error}") from error
    raise InputError(f"asked for a picture of {width}x{height} in {where}, got {image.width}x{image.height}")
