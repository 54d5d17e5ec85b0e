"""Everything that can be checked before a study starts, and its plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ticketlab import seeding, spec
from ticketlab.budget import check_sparsity
from ticketlab.checks import resolve as resolve_check
from ticketlab.checks.registry import resolve_all
from ticketlab.data.types import Data
from ticketlab.engine.recipe import Recipe, default_for
from ticketlab.errors import InputError
from ticketlab.experiment import settings
from ticketlab.experiment import study as studies
from ticketlab.experiment.execute import Context
from ticketlab.experiment.factory import Factory, ModelLike
from ticketlab.experiment.plan import method_of, plan
from ticketlab.experiment.prepared import Prepared
from ticketlab.experiment.study import Study
from ticketlab.methods import METHODS, Method
from ticketlab.models.fit import check_fit
from ticketlab.parameters import prunable
from ticketlab.pruning import planned_budget
from ticketlab.scoring import ScoreFunction

MethodLike = str | Method | ScoreFunction


def prepare(
    methods: Sequence[MethodLike],
    *,
    model: ModelLike,
    data: Data,
    sparsity: Sequence[float],
    seeds: int = 5,
    checks: Sequence[str] | None = None,
    folder: Path,
    recipe: Recipe | None = None,
    per_class: int = 10,
    margin: str | float | None = None,
    alpha: float = 0.05,
    final: bool = False,
    multiplicity: str = "holm",
    family: str = "report",
    test: str = "paired",
    device: str = "cpu",
    command: str = "",
) -> Prepared:
    """Check everything that can be checked, and plan the study in ``folder``, new or grown.

    Raises:
        InputError: anything that is wrong with the input, before any training.
    """
    if not methods:
        raise InputError("asked for a check of no method, got nothing to compare.")
    own: dict[str, Method] = {}
    labels = tuple(dict.fromkeys(_label(m, own) for m in methods))
    chosen = tuple(check.name for check in resolve_all(checks))
    for name in labels:
        method_of(name, own)
    for check in chosen:
        other = resolve_check(check).versus
        if other:
            method_of(other, own)
    sparsities = tuple(sorted(dict.fromkeys(_sparsity(s) for s in sparsity)))
    if not sparsities:
        raise InputError("asked for a study at no sparsity, got nothing to prune to.")
    if seeds < 1:
        raise InputError(f"asked for {seeds} seeds, got fewer than one.")
    if per_class < 1:
        raise InputError(f"asked for {per_class} scoring images per class, got fewer than one.")
    factory = Factory(model, data.classes, data.in_shape)
    with seeding.isolated(0, "shape"):
        built = factory()
    weights = prunable(built)
    check_fit(built, data)
    chance = data.chance
    exists = studies.exists(folder)
    old = Study.load(folder) if exists else None
    wanted = settings.statistics(
        seeds=seeds if old is None or final else _first_look(old),
        final=final,
        alpha=alpha,
        margin=None if margin is None else str(margin),
        multiplicity=multiplicity,
        family=family,
        test=test,
        test_size=len(data.test),
        chance=chance,
    )
    study = Study(
        data={
            "name": data.name,
            "classes": data.classes,
            "in_shape": list(data.in_shape),
            "train": len(data.train),
            "test": len(data.test),
            "chance": chance,
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
        numerics=settings.numerics(device),
        scoring={"per_class": per_class},
        statistics=wanted,
        methods=labels,
        checks=chosen,
        sparsities=sparsities,
        seeds=seeds,
        command=command,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    if old is not None:
        study = old.grown(study)
    context = Context(data, factory, own, device, study.numerics["threads_per_ticket"])
    planned = plan(study, own)
    _check_budgets(study, built, own)
    return Prepared(study, planned, context, folder, own, old)


def _label(method: MethodLike, own: dict[str, Method]) -> str:
    """The method's name in the study; objects are remembered under theirs."""
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


def _sparsity(value: Any) -> float:
    # Scalars of numpy and torch are numbers too; in single precision they have seven digits.
    number = float(f"{float(value):.7g}") if hasattr(value, "item") and not isinstance(value, float) else value
    check_sparsity(number)
    return float(number)


def _drawn(factory: Factory, built: nn.Module) -> bool:
    """Whether another seed gives another initialisation."""
    with seeding.isolated(1, "shape"):
        other = factory()
    return any(not torch.equal(a, b) for a, b in zip(built.parameters(), other.parameters(), strict=True))


def _first_look(study: Study) -> int:
    return int(study.statistics["looks"][0])


def _check_budgets(study: Study, model: nn.Module, own: dict[str, Method]) -> None:
    """Let every budget that can fail do so now: those that need no score."""
    others = list(filter(None, (resolve_check(c).versus for c in study.checks)))
    for sparsity in study.sparsities:
        kept = {}
        for name in dict.fromkeys([*study.methods, *others]):
            method, options = method_of(name, own)
            kept[name] = planned_budget(model, method, options, sparsity)
        for other in others:
            for name in study.methods:
                if kept[name] != kept[other]:
                    raise InputError(
                        f"asked to compare {name} with {other} at sparsity {sparsity:g}, got {kept[name]} weights kept "
                        f"against {kept[other]}: no fair comparison."
                    )
