"""Runners on Dask.distributed: workers of this machine, a cluster that somebody started, or Slurm's.

Dask places tasks, recovers from lost workers and tries again. Here a driver hands out the steps that are ready: which
ones are, and which can share a result, is known only when their inputs are finished.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import signal
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any

import cloudpickle
import dask
from distributed import Client, Future, KilledWorker, LocalCluster

from ticketlab.errors import InputError
from ticketlab.experiment.agenda import Agenda, Linked, Pack
from ticketlab.experiment.claims import FOLDER
from ticketlab.experiment.context import Context
from ticketlab.experiment.files import UNFINISHED
from ticketlab.experiment.identity import digest
from ticketlab.experiment.interrupt import Interrupt
from ticketlab.experiment.run import PATIENCE, Desk, Listener
from ticketlab.experiment.settings import numerics
from ticketlab.experiment.step import Step
from ticketlab.experiment.store import DamagedResult, Store
from ticketlab.experiment.work import TRIES, Outcome, failed
from ticketlab.experiment.workplace import NotSetUp, Workplace, check_numerics, check_sees, perform_here, stop_here

# Steps that are sent out for every thread of a worker: one that runs, and one that waits there for its turn.
_AHEAD = 2
# Quick steps go together: so many seconds of them in a task, and at most so many packs.
_BATCH = 0.1
_MOST = 32
# Seconds between two counts of the workers, and without a scheduler until the run is given up.
_COUNT = 1.0
_GIVE_UP = 15.0


class Cluster:
    """Workers that Dask reaches. They are started when the first step needs them, and serve until the end.

    Args:
        memory: bytes that a step may need, asked of workers that declare MEMORY.
    """

    def __init__(self, memory: int = 0) -> None:
        self.memory = memory
        self._stack = ExitStack()
        self._client: Client | None = None

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *error: object) -> None:
        self._client = None
        self._stack.close()

    def runner(self, context: Context) -> Distributed:
        """A runner for the steps of one study."""
        return Distributed(self, context)

    def client(self, context: Context) -> Client:
        """The connection to the scheduler."""
        if self._client is None:
            self._stack.enter_context(_quiet())
            self._client = self._stack.enter_context(self._opened(context))
        return self._client

    def _opened(self, context: Context) -> AbstractContextManager[Client]:
        raise NotImplementedError

    def stop(self) -> None:
        """End what runs now, as far as it is ours to end."""


class LocalWorkers(Cluster):
    """Worker processes of one thread each on this machine, reachable from it alone."""

    def __init__(self, jobs: int, dashboard: bool = False) -> None:
        super().__init__()
        self._jobs = jobs
        self._dashboard = dashboard

    @contextmanager
    def _opened(self, context: Context) -> Iterator[Client]:
        with dask.config.set({"distributed.worker.daemon": False}), ExitStack() as stack:
            with _no_interrupts():
                cluster = LocalCluster(
                    n_workers=self._jobs,
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    # Any free port, of this machine only: the usual one may be another user's.
                    scheduler_kwargs={"dashboard": self._dashboard, "dashboard_address": "127.0.0.1:0"},
                    dashboard_address=None,
                    # Nobody but the user knows how much is too much; a study is checked before it starts.
                    memory_limit=0,
                    silence_logs=logging.CRITICAL,
                    resources={"CPU": 1, "GPU": 1},
                )
            stack.enter_context(cluster)
            if self._dashboard:
                print(f"dashboard: {cluster.dashboard_link}", file=sys.stderr)
            yield stack.enter_context(Client(cluster, set_as_default=False))

    def stop(self) -> None:
        """Kill the workers: a step that is cut off leaves nothing, and waiting for it could take hours."""
        for nanny in self._client.cluster.workers.values() if self._client is not None else ():
            nanny.auto_restart = False
            if nanny.pid:
                with suppress(OSError):
                    os.kill(nanny.pid, signal.SIGKILL)


class Joined(Cluster):
    """A cluster that runs already, at the address of its scheduler."""

    def __init__(self, address: str, memory: int = 0) -> None:
        super().__init__(memory)
        self._address = address

    @contextmanager
    def _opened(self, context: Context) -> Iterator[Client]:
        asked = f"asked for the scheduler at {self._address}, got"
        try:
            client = Client(self._address, timeout=10, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{asked} no answer: {error}. Start one with `dask scheduler`.") from error
        with client:
            yield client


class Slurm(Cluster):
    """Workers that Slurm starts, one job each, as the user's dask configuration (jobqueue.slurm) says."""

    def __init__(self, jobs: int, memory: int = 0) -> None:
        super().__init__(memory)
        self._jobs = jobs

    @contextmanager
    def _opened(self, context: Context) -> Iterator[Client]:
        try:
            from dask_jobqueue import SLURMCluster
        except ImportError as error:
            raise InputError(
                "asked for --slurm, got no dask-jobqueue. Install it: pip install 'ticketlab[slurm]'."
            ) from error
        least = max(4, math.ceil(1.5 * self.memory / 2**30))
        asked = {"memory": dask.config.get("jobqueue.slurm.memory", None) or f"{least} GiB"}
        with SLURMCluster(cores=context.threads, processes=1, **asked) as cluster:
            cluster.scale(jobs=self._jobs)
            with Client(cluster, set_as_default=False) as client:
                yield client


