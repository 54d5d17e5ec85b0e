"""The store: one folder per step, named by its id, written whole or not at all, never changed after."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ticketlab.errors import InputError
from ticketlab.experiment.step import Result, Step
from ticketlab.mask import Mask

_RESULT, _MASK, _TENSORS = "result.json", "mask.safetensors", "tensors.safetensors"


class Store:
    """Results of steps in a folder.

    A step's folder is filled under another name, then renamed: readers see a whole result or none, and of two writers
    the first wins. A damaged result (checked by hash when it is read) is put aside and computed again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, dict[str, Any]] = {}

    def facts(self, step_id: str) -> dict[str, Any] | None:
        """The plain part of a step's result, or None if it was not computed yet."""
        record = self._record(step_id)
        return None if record is None else dict(record["facts"])

    def __contains__(self, step_id: str) -> bool:
        return self._record(step_id) is not None

    def digests(self, step_id: str) -> dict[str, str]:
        """The content hashes of what a finished step left."""
        return dict(self._finished(step_id)["digests"])

    def mask(self, step_id: str) -> Mask:
        """The mask that a finished step left."""
        return Mask.load(self._checked_file(step_id, _MASK))

    def tensors(self, step_id: str, group: str) -> dict[str, Tensor]:
        """One group of tensors that a finished step left."""
        from safetensors import safe_open

        prefix = f"{group}/"
        with safe_open(str(self._checked_file(step_id, _TENSORS)), framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 (it is no dict)
            return {name.removeprefix(prefix): file.get_tensor(name) for name in names}

    def put(self, step: Step, result: Result, seconds: float, content_key: str) -> None:
        """Store a result; if another writer was first, theirs stays."""
        from safetensors.torch import save

        files: dict[str, bytes] = {}
        with tempfile.TemporaryDirectory() as scratch:
            if result.mask is not None:
                result.mask.save(Path(scratch) / _MASK)
                files[_MASK] = (Path(scratch) / _MASK).read_bytes()
        flat = {f"{g}/{n}": t.contiguous() for g, group in result.tensors.items() for n, t in group.items()}
        if flat:
            files[_TENSORS] = save(flat)
        self._write(step, result.facts, result.digests(), seconds, content_key, files)

    def link(self, step: Step, other: str, content_key: str) -> None:
        """Record that a step's result is that of another one with the same contents going in."""
        record = self._finished(other)
        origin = record.get("linked", other)
        self._write(step, record["facts"], record["digests"], 0.0, content_key, {}, linked=origin)

    def same_content(self, content_key: str) -> str | None:
        """The id of a finished step that computed the same from the same contents."""
        path = self.folder / "contents" / content_key
        try:
            found = path.read_text().strip()
        except OSError:
            return None
        return found if found in self else None

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
            "seconds": round(seconds, 4),
            "finished": time.time(),
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
            **({"linked": linked} if linked else {}),
        }
        record["checksum"] = _checksum(record)
        final = self._path(step.id)
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(dir=final.parent, prefix=".new-"))
            try:
                for name, content in {**files, _RESULT: json.dumps(record, indent=1).encode()}.items():
                    _write_through(scratch / name, content)
                if not final.exists():
                    os.rename(scratch, final)
            except FileExistsError:
                pass
            except OSError:
                if not final.exists():
                    raise
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
            self._publish(content_key, step.id)
        except OSError as error:
            raise InputError(f"asked to store a result under {self.folder}, got {error.strerror or error}.") from error

    def _publish(self, content_key: str, step_id: str) -> None:
        path = self.folder / "contents" / content_key
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}-{os.getpid()}")
            _write_through(temporary, step_id.encode())
            os.replace(temporary, path)

    def _path(self, step_id: str) -> Path:
        return self.folder / "steps" / step_id[:2] / step_id

    def _record(self, step_id: str) -> dict[str, Any] | None:
        if step_id in self._known:
            return self._known[step_id]
        path = self._path(step_id) / _RESULT
        try:
            record = json.loads(path.read_bytes())
            whole = record["id"] == step_id and record.pop("checksum") == _checksum(record)
            if whole and "linked" in record and self._record(record["linked"]) is None:
                whole = False
        except FileNotFoundError:
            # A folder without a record was copied or deleted in part; it would be in the way of a new result.
            self.discard(step_id)
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            whole, record = False, {}
        if not whole:
            self.discard(step_id)
            return None
        self._known[step_id] = record
        return dict(record)

    def discard(self, step_id: str) -> None:
        """Put a damaged result aside, so that it is computed again."""
        self.forget(step_id)
        path = self._path(step_id)
        try:
            if path.exists():
                path.rename(path.with_name(f".damaged-{step_id}-{time.time_ns()}"))
        except OSError as error:
            raise InputError(f"asked to put the damaged {path} aside, got {error.strerror or error}.") from error

    def forget(self, step_id: str) -> None:
        """Look at the folder again for a step, and for those that share its result, which fall with it."""
        for known in [step_id, *(i for i, r in self._known.items() if r.get("linked") == step_id)]:
            self._known.pop(known, None)

    def _finished(self, step_id: str) -> dict[str, Any]:
        record = self._record(step_id)
        if record is None:
            raise KeyError(step_id)
        return record

    def _checked_file(self, step_id: str, name: str) -> Path:
        record = self._finished(step_id)
        if "linked" in record:
            return self._checked_file(record["linked"], name)
        path = self._path(step_id) / name
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != record["files"].get(name):
            self.discard(step_id)
            raise DamagedResult(step_id)
        return path


class DamagedResult(Exception):
    """A stored file does not have the hash that was written with it; the step was put aside, run it again."""


def _checksum(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _write_through(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
