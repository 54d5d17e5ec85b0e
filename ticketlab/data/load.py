"""A data set by name: find its files, read them, check them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ticketlab.data import cache, files
from ticketlab.data.batches import rank_in_class
from ticketlab.data.check import checked
from ticketlab.data.digits import digits
from ticketlab.data.download import download
from ticketlab.data.names import DATASETS
from ticketlab.data.types import Augment, Data, Split
from ticketlab.errors import InputError, unknown

_SYSTEM = Path("/usr/share/datasets")


def load(
    name: str,
    data_dir: str | Path | None = None,
    limit_train: int | None = None,
    limit_test: int | None = None,
) -> Data:
    """The data set `name` of `names.DATASETS`, on the CPU.

    `data_dir` is a folder with its files in any usual layout (hub parquet, official archives or their
    contents, IDX); nothing is downloaded then. Without it, the files come from the folder named by the
    environment variable TICKETLAB_DATA, the system's data sets, or the official address, in this order.
    `limit_train` and `limit_test` keep that many examples, as equally spread over the classes as can be: the
    first ones of each class, so a smaller limit is a subset of a larger one.

    Raises InputError for an unknown name, a folder for a data set without files, and for data that are missing,
    damaged or not what the name says.
    """
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    if name == "digits" and data_dir is not None:
        raise InputError(
            f"asked for data set {name!r} from the folder {data_dir}, got a data set that has no files (it is inside "
            "scikit-learn). Leave the folder out."
        )
    info = DATASETS[name]
    train, test = digits() if name == "digits" else _read(name, data_dir)
    whole = Data(name, train, test, info.classes, info.mean, info.std, Augment(info.pad, info.flip))
    return limited(checked(whole), limit_train, limit_test)


def limited(data: Data, train: int | None, test: int | None) -> Data:
    """The same data with at most so many training and test examples, class-balanced, in stored order."""
    return replace(data, train=_first(data.train, train), test=_first(data.test, test))


def _first(split: Split, limit: int | None) -> Split:
    if limit is None:
        return split
    if limit < 1:
        raise InputError(f"asked to keep {limit} of {len(split)} examples; at least one is needed")
    targets = split.targets
    turn = rank_in_class(targets) * (targets.max() + 1) + targets
    return split.take(turn.argsort()[:limit].sort().values)


def _read(name: str, data_dir: str | Path | None) -> tuple[Split, Split]:
    source = _source(name, None if data_dir is None else Path(data_dir).expanduser())
    slow = any(path.suffix in (".parquet", ".gz") for path in source.files)
    return cache.cached(name, source.files, source.read) if slow else source.read()


def _source(name: str, asked: Path | None) -> files.Source:
    variable = os.environ.get("TICKETLAB_DATA")
    named = asked or (Path(variable).expanduser() if variable else None)
    if named and (asked or not named.is_dir()):
        if source := files.find(named, name):
            return source
        raise files.not_found(named, name)
    for folder in (named, _SYSTEM / name):
        if folder and (source := files.find(folder, name)):
            return source
    place = download(name)
    if source := files.find(place, name):
        return source
    raise files.not_found(place, name)
