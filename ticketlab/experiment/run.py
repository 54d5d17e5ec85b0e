"""Runners: they take a plan's steps to the store, in this process or in several."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol

from ticketlab.data.variants import SMALLER
from ticketlab.engine.allocator import keep_freed_memory
from ticketlab.errors import InputError
from ticketlab.experiment.context import Context
from ticketlab.experiment.execute import execute, execute_pack, forget_unfinished
from ticketlab.experiment.provenance import provenance
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
                for at, step in enumerate(pending):
                    if step.id not in store and not self._linked(step, store, tell):
                        pack = packed(step, pending[at + 1 :], store, self._context)
                        for done, seconds in zip(pack, _work(pack, self._context, store), strict=True):
                            tell(done, seconds, False)
                return
            except DamagedResult:
                # An input was damaged and put aside: the next pass computes it again.
                continue

    def _linked(self, step: Step, store: Store, tell: Listener) -> bool:
        key = content_key(step, store)
        other = store.same_content(key)
        if other:
            store.link(step, other, key)
            tell(step, 0.0, True)
        return bool(other)


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
        running: dict[Future[list[float]], list[Step]] = {}
        initargs = (self._context, store.place)
        with ProcessPoolExecutor(self._jobs, multiprocessing.get_context("spawn"), _start_worker, initargs) as pool:
            try:
                while waiting or running:
                    self._hand_out(waiting, running, pool, store, tell)
                    if not running:
                        # An input was found damaged, and put aside, after the pass began: the next one computes it.
                        return
                    finished, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        for step, seconds in zip(running.pop(future), future.result(), strict=True):
                            tell(step, seconds, False)
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
        running: dict[Future[list[float]], list[Step]],
        pool: ProcessPoolExecutor,
        store: Store,
        tell: Listener,
    ) -> None:
        """Keep the workers busy with one pack each and one in reserve; link what is known by its contents."""
        progressed = True
        while progressed:
            progressed = False
            keys = {content_key(step, store) for pack in running.values() for step in pack}
            for step in list(waiting.values()):
                if len(running) >= 2 * self._jobs:
                    return
                if step.id not in waiting or any(i in waiting or i not in store for i in step.inputs.values()):
                    continue
                key = content_key(step, store)
                if key in keys:
                    continue
                other = store.same_content(key)
                if other:
                    del waiting[step.id]
                    store.link(step, other, key)
                    tell(step, 0.0, True)
                    progressed = True
                    continue
                pack = packed(step, waiting.values(), store, self._context, but=keys)
                if len(pack) < self._context.width and _more_to_come(step, running):
                    continue
                keys |= {content_key(taken, store) for taken in pack}
                for taken in pack:
                    del waiting[taken.id]
                running[pool.submit(_work_here, pack)] = pack


def _more_to_come(step: Step, running: Mapping[Future[list[float]], list[Step]]) -> bool:
    """Whether a training should wait a little for others of its pack: masks are being made right now."""
    return step.kind == "train" and any(s.kind != "train" for pack in running.values() for s in pack)


def packed(step: Step, others: Iterable[Step], store: Store, context: Context, but: Collection[str] = ()) -> list[Step]:
    """A step that is ready and, if it is a training, others that can be trained with it, up to the engine's width.

    ``but`` are content keys of work that is under way elsewhere.
    """
    if step.kind != "train" or context.width == 1:
        return [step]
    pack, keys = [step], {*but, content_key(step, store)}
    for other in others:
        if len(pack) == context.width:
            break
        if other is step or other.id in store or not alike(step, other):
            continue
        if any(i not in store for i in other.inputs.values()):
            continue
        key = content_key(other, store)
        if key not in keys and not store.same_content(key):
            keys.add(key)
            pack.append(other)
    return pack


def alike(step: Step, other: Step) -> bool:
    """Whether two trainings can run side by side: the same recipe and span on as many examples."""
    if other.kind != "train":
        return False
    own = {"seed", "keep", "variant"}
    same = {k: v for k, v in step.params.items() if k not in own} == {
        k: v for k, v in other.params.items() if k not in own
    }
    variants = {s.params["variant"] for s in (step, other)}
    return same and (len(variants) == 1 or variants.isdisjoint(SMALLER))


def _stop(pool: ProcessPoolExecutor) -> None:
    """End the workers now: a step that is cut off leaves nothing, and waiting for it could take hours."""
    workers = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.terminate()


_worker: tuple[Context, Store] | None = None


def _start_worker(context: Context, place: str) -> None:
    global _worker
    # Ctrl-C reaches every process of the terminal; the driver alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_driver, name="end with driver", daemon=True).start()
    keep_freed_memory()
    _worker = (context, Store(place))


def _end_with_driver() -> None:
    """Wait for the driver's death, however sudden: a worker on its own would train for nobody."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        multiprocessing.connection.wait([driver.sentinel])
        os._exit(1)


def _work_here(pack: list[Step]) -> list[float]:
    assert _worker is not None
    return _work(pack, *_worker)


def _work(pack: Sequence[Step], context: Context, store: Store) -> list[float]:
    """Compute and store a pack; seconds for each of its steps, which share the time."""
    keys = [content_key(step, store) for step in pack]
    started = time.perf_counter()
    results = execute_pack(pack, context, store) if len(pack) > 1 else [execute(pack[0], context, store)]
    seconds = (time.perf_counter() - started) / len(pack)
    for step, result, key in zip(pack, results, keys, strict=True):
        store.put(step, result, seconds, key, provenance(context.device))
    forget_unfinished(pack, store)
    return [seconds] * len(pack)


def runner(context: Context, jobs: int) -> Runner:
    """The runner for that many processes."""
    if jobs < 1:
        raise InputError(f"asked for {jobs} jobs, got fewer than one.")
    return InProcess(context) if jobs == 1 else Processes(context, jobs)
