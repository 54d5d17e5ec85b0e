"""A single ticket: one method (or none), one seed, its whole program, and no statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ticketlab import __version__
from ticketlab.data.types import Data
from ticketlab.engine.recipe import Recipe
from ticketlab.errors import InputError
from ticketlab.experiment.arms import DENSE, Plan, Trained
from ticketlab.experiment.compute import Progress, compute
from ticketlab.experiment.factory import ModelLike
from ticketlab.experiment.groundwork import Groundwork, MethodLike, check_spans, checked_sparsity, groundwork, label_of
from ticketlab.experiment.plan import Planner, method_of
from ticketlab.experiment.settings import asked_engine
from ticketlab.experiment.step import Step
from ticketlab.experiment.store import Store
from ticketlab.mask import Mask
from ticketlab.methods import Method
from ticketlab.parameters import prunable
from ticketlab.program import Ticket
from ticketlab.pruning import planned_budget


@dataclass(frozen=True)
class Single:
    """A ticket that could be made: everything is checked, nothing has run.

    Attributes:
        method: the method's label; "dense" for the net with all of its weights.
        sparsity: the fraction to remove, as asked; None for the dense net.
    """

    method: str
    sparsity: float | None
    seed: int
    ground: Groundwork
    plan: Plan
    arm: Trained

    @property
    def finding(self) -> list[Step]:
        """The steps before the last training."""
        start = self.arm.start
        return self.plan.ancestors(filter(None, (start.mask, start.weights)))

    @property
    def steps(self) -> list[Step]:
        """The steps of the whole program."""
        return self.plan.ancestors([self.arm.final])

    def find(self, store: Store, progress: Progress | None = None) -> Ticket:
        """The ticket as its last training starts.

        Raises:
            InputError: a training before the pruning diverged, or the method fails.
        """
        return compute(self.finding, self.ground.context, store, lambda: self._found(store), progress=progress)

    def train(self, store: Store, progress: Progress | None = None) -> tuple[Ticket, dict[str, Any]]:
        """The ticket as its last training ends, and what there is to say about it in plain values.

        The same request gives the same facts: they hold no times and no places.

        Raises:
            InputError: a training diverged, or the method fails.
        """
        return compute(self.steps, self.ground.context, store, lambda: self._finished(store), progress=progress)

    def _found(self, store: Store) -> Ticket:
        start = self.arm.start
        until = float(self.plan.steps[self.arm.final].params["until"])
        return Ticket(self._mask(store), store.tensors(start.weights, "weights"), float(start.at), until)

    def _finished(self, store: Store) -> tuple[Ticket, dict[str, Any]]:
        mask, final = self._mask(store), self.arm.final
        facts = store.facts(final) or {}
        self._refuse_lost(facts.get("diverged_at"), "")
        ticket = Ticket(mask, store.tensors(final, "weights"), float(self.plan.steps[final].params["until"]))
        return ticket, {**self.facts(mask), "epochs_seen": self.arm.seen, "accuracy": facts["accuracy"]}

    def facts(self, mask: Mask) -> dict[str, Any]:
        """What decides a ticket, and what can be counted of its mask, in plain values."""
        return {
            "method": self.method,
            "sparsity": self.sparsity,
            "exact_sparsity": mask.sparsity,
            "kept": mask.kept,
            "total": mask.total,
            "seed": self.seed,
            **vars(self.ground.conditions),
            "ticketlab": __version__,
            "torch": torch.__version__,
        }

    def _mask(self, store: Store) -> Mask:
        step = self.arm.start.mask
        if step is None:
            return Mask.dense(prunable(self.ground.built))
        self._refuse_lost((store.facts(step) or {}).get("diverged_at"), " before the pruning")
        return store.mask(step)

    def _refuse_lost(self, epoch: int | None, when: str) -> None:
        if epoch is not None:
            raise InputError(
                f"asked for a ticket of {self.method}, got a training that diverged in epoch {epoch}{when}. "
                "Lower the learning rate."
            )


def single(
    method: MethodLike,
    *,
    model: ModelLike,
    data: Data,
    sparsity: float | None,
    seed: int = 0,
    recipe: Recipe | None = None,
    per_class: int = 10,
    device: str = "cpu",
    precision: str = "fp32",
    engine: str | None = None,
    sparse: str = "auto",
    checkpoint_every: float = 60.0,
) -> Single:
    """Check everything that can be checked, and plan the ticket.

    Args:
        method: "dense" trains the net with all of its weights, and takes no sparsity.
        engine: what trains it; the usual one if None, so that asking again never finds another.
        sparse: "on" for the engine of the sparse kernels; "off" refuses it.

    Raises:
        InputError: anything that is wrong with the input, before any training.
    """
    own: dict[str, Method] = {}
    label, share = _asked(method, sparsity, own)
    ground = groundwork(
        model,
        data,
        own,
        recipe=recipe,
        per_class=per_class,
        device=device,
        precision=precision,
        engine=asked_engine(engine, sparse),
        every=checkpoint_every,
    )
    planner = Planner(ground.conditions, own)
    if share is None:
        return Single(label, None, seed, ground, planner.plan, planner.dense(seed))
    arm = planner.original(label, share, seed, keep=True)
    check_spans(planner.plan.steps.values(), ground.conditions.training, data.train)
    # A budget that cannot be met fails here, not after the training that comes before the pruning.
    planned_budget(ground.built, *method_of(label, own), share)
    return Single(label, share, seed, ground, planner.plan, arm)


def _asked(method: MethodLike, sparsity: float | None, own: dict[str, Method]) -> tuple[str, float | None]:
    """The method's label and its sparsity, after checking that they go together."""
    if isinstance(method, str) and method == DENSE:
        if sparsity is not None:
            raise InputError(f"asked for sparsity {sparsity:g}, got the method {DENSE!r}, which prunes nothing.")
        return DENSE, None
    label = label_of(method, own)
    method_of(label, own)
    if sparsity is None:
        raise InputError(f"asked for a ticket of {label}, got no sparsity: give the fraction removed, such as 0.9.")
    return label, checked_sparsity(sparsity)
