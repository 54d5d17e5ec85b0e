"""Runners: they take a plan's steps to the store, in this process or in several."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Protocol

from ticketlab.errors import InputError
from ticketlab.experiment.execute import Context, execute
from ticketlab.experiment.step import Step
from ticketlab.experiment.store import DamagedResult, Store

# What a runner tells as it goes: the step, its seconds, and whether another step's result served for it.
Listener = Callable[[Step, float, bool], None]


class Runner(Protocol):
    """Brings steps to the store. Results do not depend on the runner."""

    def run(self, steps: Iterable[Step], store: Store, tell: Listener) -> None:
        """Compute every step that the store lacks, inputs first."""


def content_key(step: Step, store: Store) -> str:
    """The step's identity by the contents of its inputs, which must be finished."""
    return step.content_key({role: store.digests(i)[role.rsplit(".")[-1]] for role, i in step.inputs.items()})


class InProcess:
    """One step after another, here."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def run(self, steps: Iterable[Step], store: Store, tell: Listener) -> None:
        pending = list(steps)
        while pending:
            try:
                for step in pending:
                    if step.id not in store:
                        self._one(step, store, tell)
                return
            except DamagedResult:
                # An input was damaged and put aside: the next pass computes it again.
                continue

    def _one(self, step: Step, store: Store, tell: Listener) -> None:
        key = content_key(step, store)
        other = store.same_content(key)
        if other:
            store.link(step, other, key)
            tell(step, 0.0, True)
            return
        started = time.perf_counter()
        result = execute(step, self._context, store)
        seconds = time.perf_counter() - started
        store.put(step, result, seconds, key)
        tell(step, seconds, False)


class Processes:
    """Several worker processes of one thread each; the driver hands out steps whose inputs are finished."""

    def __init__(self, context: Context, jobs: int) -> None:
        self._context = context
        self._jobs = jobs

    def run(self, steps: Iterable[Step], store: Store, tell: Listener) -> None:
        planned = list(steps)
        while waiting := {s.id: s for s in planned if s.id not in store}:
            try:
                self._pass(waiting, store, tell)
            except DamagedResult as damaged:
                # A worker put an input aside: the next pass computes it again.
                store.forget(str(damaged))

    def _pass(self, waiting: dict[str, Step], store: Store, tell: Listener) -> None:
        running: dict[Future[float], tuple[Step, str]] = {}
        initargs = (self._context, store.folder)
        with ProcessPoolExecutor(self._jobs, multiprocessing.get_context("spawn"), _start_worker, initargs) as pool:
            try:
                while waiting or running:
                    self._hand_out(waiting, running, pool, store, tell)
                    finished, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        step, _ = running.pop(future)
                        tell(step, future.result(), False)
            except BrokenProcessPool as error:
                raise InputError(
                    "a worker process died (out of memory, killed, or a script that lacks "
                    "`if __name__ == '__main__':` around its call). Finished steps are kept: run the same command "
                    "again, with fewer --jobs if memory ran out."
                ) from error
            except BaseException:
                _stop(pool)
                raise

    def _hand_out(
        self,
        waiting: dict[str, Step],
        running: dict[Future[float], tuple[Step, str]],
        pool: ProcessPoolExecutor,
        store: Store,
        tell: Listener,
    ) -> None:
        """Keep the workers busy with one step each and one in reserve; link what is known by its contents."""
        progressed = True
        while progressed:
            progressed = False
            keys = {key for _, key in running.values()}
            for step in list(waiting.values()):
                if len(running) >= 2 * self._jobs:
                    return
                if any(i in waiting or i not in store for i in step.inputs.values()):
                    continue
                key = content_key(step, store)
                if key in keys:
                    continue
                del waiting[step.id]
                other = store.same_content(key)
                if other:
                    store.link(step, other, key)
                    tell(step, 0.0, True)
                    progressed = True
                    continue
                keys.add(key)
                running[pool.submit(_work, step, key)] = (step, key)


def _stop(pool: ProcessPoolExecutor) -> None:
    """End the workers now: a step that is cut off leaves nothing, and waiting for it could take hours."""
    workers = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.terminate()


_worker: tuple[Context, Store] | None = None


def _start_worker(context: Context, folder: Path) -> None:
    global _worker
    # Ctrl-C reaches every process of the terminal; the driver alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_driver, name="end with driver", daemon=True).start()
    _worker = (context, Store(folder))


def _end_with_driver() -> None:
    """Wait for the driver's death, however sudden: a worker on its own would train for nobody."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        multiprocessing.connection.wait([driver.sentinel])
        os._exit(1)


def _work(step: Step, key: str) -> float:
    assert _worker is not None
    context, store = _worker
    started = time.perf_counter()
    result = execute(step, context, store)
    seconds = time.perf_counter() - started
    store.put(step, result, seconds, key)
    return seconds


def runner(context: Context, jobs: int) -> Runner:
    """The runner for that many processes."""
    if jobs < 1:
        raise InputError(f"asked for {jobs} jobs, got fewer than one.")
    return InProcess(context) if jobs == 1 else Processes(context, jobs)
