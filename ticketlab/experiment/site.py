"""A run's place on the workers of a cluster: set up at its start, taken away at its end."""

from __future__ import annotations

import os
import sys
import time
import uuid
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any

import cloudpickle
from distributed import Client

from ticketlab.errors import InputError
from ticketlab.experiment.claims import FOLDER
from ticketlab.experiment.context import Context
from ticketlab.experiment.files import UNFINISHED
from ticketlab.experiment.interrupt import Interrupt
from ticketlab.experiment.run import PATIENCE
from ticketlab.experiment.settings import numerics
from ticketlab.experiment.store import Store, Unstorable
from ticketlab.experiment.workplace import Workplace, check_numerics, check_sees, stop_here


class Site:
    """Sets every worker up for a run, those that join later too.

    Args:
        owned: whether the workers are the run's own processes, and end with it.
    """

    def __init__(self, client: Client, context: Context, store: Store, owned: bool) -> None:
        self._client = client
        self._store = store
        self.device = context.device
        owner = uuid.uuid4().hex
        # Two runs never share a place, however alike their studies are.
        self.name = f"ticketlab-{owner}"
        self._probe = f"{FOLDER}/{UNFINISHED}{owner}"
        self._wanted = numerics(context.device, context.precision, context.engine)
        self._plugin = Workplace(
            self.name,
            cloudpickle.dumps(context),
            owned=owned,
            place=store.place,
            paths=[os.getcwd(), *sys.path],
            probe=self._probe,
            wanted=self._wanted,
        )

    def open(self, interrupt: Interrupt) -> None:
        """Set up the workers that are there, after waiting for one.

        Raises:
            InputError: one of them would give other bits, or does not see the store.
            KeyboardInterrupt: it was asked to stop while it waited.
        """
        try:
            self._store.files.write(self._probe, b"")
        except OSError as error:
            text = f"asked to store results under {self._store.place}, got {error.strerror or error}."
            raise Unstorable(text) from error
        _await_workers(self._client, interrupt)
        for found in self._client.run(_fit, self._store.place, self._probe, self._wanted).values():
            if found:
                raise InputError(found)
        self.register()

    def register(self) -> None:
        """Let the scheduler know what workers need; again, if it was started anew."""
        self._client.register_plugin(self._plugin, name=self.name)

    def stop(self) -> None:
        """Let workers begin nothing more."""
        with suppress(OSError, RuntimeError):
            self._client.run(stop_here, self.name)

    def close(self) -> None:
        """Leave nothing of the run on workers that go on."""
        with suppress(OSError):
            self._store.files.remove(self._probe)
        if self._client.status == "running":
            with suppress(OSError, RuntimeError, ValueError, CancelledError):
                self._client.unregister_worker_plugin(self.name)


def _fit(place: str, probe: str, wanted: dict[str, Any], dask_worker: Any) -> str:
    """On a worker: why it cannot serve, or nothing."""
    try:
        check_numerics(wanted, dask_worker.address)
        check_sees(Store(place), probe, dask_worker.address)
    except InputError as error:
        return str(error)
    return ""


def _await_workers(client: Client, interrupt: Interrupt) -> None:
    """Wait until there is one, as they may come later; say so once."""
    said = False
    while not client.nthreads():
        interrupt.check()
        if not said:
            say_waiting()
            said = True
        time.sleep(PATIENCE)


def say_waiting() -> None:
    """That nothing happens now, and why."""
    print("waiting for workers of the cluster", file=sys.stderr, flush=True)
