"""Hands out the steps that are ready to the workers of a Dask cluster, and takes back what became of them.

Dask places tasks, recovers from lost workers and tries again. Which steps are ready, and which can share a result, is
known only when their inputs are finished: so they are handed out here, a few ahead.
"""

from __future__ import annotations

import math
import queue
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any

from distributed import Client, Future, KilledWorker
from distributed.comm import CommClosedError

from ticketlab.errors import InputError
from ticketlab.experiment.agenda import Agenda, Linked, Pack
from ticketlab.experiment.interrupt import Interrupt
from ticketlab.experiment.run import PATIENCE, Desk
from ticketlab.experiment.site import Site, say_waiting
from ticketlab.experiment.store import DamagedResult
from ticketlab.experiment.work import TRIES, Outcome, failed
from ticketlab.experiment.workplace import NotSetUp, perform_here

# Steps that are sent out for every thread of a worker: one that runs, and one that waits there for its turn.
_AHEAD = 2
# Quick steps go together: so many seconds of them in a task, and at most so many packs.
_BATCH = 0.1
_MOST = 32
# Seconds between two counts of the workers, and without a scheduler until the run is given up.
_COUNT = 1.0
_GIVE_UP = 15.0


class Driver:
    """Hands out what is ready, and takes back what became of it."""

    def __init__(self, client: Client, site: Site, desk: Desk, interrupt: Interrupt, memory: int) -> None:
        self._client = client
        self._site = site
        self._desk = desk
        self._interrupt = interrupt
        self._resources = resources(client, site.device, memory)
        # Packs of one that may have been the cause of a failure, and tasks that show whether they are.
        self._suspects: list[Pack] = []
        self._alone: set[str] = set()
        # Workers that cannot serve: steps are kept away from them.
        self._unfit: dict[str, str] = {}
        self._done: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self._out: dict[str, tuple[Future, list[Pack]]] = {}
        # Seconds that steps of a kind take.
        self._pace: dict[str, float] = {}
        self._threads = 0
        self._counted = self._seen = -math.inf

    def drive(self, agenda: Agenda) -> None:
        """One pass over an agenda.

        Raises:
            DamagedResult: of an input; all that was out is settled.
            KeyboardInterrupt: it was asked to stop.
            InputError: the scheduler went away.
        """
        try:
            self._drive(agenda)
        except (CommClosedError, TimeoutError, CancelledError, RuntimeError) as error:
            # Whatever was asked of the scheduler just now; a step's own error comes while it is there.
            if isinstance(error, RuntimeError) and self._client.status == "running":
                raise
            raise _gone() from error

    def _drive(self, agenda: Agenda) -> None:
        damaged: DamagedResult | None = None
        told = False
        # What was withheld from an earlier agenda is handed out by this one.
        self._suspects.clear()
        # What is out, or under suspicion, is left too.
        while agenda.left:
            if self._interrupt.asked and not told:
                self._site.stop()
                told = True
            if self._interrupt.asked and not self._count():
                # What is out waits for a worker: nothing runs.
                break
            if not damaged and not self._interrupt.asked:
                try:
                    self._hand_out(agenda)
                except DamagedResult as error:
                    damaged = error
            if not self._out:
                self._interrupt.check()
                if damaged:
                    raise damaged
                if agenda.left:
                    time.sleep(PATIENCE)
                continue
            try:
                self._take_back(agenda)
            except DamagedResult as error:
                damaged = error
            self._check_scheduler()
        self._interrupt.check()

    def _hand_out(self, agenda: Agenda) -> None:
        """Keep every thread busy with one task, and one in reserve.

        After a failure that may be another step's, suspects run one by one, with nothing beside them.
        """
        if self._suspects:
            if not self._out:
                self._submit([self._suspects.pop()], alone=True)
            return
        while len(self._out) < _AHEAD * max(1, self._count()):
            packs = self._batch(agenda)
            if not packs:
                return
            self._submit(packs)

    def _batch(self, agenda: Agenda) -> list[Pack]:
        """The next pack; several, if they are known to be quick and there are enough for every thread."""
        packs: list[Pack] = []
        expected = 0.0
        share = agenda.ready // (_AHEAD * max(1, self._threads))
        while not packs or (expected < _BATCH and len(packs) < min(share, _MOST)):
            found = agenda.take()
            if found is None:
                break
            if isinstance(found, Linked):
                self._desk.link(found)
                continue
            packs.append(found)
            expected += self._pace.get(found.steps[0].kind, math.inf) * len(found.steps)
        return packs

    def _submit(self, packs: list[Pack], alone: bool = False) -> None:
        key = f"{packs[0].steps[0].kind}-{uuid.uuid4().hex}"
        future = self._client.submit(
            perform_here,
            self._site.name,
            [tuple(pack) for pack in packs],
            key=key,
            pure=False,
            retries=TRIES - 1,
            resources=self._resources,
            **self._among(),
        )
        self._out[key] = future, packs
        if alone:
            self._alone.add(key)
        future.add_done_callback(self._done.put)

    def _among(self) -> dict[str, Any]:
        """Which workers to choose from, if not from all.

        Raises:
            InputError: none of them can serve.
        """
        if not self._unfit:
            return {}
        fit = [address for address in self._client.nthreads() if address not in self._unfit]
        if not fit:
            raise InputError(f"asked for a cluster, got none of its workers fit. {next(iter(self._unfit.values()))}")
        # Not strictly: should all of these go away, others may have come.
        return {"workers": fit, "allow_other_workers": True}

    def _take_back(self, agenda: Agenda) -> None:
        """Settle what is done, after waiting a moment for it.

        Raises:
            DamagedResult: of an input; what was done is settled.
        """
        done = []
        with suppress(queue.Empty):
            done.append(self._done.get(timeout=PATIENCE))
            while True:
                done.append(self._done.get_nowait())
        known = [future for future in done if future.key in self._out]
        fine = [future for future in known if future.status == "finished"]
        results = dict(zip([f.key for f in fine], self._gathered(fine), strict=True))
        damaged: DamagedResult | None = None
        for future in known:
            packs = self._out.pop(future.key)[1]
            found = results.get(future.key) or self._of_error(future, packs)
            for pack, outcomes in zip(packs, found, strict=True) if found else ():
                try:
                    self._settle(agenda, pack, outcomes)
                except DamagedResult as error:
                    damaged = error
        if damaged:
            raise damaged

    def _settle(self, agenda: Agenda, pack: Pack, outcomes: list[Outcome] | None) -> None:
        if outcomes is None:
            # Lost with the worker that had it, or on its way: once more.
            for step, key in zip(pack.steps, pack.keys, strict=True):
                agenda.again(step.id, key)
            return
        for step, outcome in zip(pack.steps, outcomes, strict=True):
            if outcome.state == "computed":
                before = self._pace.get(step.kind, outcome.seconds)
                self._pace[step.kind] = 0.9 * before + 0.1 * outcome.seconds
        self._desk.settle(pack, outcomes)

    def _of_error(self, future: Future, packs: list[Pack]) -> list[list[Outcome] | None]:
        """What became of packs that came back without results: None for one that was only lost.

        Nothing at all if they are under suspicion now, and stay out.
        """
        if future.status != "error":
            return [None] * len(packs)
        error = future.exception(timeout=10)
        if isinstance(error, NotSetUp):
            if error.why is None:
                self._site.register()
            else:
                self._unfit[error.address] = error.why
            return [None] * len(packs)
        if future.key not in self._alone:
            # Dask blames all that was on a worker when it died, and one step of many may have raised this.
            self._suspects += [Pack([s], [k]) for pack in packs for s, k in zip(pack.steps, pack.keys, strict=True)]
            return []
        label = packs[0].steps[0].label
        told = f"the worker that computed {label!r} died again and again: out of memory? Use fewer --jobs."
        outcome = Outcome("failed", text=told, input_error=True) if isinstance(error, KilledWorker) else failed(error)
        return [[outcome] * len(pack.steps) for pack in packs]

    def _gathered(self, futures: Sequence[Future]) -> list[Any]:
        """The results in one question; None for those that are gone."""
        if not futures:
            return []
        found = self._client.gather(list(futures), errors="skip", direct=False)
        if len(found) == len(futures):
            return list(found)
        results: list[Any] = []
        for future in futures:
            one = self._client.gather([future], errors="skip", direct=False)
            results.append(one[0] if one else None)
        return results

    def _count(self) -> int:
        """Threads of all workers: they come and go."""
        now = time.monotonic()
        if now - self._counted > _COUNT:
            self._counted = now
            with suppress(OSError, TimeoutError):
                before, self._threads = self._threads, sum(self._client.nthreads().values())
                if before and not self._threads:
                    say_waiting()
        return self._threads

    def _check_scheduler(self) -> None:
        now = time.monotonic()
        if self._client.status == "running":
            self._seen = now
        elif now - self._seen > _GIVE_UP or self._client.status == "closed":
            raise _gone()


