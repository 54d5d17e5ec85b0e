"""Looking after a store: what is in it, whether every byte is as it was written, and what nobody needs any more."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from ticketlab.errors import InputError
from ticketlab.experiment.files import UNFINISHED, LocalFiles
from ticketlab.experiment.identity import digest
from ticketlab.experiment.step import REVISIONS
from ticketlab.experiment.store import (
    CONTENTS,
    DAMAGED,
    ID,
    RESULT,
    STEPS,
    LookingStore,
    Store,
    parsed,
    path_of,
    written,
)

STUDIES = "studies"
# Threads that verify, and how many steps they are given at a time.
_READERS = 4
_AT_ONCE = 256
# A writer that is alive writes; what is older than this was left by one that was killed.
_STALE = 24 * 3600


@dataclass(frozen=True)
class Finding:
    """Something in a store that is not as it was written: its name, and what is wrong with it."""

    name: str
    why: str


@dataclass(frozen=True)
class Verified:
    """What a verification read, and what it found."""

    steps: int
    bytes: int
    findings: tuple[Finding, ...]


def verify(store: Store) -> Verified:
    """Read everything in a store and compare it with the hashes that were written with it. Changes nothing."""
    findings: list[Finding] = []
    steps = size = 0
    folders = store.files.folders(STEPS)
    # Reading and hashing leave Python to other threads: a disk is faster than one core hashes.
    with ThreadPoolExecutor(_READERS) as readers:
        while some := list(islice(folders, _AT_ONCE)):
            for found in readers.map(partial(_verified, store), some):
                steps += 1
                if isinstance(found, Finding):
                    findings.append(found)
                else:
                    size += found
    findings += [*_index(store), *_lists(store)]
    return Verified(steps, size, tuple(findings))


def _verified(store: Store, folder: str) -> int | Finding:
    """The size of a step, or what is wrong with it."""
    try:
        return sum(map(len, whole_step(store, folder).values()))
    except FileNotFoundError as error:
        return Finding(folder, f"{Path(str(error.filename or error)).name} is missing")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return Finding(folder, str(error))


def whole_step(store: Store, folder: str) -> dict[str, bytes]:
    """Everything that a step left, its record last; ValueError where anything differs from what was written."""
    step_id, content = folder.rpartition("/")[2], store.files.get(folder, RESULT)
    record = parsed(step_id, content)
    if written(record) != content:
        raise ValueError(f"{RESULT} was rewritten: equal values in other bytes")
    if folder != path_of(step_id):
        raise ValueError(f"asked for a step's folder, got {folder}")
    # Of this revision of the code or of an earlier one: older results stay whole.
    revisions = range(1, REVISIONS[record["kind"]] + 1)
    if step_id not in [digest([record["kind"], r, record["params"], record["inputs"]]) for r in revisions]:
        raise ValueError("its id is not the hash of what it says it computed")
    if extra := set(store.files.names(folder)) - {RESULT, *record["files"]}:
        raise ValueError(f"{sorted(extra)[0]} does not belong there")
    files = {name: store.files.get(folder, name) for name in record["files"]}
    for name, held in files.items():
        if hashlib.sha256(held).hexdigest() != record["files"][name]:
            raise ValueError(f"{name} is not as it was written")
    if "linked" in record and not store.files.has_folder(path_of(record["linked"])):
        raise ValueError(f"the step that it shares the result of, {record['linked']}, is missing")
    return {**files, RESULT: content}


def _index(store: Store) -> Iterator[Finding]:
    """Entries of the index of contents that lead to nothing, or to another step than theirs."""
    for name in store.files.files(CONTENTS):
        key = name.rpartition("/")[2]
        try:
            step_id = store.files.read(name).decode()
            if not ID.fullmatch(step_id):
                raise ValueError("names no step")
            record = parsed(step_id, store.files.get(path_of(step_id), RESULT))
        except FileNotFoundError:
            yield Finding(name, "names a step that is not there")
        except (OSError, ValueError, RecursionError) as error:
            yield Finding(name, str(error))
        else:
            # Stores of earlier versions do not say what a step's contents were.
            if record.get("content", key) != key:
                yield Finding(name, f"names step {step_id}, which has other contents")


def _lists(store: Store) -> Iterator[Finding]:
    """Lists of what studies need that are not as they were written."""
    for name in store.files.files(STUDIES):
        try:
            _needed(store.files.read(name), name)
        except (InputError, OSError) as error:
            yield Finding(name, str(error))


def register(store: Store, folder: Path, what: str, steps: Iterable[str]) -> None:
    """Write down that a study or a table in ``folder`` needs these steps, so that gc keeps them."""
    name, needed = list_of(folder, what), set(steps)
    # A damaged list is of this very study: what it needs is known anew.
    with suppress(FileNotFoundError, InputError):
        before = _needed(store.files.read(name), name)
        if needed <= before:
            return
        needed |= before
    try:
        store.files.write(name, written({"folder": folder.name, "what": what, "steps": sorted(needed)}))
    except OSError as error:
        raise InputError(f"asked to write {store.place}/{name}, got {error.strerror or error}.") from error


def list_of(folder: Path, what: str) -> str:
    """The name in a store of the list of what the study or table ``what`` in ``folder`` needs."""
    return f"{STUDIES}/{digest([str(folder.resolve()), what])}.json"


def _needed(content: bytes, name: str) -> set[str]:
    try:
        record = json.loads(content)
        record.pop("checksum")
        if written(record) != content or not all(ID.fullmatch(step) for step in record["steps"]):
            raise ValueError("it is not as it was written")
        return set(record["steps"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"asked for the steps that a study needs, got a damaged {name}: {error}.") from error


@dataclass(frozen=True)
class Swept:
    """What gc removed (or would): steps that no study needs, entries of the index, leftovers, and their bytes."""

    steps: tuple[str, ...]
    entries: int
    leftovers: int
    bytes: int
    studies: int


def sweep(store: Store, dry: bool = False) -> Swept:
    """Remove what no registered study needs, and what killed writers left. A study's steps are never touched.

    Raises:
        InputError: the list of a study is damaged: then nothing is removed.
    """
    store = LookingStore(store.files)
    there = list(store.ids())
    # Listed before the lists are read: a study that registers meanwhile needs only what it computes from now on.
    lists, needed = _all_needed(store)
    # Without any list there is no telling what is needed: all of it may be.
    unneeded = [i for i in there if i not in needed] if lists else []
    if unneeded and not dry:
        # Looked at again at the last moment: a study may have begun that found these steps finished.
        needed = _all_needed(store)[1]
        unneeded = [i for i in unneeded if i not in needed]
    size = 0
    for step_id in unneeded:
        size += _size(store, path_of(step_id))
        if not dry:
            store.files.remove_folder(path_of(step_id))
            store.forget(step_id)
    gone, entries = set(unneeded), 0
    for name in list(store.files.files(CONTENTS)):
        with suppress(OSError, ValueError):
            if store.files.read(name).decode() in gone:
                entries += 1
                if not dry:
                    store.files.remove(name)
    leftovers, freed = _leftovers(store, dry)
    return Swept(tuple(unneeded), entries, leftovers, size + freed, lists)


def _all_needed(store: Store) -> tuple[int, set[str]]:
    """How many lists there are, and the steps on them with those whose results they share."""
    try:
        lists = [_needed(store.files.read(name), name) for name in store.files.files(STUDIES)]
    except OSError as error:
        raise InputError(f"asked for what studies need, got a list that cannot be read: {error}.") from error
    needed = set().union(*lists)
    for step_id in tuple(needed):
        with suppress(KeyError, OSError):
            if origin := store.record(step_id).get("linked"):
                needed.add(str(origin))
    return len(lists), needed


def _size(store: Store, folder: str) -> int:
    with suppress(OSError):
        return sum(len(store.files.get(folder, name)) for name in store.files.names(folder))
    return 0


def _leftovers(store: Store, dry: bool) -> tuple[int, int]:
    """Damaged results that were put aside, what killed writers left, checkpoints of what is finished by now."""
    if not isinstance(store.files, LocalFiles):
        return 0, 0
    root, now = store.files.root, time.time()
    found = [p for p in root.rglob(f"{UNFINISHED}*") if now - p.stat().st_mtime > _STALE]
    # A day in which a step that was put aside by mistake can be brought back.
    found += [p for p in (root / DAMAGED).glob("*") if now - _put_aside(p.name) > _STALE]
    found += root.glob(f"{STEPS}/*/.damaged-*")
    found += [p for p in root.glob("unfinished/*") if p.name.partition(".")[0] in store]
    size = 0
    for path in found:
        inside = [path, *path.rglob("*")]
        size += sum(p.stat().st_size for p in inside if p.is_file())
        if not dry:
            _remove(path)
    return len(found), size


def _put_aside(name: str) -> float:
    """When a damaged result was put aside, in seconds since 1970: its name ends with that."""
    since = name.rpartition("-")[2]
    return int(since) / 1e9 if since.isdecimal() else 0.0


def _remove(path: Path) -> None:
    import shutil

    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
