"""What is still to be done of a plan: the steps that are ready, in its order, and those that wait for others."""

from __future__ import annotations

import heapq
import time
from collections.abc import Collection, Iterable
from typing import NamedTuple

from ticketlab.data.variants import SMALLER
from ticketlab.experiment.step import Step
from ticketlab.experiment.store import DamagedResult, Store

# Seconds until a step that another run computes is looked at again.
AGAIN = 1.0
# How many ready trainings are looked at to fill a pack.
_FAR = 256


class Pack(NamedTuple):
    """Steps that are computed together, and their identities by the contents of their inputs."""

    steps: list[Step]
    keys: list[str]


class Linked(NamedTuple):
    """A step whose result is that of another one with the same contents (or its own: another run stored it)."""

    step: Step
    other: str
    key: str


class Agenda:
    """Hands out the steps that a store lacks, inputs first, otherwise in the plan's order.

    Of steps with equal contents one is handed out, and the others wait for it. Trainings that can run side by side are
    handed out in packs of the engine's width.

    Args:
        but: steps that failed: neither they nor what builds on them is handed out.
    """

    def __init__(self, steps: Iterable[Step], store: Store, width: int = 1, but: Collection[str] = ()) -> None:
        self._store = store
        self._width = width
        self._steps = {step.id: step for step in steps}
        self._rank = {step_id: rank for rank, step_id in enumerate(self._steps)}
        self._open = {i for i in self._steps if i not in store}
        self._unmet: dict[str, int] = {}
        self._users: dict[str, list[str]] = {}
        self._ready: list[int] = []
        self._order = list(self._steps)
        # Handed out: ids, and who computes which contents.
        self._out: set[str] = set()
        self._running: dict[str, str] = {}
        self._twins: dict[str, list[str]] = {}
        self._later: list[tuple[float, int]] = []
        for step_id in self._order:
            if step_id in self._open:
                unmet = {i for i in self._steps[step_id].inputs.values() if i in self._open}
                self._unmet[step_id] = len(unmet)
                for i in unmet:
                    self._users.setdefault(i, []).append(step_id)
                if not unmet:
                    self._push(step_id)
        for step_id in but:
            self.drop(step_id)

    @property
    def left(self) -> int:
        """How many steps are neither finished nor dropped."""
        return len(self._open)

    @property
    def ready(self) -> int:
        """About how many steps could be computed now."""
        return len(self._ready)

    def take(self) -> Pack | Linked | None:
        """The next steps to compute or to link, or None: what is left waits for what runs, here or elsewhere.

        Raises:
            DamagedResult: an input was put aside meanwhile.
        """
        self._wake()
        waiting: list[int] = []
        try:
            while self._ready:
                rank = heapq.heappop(self._ready)
                step = self._steps[self._order[rank]]
                if step.id not in self._open or step.id in self._out:
                    continue
                key = content_key(step, self._store)
                if key in self._running:
                    self._twins.setdefault(key, []).append(step.id)
                    continue
                if other := self._store.same_content(key):
                    return Linked(step, other, key)
                pack = self._filled(step, key)
                if len(pack.steps) < self._width and self._more_to_come(step):
                    waiting.append(rank)
                    continue
                for taken, its in zip(pack.steps, pack.keys, strict=True):
                    self._running[its] = taken.id
                    self._out.add(taken.id)
                return pack
            return None
        finally:
            for rank in waiting:
                heapq.heappush(self._ready, rank)

    def finished(self, step_id: str, key: str) -> None:
        """A step is in the store: what waited for it may be ready."""
        self._let_go(step_id, key)
        self._open.discard(step_id)
        for user in self._users.pop(step_id, ()):
            if user in self._open:
                self._unmet[user] -= 1
                if not self._unmet[user]:
                    self._push(user)

    def postpone(self, step_id: str, key: str) -> None:
        """Another run computes it: look again a little later."""
        self._let_go(step_id, key)
        heapq.heappush(self._later, (time.monotonic() + AGAIN, self._rank[step_id]))

    def again(self, step_id: str, key: str) -> None:
        """It was handed out and did not run: it is ready as before."""
        self._let_go(step_id, key)
        self._push(step_id)

    def failed(self, step_id: str, key: str) -> list[str]:
        """A step failed: it and all that builds on it are dropped. Their ids."""
        self._let_go(step_id, key)
        return self.drop(step_id)

    def drop(self, step_id: str) -> list[str]:
        """Take a step and all that builds on it away."""
        dropped, below = [], [step_id]
        while below:
            one = below.pop()
            if one in self._open:
                self._open.discard(one)
                dropped.append(one)
                below += self._users.pop(one, ())
        return dropped

    def _push(self, step_id: str) -> None:
        heapq.heappush(self._ready, self._rank[step_id])

    def _wake(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            rank = heapq.heappop(self._later)[1]
            step_id = self._order[rank]
            # Whether the other run has finished it is asked of the folder, not of what was known before.
            self._store.forget(step_id)
            self._push(step_id)

    def _let_go(self, step_id: str, key: str) -> None:
        self._out.discard(step_id)
        if self._running.get(key) == step_id:
            del self._running[key]
            for twin in self._twins.pop(key, ()):
                self._push(twin)

    def _filled(self, step: Step, key: str) -> Pack:
        """The step and, if it is a training, others that are ready and can be trained with it."""
        pack = Pack([step], [key])
        if step.kind != "train" or self._width == 1:
            return pack
        for rank in heapq.nsmallest(_FAR, self._ready):
            if len(pack.steps) == self._width:
                break
            other = self._steps[self._order[rank]]
            if other.id not in self._open or other.id in self._out or not alike(step, other):
                continue
            its = content_key(other, self._store)
            if its not in self._running and its not in pack.keys and not self._store.same_content(its):
                pack.steps.append(other)
                pack.keys.append(its)
        return pack

    def _more_to_come(self, step: Step) -> bool:
        """Whether a training should wait a little for others of its pack: masks are being made right now."""
        return step.kind == "train" and any(self._steps[i].kind != "train" for i in self._running.values())


def content_key(step: Step, store: Store) -> str:
    """The step's identity by the contents of its inputs, which must be finished.

    Raises:
        DamagedResult: an input is not there any more.
    """
    try:
        return step.content_key({role: store.digests(i)[role.rsplit(".")[-1]] for role, i in step.inputs.items()})
    except KeyError:
        for role, i in step.inputs.items():
            if i not in store or role.rsplit(".")[-1] not in store.digests(i):
                # Without what it should have left it is no result of that step.
                store.discard(i)
                raise DamagedResult(i) from None
        raise


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