def _gone() -> InputError:
    return InputError(
        "asked to run on a cluster, got a scheduler that went away. Finished steps are kept: start it and its workers "
        "again, and run the same command."
    )


def resources(client: Client, device: str, memory: int) -> dict[str, float]:
    """What a step asks of a worker: a CPU, a GPU if it trains on one, and memory, where workers declare such.

    Raises:
        InputError: no worker has what is asked for; the task would wait for ever.
    """
    declared = [w.get("resources", {}) for w in client.scheduler_info(n_workers=-1)["workers"].values()]
    wanted = {"CPU": 1.0, "GPU": 1.0 if device.startswith("cuda") else 0.0, "MEMORY": float(memory)}
    asked = {name: n for name, n in wanted.items() if n and any(name in has for has in declared)}
    if wanted["GPU"] and "GPU" not in asked:
        raise InputError(
            "asked for --device cuda, got a cluster whose workers declare no GPU. "
            'Start them with `dask worker ADDRESS --nthreads 1 --resources "GPU=1"`.'
        )
    if declared and not any(all(has.get(name, 0) >= n for name, n in asked.items()) for has in declared):
        best = {name: max(has.get(name, 0) for has in declared) for name in asked}
        raise InputError(f"asked for workers with {asked}, got a cluster that has at most {best}.")
    return asked
