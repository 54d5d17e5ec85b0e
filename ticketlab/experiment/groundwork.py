"""What a study and a single ticket have in common before anything runs: checked input, and the conditions it sets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ticketlab import seeding, spec
from ticketlab.budget import check_sparsity
from ticketlab.data import corruption
from ticketlab.data.types import Data, Split
from ticketlab.data.variants import FIRST_HALF, examples_left
from ticketlab.engine.engine import probed
from ticketlab.engine.kinds import example, open_engine
from ticketlab.engine.recipe import Recipe, default_for
from ticketlab.engine.schedule import Schedule
from ticketlab.errors import InputError
from ticketlab.experiment import settings
from ticketlab.experiment.conditions import Conditions
from ticketlab.experiment.context import Context
from ticketlab.experiment.factory import Factory, ModelLike
from ticketlab.experiment.step import Step
from ticketlab.methods import METHODS, Method
from ticketlab.models.fit import check_fit
from ticketlab.parameters import prunable
from ticketlab.scoring import ScoreFunction

MethodLike = str | Method | ScoreFunction


@dataclass(frozen=True)
class Groundwork:
    """The conditions of all trainings, what steps run with, and one model of the kind, to look at."""

    conditions: Conditions
    context: Context
    built: nn.Module


def groundwork(
    model: ModelLike,
    data: Data,
    own: dict[str, Method],
    *,
    recipe: Recipe | None,
    per_class: int,
    device: str,
    precision: str = "fp32",
    engine: str | None = None,
    every: float = 60.0,
) -> Groundwork:
    """Check that model, data and device go together, and write down what they are.

    Args:
        own: the methods that have no spec, by name.
        recipe: the data set's default if None.
        engine: the usual one if None.
        every: seconds between two checkpoints of a training.

    Raises:
        InputError: a model that cannot be built, cannot be pruned or does not fit the data; no such device,
            precision or engine; a recipe without a step; fewer than one scoring image per class.
    """
    if per_class < 1:
        raise InputError(f"asked for {per_class} scoring images per class, got fewer than one.")
    if not (math.isfinite(every) and every >= 0):
        raise InputError(f"asked for a checkpoint every {every} seconds, got no number of at least 0.")
    factory = Factory(model, data.classes, data.in_shape)
    with seeding.isolated(0, "shape"):
        built = factory()
    weights = prunable(built)
    check_fit(built, data)
    probed(built, example(data, torch.device("cpu")))
    conditions = Conditions(
        data={
            "name": data.name,
            "classes": data.classes,
            "in_shape": list(data.in_shape),
            "train": len(data.train),
            "test": len(data.test),
            "chance": data.chance,
            "fingerprint": data.fingerprint,
        },
        model={
            "name": factory.name,
            "identity": factory.identity(),
            "drawn": _drawn(factory, built),
            "prunable": sum(w.numel() for w in weights.values()),
            "parameters": sum(p.numel() for p in built.parameters()),
            "layers": {name: w.numel() for name, w in weights.items()},
        },
        recipe=(recipe or default_for(data.name)).to_json(),
        numerics=settings.numerics(device, precision, engine or settings.USUAL_ENGINE),
        scoring={"per_class": per_class},
    )
    Schedule(conditions.training, len(data.train))
    if conditions.numerics["engine"] == "sparse":
        # What its kernels cannot train is said now, and not by the first worker that opens it.
        open_engine("sparse", built, data, conditions.training, precision=precision, device=device)
    return Groundwork(conditions, context_of(conditions, data, factory, own, every), built)


def context_of(
    conditions: Conditions, data: Data, build: Callable[[], nn.Module], own: dict[str, Method], every: float
) -> Context:
    """What steps under these conditions run with."""
    numerics = conditions.numerics
    threads, precision, engine = (numerics[name] for name in ("threads_per_ticket", "precision", "engine"))
    batch_size = conditions.training.batch_size
    return Context(data, build, own, numerics["device"], threads, precision, engine, every, batch_size)


def check_spans(steps: Iterable[Step], recipe: Recipe, train: Split) -> None:
    """Refuse trainings that the data do not allow: half of them may have no step where the whole has one.

    Raises:
        InputError: naming the training.
    """
    examples = len(train)
    for step in steps:
        if step.kind == "data" and step.params["variant"] == FIRST_HALF:
            corruption.check_first_half(train, recipe.batch_size)
        if step.kind == "train":
            number = examples_left(step.params["variant"], examples, recipe.batch_size)
            start, until = step.params["start"], step.params["until"]
            first, end = Schedule(recipe, number).span(start, until)
            if start < until and first == end:
                raise InputError(
                    f"asked for {step.label} from epoch {start:g} to epoch {until:g}, got {number} examples, of which "
                    f"an epoch has {Schedule(recipe, number).per_epoch} steps: not one falls into that part."
                )


def label_of(method: MethodLike, own: dict[str, Method]) -> str:
    """The method's name in studies and messages; objects are remembered in ``own`` under theirs.

    Raises:
        InputError: an unknown name, an option that is not finite, or a name that something else has.
    """
    if isinstance(method, str):
        name, options = spec.parse(method)
        spec.resolve(method)
        label = spec.label(name, options)
        for key, value in options.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(f"asked for {method!r}, got {key}={value}: give a finite number.")
        return label
    found, _ = spec.resolve(method)
    if METHODS.get(found.name, found) != found:
        raise InputError(f"asked for a method of your own, got the name {found.name!r} of a registered one: rename it.")
    if own.setdefault(found.name, found) != found:
        raise InputError(f"asked for two methods of the name {found.name!r}, got different ones: rename one.")
    return found.name


def checked_sparsity(value: Any) -> float:
    """The sparsity as a plain number in [0, 1).

    Raises:
        InputError: it is none.
    """
    # Scalars of numpy and torch are numbers too; in single precision they have seven digits.
    number = float(f"{float(value):.7g}") if hasattr(value, "item") and not isinstance(value, float) else value
    check_sparsity(number)
    return float(number)


def _drawn(factory: Factory, built: nn.Module) -> bool:
    """Whether another seed gives another initialisation."""
    with seeding.isolated(1, "shape"):
        other = factory()
    return any(not torch.equal(a, b) for a, b in zip(built.parameters(), other.parameters(), strict=True))
