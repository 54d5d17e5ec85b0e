"""Everything that can be checked before a study starts, and its plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from torch import nn

from ticketlab.checks import resolve as resolve_check
from ticketlab.checks.registry import resolve_all
from ticketlab.data.types import Data
from ticketlab.engine.recipe import Recipe
from ticketlab.errors import InputError
from ticketlab.experiment import settings
from ticketlab.experiment import study as studies
from ticketlab.experiment.arms import ORIGINAL, Plan
from ticketlab.experiment.estimate import best_engine
from ticketlab.experiment.factory import ModelLike
from ticketlab.experiment.groundwork import MethodLike, check_spans, checked_sparsity, groundwork, label_of
from ticketlab.experiment.place import place_of
from ticketlab.experiment.plan import method_of, plan
from ticketlab.experiment.prepared import Prepared
from ticketlab.experiment.study import Study
from ticketlab.methods import Method
from ticketlab.pruning import planned_budget

SEEDS = 5


def prepare(
    methods: Sequence[MethodLike],
    *,
    model: ModelLike,
    data: Data,
    sparsity: Sequence[float],
    seeds: int | None = None,
    checks: Sequence[str] | None = None,
    folder: Path,
    recipe: Recipe | None = None,
    per_class: int = 10,
    margin: str | float | None = None,
    alpha: float = 0.05,
    final: bool = False,
    until_decided: bool = False,
    multiplicity: str = "holm",
    family: str = "report",
    test: str = "paired",
    device: str = "cpu",
    precision: str = "fp32",
    engine: str | None = None,
    sparse: str = "auto",
    checkpoint_every: float = 60.0,
    command: str = "",
    store: str | Path | None = None,
) -> Prepared:
    """Check everything that can be checked, and plan the study in ``folder``, new or grown.

    Either for a number of ``seeds`` (5 by default), or ``until_decided``: then the plan is that of its first look. Its
    steps are kept in ``store`` (a folder or URL that other studies may share), or in the folder itself.

    Raises:
        InputError: anything that is wrong with the input, before any training.
    """
    if not methods:
        raise InputError("asked for a check of no method, got nothing to compare.")
    own: dict[str, Method] = {}
    labels = tuple(dict.fromkeys(label_of(m, own) for m in methods))
    chosen = tuple(check.name for check in resolve_all(checks))
    for name in labels:
        method_of(name, own)
    for check in chosen:
        other = resolve_check(check).versus
        if other:
            method_of(other, own)
    sparsities = tuple(sorted(dict.fromkeys(checked_sparsity(s) for s in sparsity)))
    if not sparsities:
        raise InputError("asked for a study at no sparsity, got nothing to prune to.")
    if seeds is not None and seeds < 1:
        raise InputError(f"asked for {seeds} seeds, got fewer than one.")
    exists = studies.exists(folder)
    old = Study.load(folder) if exists else None
    _check_seeds(seeds, final, until_decided, old)
    place = place_of(folder, store)
    kept = _kept_engine(engine, sparse, old)
    ground = groundwork(
        model,
        data,
        own,
        recipe=recipe,
        per_class=per_class,
        device=device,
        precision=precision,
        engine=kept,
        every=checkpoint_every,
    )
    count = SEEDS if seeds is None else seeds
    wanted = settings.statistics(
        seeds=count if old is None or final else _first_look(old),
        final=final,
        until_decided=until_decided,
        alpha=alpha,
        margin=None if margin is None else str(margin),
        multiplicity=multiplicity,
        family=family,
        test=test,
        test_size=len(data.test),
        chance=data.chance,
    )
    study = Study(
        **vars(ground.conditions),
        statistics=wanted,
        methods=labels,
        checks=chosen,
        sparsities=sparsities,
        seeds=wanted["looks"][-1] if until_decided else count,
        command=command,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    if old is not None:
        study = old.grown(study)
    planned, context = plan(study, own), ground.context
    check_spans(planned.steps.values(), study.training, data.train)
    _check_budgets(planned, ground.built, own)
    if kept is None:
        best = best_engine(planned.steps.values(), study, context, sparse != "off")
        if best != study.numerics["engine"]:
            study = replace(study, numerics=settings.numerics(device, precision, best))
            planned, context = plan(study, own), replace(context, engine=best)
    return Prepared(study, planned, context, folder, own, old, place)


def _kept_engine(engine: str | None, sparse: str, old: Study | None) -> str | None:
    """The engine that is asked for, or that the study got when it began: it keeps that one."""
    asked = settings.asked_engine(engine, sparse)
    if asked is None and old is not None:
        asked = str(old.numerics["engine"])
        if sparse == "off" and asked == "sparse":
            raise InputError("asked for sparse training off, got a study of engine 'sparse'. Use another --out.")
    return asked


def _check_seeds(seeds: int | None, final: bool, until_decided: bool, old: Study | None) -> None:
    """Refuse two ways of choosing seeds at once, also one now and the other one when the study began."""
    if until_decided and final:
        raise InputError("asked for a final look, got a study that goes on until decided. Choose one of the two.")
    if until_decided and seeds is not None:
        raise InputError(
            f"asked for {seeds} seeds, got a study that goes on until decided: the looks choose its seeds. "
            "Choose one of the two."
        )
    if old is None or old.until_decided == until_decided:
        return
    use = "Use another --out for other looks: error rates hold for those that were planned."
    if until_decided:
        looks = ", ".join(map(str, old.statistics["looks"]))
        raise InputError(f"asked to go on until decided, got a study with looks at {looks} seeds. {use}")
    asked = "a final look" if final else "the usual seeds" if seeds is None else f"{seeds} seeds"
    raise InputError(f"asked for {asked}, got a study that goes on until decided: add --until-decided. {use}")


def _first_look(study: Study) -> int:
    return int(study.statistics["looks"][0])


def _check_budgets(planned: Plan, model: nn.Module, own: dict[str, Method]) -> None:
    """Let every budget that can fail do so now: those that need no score, of the tickets that are planned."""
    for arm in planned.arms:
        if arm.sparsity is None or arm.seed:
            continue
        kept = planned_budget(model, *method_of(arm.method, own), arm.sparsity)
        other = None if arm.check == ORIGINAL else resolve_check(arm.check).versus
        against = planned_budget(model, *method_of(other, own), arm.sparsity) if other else kept
        if kept != against:
            raise InputError(
                f"asked to compare {arm.method} with {other} at sparsity {arm.sparsity:g}, got {kept} weights kept "
                f"against {against}: no fair comparison."
            )
