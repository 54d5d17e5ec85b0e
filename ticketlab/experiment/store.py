"""The store: one folder per step, named by its id, written whole or not at all, never changed after."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from ticketlab.errors import InputError
from ticketlab.experiment.files import DamagedFile, Files, LocalFiles, open_files
from ticketlab.experiment.step import Result, Step
from ticketlab.mask import Mask

# What others wrote becomes a path only if it looks like a step.
ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
RESULT, MASK, TENSORS = "result.json", "mask.safetensors", "tensors.safetensors"
STEPS, CONTENTS, DAMAGED = "steps", "contents", "damaged"
# What says that something else lies in a file's place. Other errors of reading pass: they are no damage.
DAMAGE = (DamagedFile, NotADirectoryError, IsADirectoryError)
# Records that are kept in memory: those of a study are read again and again, those of a table are too many.
_REMEMBERED = 4096


class Store:
    """Results of steps in a folder, or at a URL that fsspec opens (s3://bucket/folder).

    A step's folder appears whole or not at all, and of two writers the first wins: any number of processes and machines
    may share a store without a server. A damaged result (checked by hash when it is read) is put aside and computed
    again.
    """

    def __init__(self, place: Path | str | Files) -> None:
        self.files: Files = open_files(place) if isinstance(place, (str, Path)) else place
        self.place = self.files.place
        # Which steps are whole, and the records of those that were asked for last.
        self._whole: set[str] = set()
        self._sharers: dict[str, list[str]] = {}
        self._known: OrderedDict[str, dict[str, Any]] = OrderedDict()

    @property
    def folder(self) -> Path:
        """Where unfinished work of this machine is kept: the store's own folder, or a temporary one for a URL."""
        if isinstance(self.files, LocalFiles):
            return self.files.root
        return Path(tempfile.gettempdir()) / f"ticketlab-{hashlib.sha256(self.place.encode()).hexdigest()[:16]}"

    def facts(self, step_id: str) -> dict[str, Any] | None:
        """The plain part of a step's result, or None if it was not computed yet."""
        record = self._record(step_id)
        return None if record is None else dict(record["facts"])

    def __contains__(self, step_id: object) -> bool:
        return step_id in self._whole or (isinstance(step_id, str) and self._record(step_id) is not None)

    def ids(self) -> Iterator[str]:
        """All steps, in order, whether they are whole or not."""
        for name in self.files.folders(STEPS):
            yield name.rpartition("/")[2]

    def record(self, step_id: str) -> dict[str, Any]:
        """Everything that is written down about a finished step, as plain values.

        ``kind``, ``params``, ``inputs``, ``label``, ``facts``, ``digests`` (of what it left), ``seconds``, ``finished``
        (seconds since 1970), ``provenance`` (commit, versions, machine), ``files`` with their hashes, and ``linked``,
        the step whose result this one shares, if any.

        Raises:
            KeyError: it is not finished.
        """
        return dict(self._finished(step_id))

    def peek(self, step_id: str) -> dict[str, Any] | None:
        """The record of a step, read anew; None if it cannot be read: what is damaged stays, and none is kept."""
        try:
            return parsed(step_id, self.files.get(path_of(step_id), RESULT))
        except (OSError, ValueError):
            return None

    def digests(self, step_id: str) -> dict[str, str]:
        """The content hashes of what a finished step left."""
        return dict(self._finished(step_id)["digests"])

    def mask(self, step_id: str) -> Mask:
        """The mask that a finished step left."""
        return Mask.from_bytes(self._checked(step_id, MASK), f"step {step_id}")

    def tensors(self, step_id: str, group: str) -> dict[str, Tensor]:
        """One group of tensors that a finished step left."""
        from safetensors.torch import load

        prefix = f"{group}/"
        found = load(self._checked(step_id, TENSORS))
        # In the same order always: the library gives them in any.
        return {name.removeprefix(prefix): found[name] for name in sorted(found) if name.startswith(prefix)}

    def put(
        self, step: Step, result: Result, seconds: float, content_key: str, made: Mapping[str, Any] | None = None
    ) -> None:
        """Store a result; if another writer was first, theirs stays. ``made`` is its provenance."""
        from safetensors.torch import save

        files = {MASK: result.mask.to_bytes()} if result.mask is not None else {}
        flat = {f"{g}/{n}": t.contiguous() for g, group in result.tensors.items() for n, t in group.items()}
        if flat:
            files[TENSORS] = save(flat)
        self._write(step, result.facts, result.digests(), seconds, content_key, files, made or {})

    def link(self, step: Step, other: str, content_key: str) -> None:
        """Record that a step's result is that of another one with the same contents going in."""
        record = self._finished(other)
        origin = record.get("linked", other)
        made = record.get("provenance", {})
        self._write(step, record["facts"], record["digests"], 0.0, content_key, {}, made, linked=origin)

    def same_content(self, content_key: str) -> str | None:
        """The id of a finished step that computed the same from the same contents."""
        try:
            found = self.files.read(f"{CONTENTS}/{content_key}").decode().strip()
        except (OSError, ValueError):
            return None
        return found if ID.fullmatch(found) and found in self else None

    def linked(self, step_id: str) -> str | None:
        """The step whose result this one shares, if any."""
        other = self._finished(step_id).get("linked")
        return str(other) if other else None

    def seconds(self, step_id: str) -> float:
        """How long a finished step took."""
        return float(self._finished(step_id)["seconds"])

    def _write(
        self,
        step: Step,
        facts: Mapping[str, Any],
        digests: Mapping[str, str],
        seconds: float,
        content_key: str,
        files: Mapping[str, bytes],
        made: Mapping[str, Any],
        linked: str | None = None,
    ) -> None:
        record = {
            "id": step.id,
            "kind": step.kind,
            "params": dict(step.params),
            "inputs": dict(step.inputs),
            "label": step.label,
            "facts": dict(facts),
            "digests": dict(digests),
            "content": content_key,
            "seconds": round(seconds, 4),
            "finished": time.time(),
            "provenance": dict(made),
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
            **({"linked": linked} if linked else {}),
        }
        try:
            self.files.put_folder(path_of(step.id), {**files, RESULT: written(record)})
            # An entry of the index only saves work: whether it survives a loss of power is of no matter.
            name = f"{CONTENTS}/{content_key}"
            if not self.files.create(name, step.id.encode()) and not self.files.read(name):
                self.files.write(name, step.id.encode())
        except OSError as error:
            raise Unstorable(f"asked to store a result under {self.place}, got {error.strerror or error}.") from error

    def _record(self, step_id: str) -> dict[str, Any] | None:
        if step_id in self._known:
            self._known.move_to_end(step_id)
            return self._known[step_id]
        try:
            record = parsed(step_id, self.files.get(path_of(step_id), RESULT))
            whole = "linked" not in record or self._record(record["linked"]) is not None
        except FileNotFoundError:
            self._discard_if_bare(step_id)
            return None
        except (*DAMAGE, ValueError, RecursionError):
            whole, record = False, {}
        if not whole:
            self.discard(step_id)
            return None
        if step_id not in self._whole and "linked" in record:
            self._sharers.setdefault(record["linked"], []).append(step_id)
        self._whole.add(step_id)
        self._known[step_id] = record
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return dict(record)

    def _discard_if_bare(self, step_id: str) -> None:
        """A folder without a record was copied or deleted in part; it would be in the way of a new result."""
        with suppress(FileNotFoundError):
            # Looked at again: a writer may have put the whole result there just now.
            if RESULT not in self.files.names(path_of(step_id)):
                self.discard(step_id)

    def discard(self, step_id: str) -> None:
        """Put a damaged result aside, so that it is computed again."""
        self.forget(step_id)
        name = path_of(step_id)
        try:
            if self.files.has_folder(name):
                self.files.move_folder(name, f"{DAMAGED}/{step_id}-{time.time_ns()}")
        except FileNotFoundError:
            # Another process was first.
            return
        except OSError as error:
            text = f"asked to put the damaged {self.place}/{name} aside, got {error.strerror or error}."
            raise InputError(text) from error

    def forget(self, step_id: str) -> None:
        """Look at the folder again for a step, and for those that share its result, which fall with it."""
        for known in [step_id, *self._sharers.pop(step_id, ())]:
            self._whole.discard(known)
            self._known.pop(known, None)

    def _finished(self, step_id: str) -> dict[str, Any]:
        record = self._record(step_id)
        if record is None:
            raise KeyError(step_id)
        return record

    def _checked(self, step_id: str, name: str) -> bytes:
        record = self._finished(step_id)
        if "linked" in record:
            return self._checked(record["linked"], name)
        try:
            content = self.files.get(path_of(step_id), name)
        except (FileNotFoundError, *DAMAGE):
            content = b""
        if hashlib.sha256(content).hexdigest() != record["files"].get(name):
            self.discard(step_id)
            raise DamagedResult(step_id)
        return content


class LookingStore(Store):
    """A store that is only looked at: what is damaged stays where it is."""

    def discard(self, step_id: str) -> None:
        """Leave it, but take it for absent."""
        self.forget(step_id)


class DamagedResult(Exception):
    """A stored file does not have the hash that was written with it; the step was put aside, run it again."""


class Unstorable(InputError):
    """A result could not be written: the disk is full, or the place is gone. It would go so with every other step."""


def path_of(step_id: str) -> str:
    """The name of a step's folder."""
    return f"{STEPS}/{step_id[:2]}/{step_id}"


def written(record: Mapping[str, Any]) -> bytes:
    """A record as it is written, with the checksum of all the rest."""
    return json.dumps({**record, "checksum": _checksum(record)}, indent=1).encode()


def parsed(step_id: str, content: bytes) -> dict[str, Any]:
    """A record as it was before it was written; ValueError if anything about it changed."""
    try:
        record: dict[str, Any] = json.loads(content)
        if record["id"] != step_id or record.pop("checksum") != _checksum(record):
            raise ValueError(f"the record of {step_id} is damaged")
        _check(record)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"the record of {step_id} is damaged: {error}") from error
    return record


def _check(record: Mapping[str, Any]) -> None:
    """Raise unless a store writes such records: a checksum says only that nothing changed since."""
    # Stores of earlier versions have neither contents, nor times, nor provenance.
    absent = {"content", "finished", "provenance"} - {*record}
    texts, tables = {"id", "kind", "label", "content"}, {"params", "inputs", "facts", "digests", "files", "provenance"}
    numbers = {"seconds", "finished"}
    for names, kind in ((texts, str), (tables, dict), (numbers, (int, float))):
        if not all(isinstance(record[n], kind) for n in names - absent):
            raise TypeError("values of other types")
    if not all(isinstance(v, str) for name in ("inputs", "digests", "files") for v in record[name].values()):
        raise TypeError("hashes of other types")
    if not all(0 <= record[n] < 1e12 for n in numbers - absent):
        raise ValueError("times that are none")
    # Both become paths.
    if not {*record["files"]} <= {MASK, TENSORS}:
        raise ValueError("files that no step writes")
    if not ID.fullmatch(record["id"]):
        raise ValueError("its id is none")
    if "linked" in record and (not ID.fullmatch(record["linked"]) or record["linked"] == record["id"]):
        raise ValueError("it shares the result of no step")


def _checksum(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
