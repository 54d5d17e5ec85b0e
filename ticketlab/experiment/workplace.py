"""What a worker of a cluster has beside the steps that it is sent: the context, the store, and claims on its work."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from distributed import Worker, WorkerPlugin, get_worker

from ticketlab.engine.allocator import keep_freed_memory
from ticketlab.errors import InputError
from ticketlab.experiment.claims import Claims
from ticketlab.experiment.context import Context
from ticketlab.experiment.settings import numerics
from ticketlab.experiment.step import Step
from ticketlab.experiment.store import Store
from ticketlab.experiment.work import Outcome, perform


@dataclass
class _Place:
    """One run's place in this process."""

    context: Context
    store: Store
    claims: Claims
    gpu: int | None
    stopping: bool = False


# One step runs at a time, whatever threads the worker has and whomever it works for: a step owns the process's
# random numbers and threads.
_lock = threading.Lock()
_places: dict[str, _Place] = {}
_unfit: dict[str, str] = {}


class NotSetUp(Exception):
    """This worker cannot serve the run: its address, and why; without a reason it has not heard of it."""

    def __init__(self, address: str, why: str | None) -> None:
        super().__init__(address, why)
        self.address = address
        self.why = why


class Workplace(WorkerPlugin):  # type: ignore[misc]
    """Sets a worker up for a run; the scheduler sends it to workers that join later too.

    Args:
        name: of the run: two runs never share a place.
        owned: whether the worker is the run's own process, and ends with it.
        payload: the pickled context. Unpickled after ``paths`` are known, as it may name modules of the user's.
        probe: a file in the store that every worker must see.
        wanted: the numerics that results depend on.
    """

    idempotent = False

    def __init__(
        self,
        name: str,
        payload: bytes,
        *,
        owned: bool,
        place: str,
        paths: Sequence[str],
        probe: str,
        wanted: dict[str, Any],
    ) -> None:
        self.name = name
        self._owned = owned
        self._payload = payload
        self._place = place
        self._paths = list(paths)
        self._probe = probe
        self._wanted = wanted

    def setup(self, worker: Worker) -> None:
        """Check that the worker can do what is asked, and get ready.

        Raises:
            InputError: its results would differ, or it does not see the store.
        """
        try:
            _places[self.name] = self._made(worker)
        except Exception as error:
            # Of a worker that joins late, Dask only logs it: the steps that are sent there tell the driver.
            _unfit[self.name] = str(error)
            raise

    def _made(self, worker: Worker) -> _Place:
        if self._owned:
            with suppress(ValueError):
                # Ctrl-C reaches every process of a terminal; the driver alone decides what it means.
                signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.path.extend(path for path in self._paths if path not in sys.path and os.path.isdir(path))
        context: Context = pickle.loads(self._payload)
        check_numerics(self._wanted, worker.address)
        store = Store(self._place)
        check_sees(store, self._probe, worker.address)
        keep_freed_memory()
        return _Place(context, store, Claims(store, self.name), _gpu(worker, context))

    def teardown(self, worker: Worker) -> None:
        """Let go of the data."""
        _places.pop(self.name, None)
        _unfit.pop(self.name, None)


def perform_here(name: str, packs: Sequence[tuple[list[Step], list[str]]]) -> list[list[Outcome]]:
    """Compute packs on this worker, one after another.

    Raises:
        OSError, MemoryError: of the surroundings; another try may do, and finds what was finished before.
        NotSetUp: this worker does not fit.
    """
    place = _places.get(name)
    if place is None:
        raise NotSetUp(get_worker().address, _unfit.get(name))
    with _lock:
        if place.gpu is not None:
            torch.cuda.set_device(place.gpu)
        return [_performed(place, *pack) for pack in packs]


def _performed(place: _Place, steps: list[Step], keys: list[str]) -> list[Outcome]:
    if place.stopping:
        return [Outcome("busy")] * len(steps)
    # Other workers put results aside and compute them anew.
    for step in steps:
        for known in (step.id, *step.inputs.values()):
            place.store.forget(known)
    outcomes = perform(steps, keys, place.context, place.store, place.claims, tries=0)
    # An exception may not be fit for travel; its text is.
    return [replace(outcome, error=None) for outcome in outcomes]


def stop_here(name: str) -> None:
    """Begin nothing more for a run."""
    if name in _places:
        _places[name].stopping = True


def check_numerics(wanted: dict[str, Any], where: str) -> None:
    """Refuse a worker whose results would differ in their last bits."""
    got = numerics(wanted["device"], wanted["precision"], wanted["engine"])
    for name, value in wanted.items():
        if got.get(name) != value:
            raise InputError(
                f"asked for workers with {name} {value!r} as here, got {got.get(name)!r} at {where}: "
                "results would not be bit-equal. Use the same versions and the same kind of machine."
            )


def check_sees(store: Store, probe: str, where: str) -> None:
    """Refuse a worker that has another folder under the same name."""
    try:
        store.files.read(probe)
    except OSError as error:
        raise InputError(
            f"asked to keep results in {store.place}, got a worker at {where} that does not see what is there "
            f"({error.strerror or error}). Use a folder that all machines share, or a URL."
        ) from error


def _gpu(worker: Worker, context: Context) -> int | None:
    """The GPU of a worker among several on one machine; None if the context or the environment has chosen."""
    name = str(worker.name)
    if torch.device(context.device) != torch.device("cuda") or not name.isdigit():
        return None
    return int(name) % torch.cuda.device_count()