class Distributed:
    """Runs a study's steps on the workers of a cluster."""

    def __init__(self, cluster: Cluster, context: Context) -> None:
        self._cluster = cluster
        self._context = context

    def run(self, steps: Iterable[Step], store: Store, listener: Listener) -> None:
        planned, desk, width = list(steps), Desk(store, listener), self._context.width
        if not desk.agenda(planned, width).left:
            return
        client = self._cluster.client(self._context)
        with Interrupt() as interrupt, _Site(client, self._context, store) as site:
            driver = _Driver(client, site, desk, interrupt, self._cluster.memory)
            while True:
                try:
                    driver.drive(desk.agenda(planned, width))
                    return
                except DamagedResult as damaged:
                    # It was put aside: the next pass computes it again.
                    store.forget(str(damaged))
                except BaseException:
                    self._cluster.stop()
                    raise


class _Site:
    """Sets every worker up for a study, those that join later too."""

    def __init__(self, client: Client, context: Context, store: Store) -> None:
        self._client = client
        self._store = store
        self.device = context.device
        self.name = f"ticketlab-{digest([store.place, context.data.fingerprint, context.engine, context.device])[:12]}"
        self.owner = uuid.uuid4().hex
        self._probe = f"{FOLDER}/{UNFINISHED}{self.owner}"
        self._wanted = numerics(context.device, context.precision, context.engine)
        self._payload = cloudpickle.dumps(context)

    def __enter__(self) -> _Site:
        self._store.files.write(self._probe, b"")
        _await_workers(self._client)
        for found in self._client.run(_fit, self._store.place, self._probe, self._wanted).values():
            if found:
                raise InputError(found)
        plugin = Workplace(
            self.name,
            self.owner,
            self._payload,
            place=self._store.place,
            paths=[os.getcwd(), *sys.path],
            probe=self._probe,
            wanted=self._wanted,
        )
        self._client.register_plugin(plugin, name=self.name)
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):
            self._store.files.remove(self._probe)

    def stop(self) -> None:
        """Let workers begin nothing more."""
        with suppress(OSError, RuntimeError):
            self._client.run(stop_here, self.name)


def _fit(place: str, probe: str, wanted: dict[str, Any], dask_worker: Any) -> str:
    """On a worker: why it cannot serve, or nothing."""
    try:
        check_numerics(wanted, dask_worker.address)
        check_sees(Store(place), probe, dask_worker.address)
    except InputError as error:
        return str(error)
    return ""


def _await_workers(client: Client) -> None:
    """Wait until there is one, as they may come later; say so once."""
    said = False
    while not client.nthreads():
        if not said:
            print("waiting for workers of the cluster", file=sys.stderr)
            said = True
        time.sleep(PATIENCE)


class _Driver:
    """Hands out what is ready, and takes back what became of it."""

    def __init__(self, client: Client, site: _Site, desk: Desk, interrupt: Interrupt, memory: int) -> None:
        self._client = client
        self._site = site
        self._desk = desk
        self._interrupt = interrupt
        self._resources = resources(client, site.device, memory)
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
        except (OSError, CancelledError, RuntimeError) as error:
            # Whatever was asked of the scheduler just now; a step's own error comes while it is there.
            if isinstance(error, RuntimeError) and self._client.status == "running":
                raise
            raise self._gone() from error

    def _drive(self, agenda: Agenda) -> None:
        damaged: DamagedResult | None = None
        told = False
        while agenda.left or self._out:
            if self._interrupt.asked and not told:
                self._site.stop()
                told = True
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
        if damaged:
            raise damaged

    def _hand_out(self, agenda: Agenda) -> None:
        """Keep every thread busy with one task, and one in reserve."""
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

    def _submit(self, packs: list[Pack]) -> None:
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
            for pack, outcomes in zip(packs, results.get(future.key) or self._of_error(future, packs), strict=True):
                try:
                    self._settle(agenda, pack, outcomes)
                except DamagedResult as error:
                    damaged = error
        if damaged:
            raise damaged

    def _settle(self, agenda: Agenda, pack: Pack, outcomes: list[Outcome] | None) -> None:
        if outcomes is None:
            # Lost with the worker that had it, on its way, or in bad company: once more, alone.
            self._pace.clear()
            for step, key in zip(pack.steps, pack.keys, strict=True):
                agenda.again(step.id, key)
            return
        for step, outcome in zip(pack.steps, outcomes, strict=True):
            if outcome.state == "computed":
                before = self._pace.get(step.kind, outcome.seconds)
                self._pace[step.kind] = 0.9 * before + 0.1 * outcome.seconds
        self._desk.settle(pack, outcomes)

    def _of_error(self, future: Future, packs: list[Pack]) -> list[list[Outcome] | None]:
        """What became of packs that came back without results; None for those that were only lost."""
        if future.status != "error":
            return [None] * len(packs)
        error = future.exception(timeout=10)
        if isinstance(error, NotSetUp):
            self._unfit[error.address] = error.why
            return [None] * len(packs)
        if len(packs) > 1:
            # One of them is the cause: alone, each will show whether it is.
            return [None] * len(packs)
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
                self._threads = sum(self._client.nthreads().values())
        return self._threads

    def _check_scheduler(self) -> None:
        now = time.monotonic()
        if self._client.status == "running":
            self._seen = now
        elif now - self._seen > _GIVE_UP or self._client.status == "closed":
            raise self._gone()

    def _gone(self) -> InputError:
        return InputError(
            "asked to run on a cluster, got a scheduler that went away. "
            "Finished steps are kept: start it again, and run the same command."
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


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Processes that are started meanwhile, and those that their threads start later, never see Ctrl-C."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Dask tells of every lost worker and slow moment; what matters of it is said by the run."""
    loggers = [logging.getLogger(name) for name in ("distributed", "tornado", "asyncio")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
