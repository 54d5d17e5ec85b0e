"""Runners on Dask.distributed: workers of this machine, a cluster that somebody started, or Slurm's.

Dask places tasks, recovers from lost workers and tries again. Here a driver hands out the steps that are ready: which
ones are, and which can share a result, is known only when their inputs are finished.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any

import dask
from distributed import Client, LocalCluster

from ticketlab.errors import InputError
from ticketlab.experiment.context import Context
from ticketlab.experiment.driver import Driver
from ticketlab.experiment.interrupt import Interrupt
from ticketlab.experiment.run import Desk, Listener
from ticketlab.experiment.site import Site
from ticketlab.experiment.step import Step
from ticketlab.experiment.store import DamagedResult, Store


class Cluster:
    """Workers that Dask reaches. They are started when the first step needs them, and serve until the end.

    Args:
        memory: bytes that a step may need, asked of workers that declare MEMORY.
    """

    # Whether the workers are this run's own, and end with it.
    owned = False

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

    owned = True

    def __init__(self, jobs: int, dashboard: bool = False) -> None:
        super().__init__()
        if dashboard and importlib.util.find_spec("bokeh") is None:
            raise InputError("asked for --dashboard, got no bokeh, which draws it. Install it: pip install bokeh.")
        self._jobs = jobs
        self._dashboard = dashboard

    @contextmanager
    def _opened(self, context: Context) -> Iterator[Client]:
        settings = {
            "distributed.worker.daemon": False,
            # A worker that was lost is started anew, however long that takes on a busy machine.
            "distributed.deploy.lost-worker-timeout": "365 days",
        }
        with dask.config.set(settings), ExitStack() as stack:
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
        asked: dict[str, Any] = {"memory": dask.config.get("jobqueue.slurm.memory", None) or f"{least} GiB"}
        if context.device.startswith("cuda"):
            asked["worker_extra_args"] = ["--resources", "GPU=1"]
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
        site = Site(client, self._context, store, self._cluster.owned)
        try:
            with Interrupt() as interrupt:
                site.open(interrupt)
                driver = Driver(client, site, desk, interrupt, self._cluster.memory)
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
        finally:
            site.close()


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
