"""Claims: small files that say who computes what right now, so that nobody computes it twice.

Advice, never a lock: steps are pure and the first result stays, so that a claim that is lost, ignored or taken by two
costs time and nothing else.
"""

from __future__ import annotations

import functools
import json
import os
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ticketlab.experiment.identity import digest
from ticketlab.experiment.step import Step
from ticketlab.experiment.store import Store

FOLDER = "claims"
BEAT = 5.0  # seconds between two signs of life
STALE = 30.0  # seconds without one after which a claim counts for nothing


@dataclass(frozen=True)
class Claim:
    """Who computes a step: the run that it belongs to, since when, its last sign of life and how far it is.

    ``machine`` says nothing but whether two are the same, and ``pid`` is the process there. Times are seconds since
    1970. ``progress`` of a training: ``epoch`` and ``epochs`` (of the recipe), and ``loss`` and
    ``accuracy`` (percent) of the last whole epoch, or None before.
    """

    step: str
    label: str
    kind: str
    owner: str
    began: float
    beat: float
    progress: dict[str, Any] | None = None
    machine: str = ""
    pid: int = 0

    @property
    def alive(self) -> bool:
        """Whether its process is there, on this machine; on others whether it gave a sign of life a short time ago.

        Clocks of machines may differ a little either way.
        """
        if self.machine and self.machine == _machine() and not _running(self.pid):
            return False
        return abs(time.time() - self.beat) < STALE


class Claims:
    """The claims of one process on the steps that it computes, with a thread that keeps them alive.

    Args:
        owner: the run that the process works for. Claims of the same run are taken over: its worker was lost.
    """

    def __init__(self, store: Store, owner: str) -> None:
        self._files = store.files
        self._owner = owner
        self._held: dict[str, Claim] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def take(self, key: str, step: Step) -> bool:
        """Claim the work on some contents; False if another run that is alive has it."""
        now = time.time()
        claim = Claim(step.id, step.label, step.kind, self._owner, now, now, machine=_machine(), pid=os.getpid())
        try:
            if not self._files.create(f"{FOLDER}/{key}", _written(claim)):
                other = _read(self._files.read(f"{FOLDER}/{key}"))
                if other is not None and other.alive and other.owner != self._owner:
                    return False
                self._files.write(f"{FOLDER}/{key}", _written(claim))
        except OSError:
            # No claim can be written, or it went away just now: then there is no advice.
            pass
        with self._lock:
            self._held[key] = claim
        self._keep_alive()
        return True

    def release(self, keys: Iterable[str]) -> None:
        """Let go of finished work."""
        for key in keys:
            with self._lock:
                if self._held.pop(key, None) is not None:
                    with suppress(OSError):
                        self._files.remove(f"{FOLDER}/{key}")

    def note(self, step_id: str, progress: Mapping[str, Any]) -> None:
        """How far a training is; written with the next sign of life."""
        with self._lock:
            for key, claim in self._held.items():
                if claim.step == step_id:
                    self._held[key] = replace(claim, progress=dict(progress))

    def _keep_alive(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="claims", daemon=True)
                self._thread.start()

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT)
            # Under the lock: a claim that is written after its release would stay for ever.
            with self._lock:
                if not self._held:
                    self._thread = None
                    return
                for key, claim in self._held.items():
                    with suppress(OSError):
                        self._files.write(f"{FOLDER}/{key}", _written(replace(claim, beat=time.time())))


def read_claims(store: Store) -> list[Claim]:
    """What is being computed now, and what was when its process died."""
    found = []
    for name in store.files.files(FOLDER):
        with suppress(OSError):
            claim = _read(store.files.read(name))
            found += [claim] if claim is not None else []
    return found


@functools.cache
def _machine() -> str:
    """This machine since it was started, and this space of process numbers, as a hash; empty where that is unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        return digest([boot, os.stat("/proc/self/ns/pid").st_ino])
    except OSError:
        return ""


def _running(pid: int) -> bool:
    try:
        # A process that is dead and was not waited for yet still has its number.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return False


def _written(claim: Claim) -> bytes:
    return json.dumps(asdict(claim)).encode()


def _read(content: bytes) -> Claim | None:
    """The claim, or None if it cannot be read: then it counts for nothing."""
    try:
        found = json.loads(content)
        claim = Claim(**{**found, "began": float(found["began"]), "beat": float(found["beat"])})
        texts = all(isinstance(getattr(claim, name), str) for name in ("step", "label", "kind", "owner", "machine"))
        return (
            claim if texts and isinstance(claim.pid, int) and isinstance(claim.progress, (dict, type(None))) else None
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
