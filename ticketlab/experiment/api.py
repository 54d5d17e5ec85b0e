"""check and find: the library's two ways into the machinery of studies."""

from __future__ import annotations

import contextlib
import json
import math
import pickle
import shlex
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from ticketlab import seeding, spec
from ticketlab.checks import resolve as resolve_check
from ticketlab.checks.registry import resolve_all
from ticketlab.data.types import Data
from ticketlab.data.user import from_user
from ticketlab.engine.recipe import Recipe, default_for
from ticketlab.errors import InputError
from ticketlab.experiment import settings
from ticketlab.experiment import study as studies
from ticketlab.experiment.estimate import Estimate, estimate
from ticketlab.experiment.execute import Context
from ticketlab.experiment.factory import Factory, ModelLike
from ticketlab.experiment.plan import DENSE, ORIGINAL, Plan, method_of, plan
from ticketlab.experiment.results import as_json, collect
from ticketlab.experiment.run import runner
from ticketlab.experiment.step import Step
from ticketlab.experiment.store import DamagedResult, Store
from ticketlab.experiment.study import Study
from ticketlab.methods import METHODS, Method
from ticketlab.models.fit import check_fit
from ticketlab.packing import write_atomically
from ticketlab.parameters import prunable
from ticketlab.scoring import ScoreFunction

_RESULTS = "results.json"
MethodLike = str | Method | ScoreFunction


class Progress(Protocol):
    """Told how a study advances."""

    def start(self, total: int, done: int) -> None:
        """``total`` steps, ``done`` of them finished before."""

    def advance(self, kind: str, label: str, seconds: float, linked: bool) -> None:
        """One more step is finished."""

    def finish(self) -> None:
        """No more steps."""


@dataclass
class Prepared:
    """A study that could start: everything is checked, nothing has run."""

    study: Study
    plan: Plan
    context: Context
    folder: Path
    methods: dict[str, Method]
    before: Study | None = None

    @property
    def store(self) -> Store:
        """The study's store."""
        return Store(self.folder / "store")

    def estimate(self, jobs: int) -> Estimate:
        """What it will take."""
        return estimate(self.plan.steps.values(), self.study, self.context, self.store, jobs)

    def unfinished(self) -> list[Step]:
        """The steps that the store lacks."""
        store = self.store
        return [step for step in self.plan.steps.values() if step.id not in store]

    def run(self, jobs: int = 1, progress: Progress | None = None) -> dict[str, Any]:
        """Compute what is missing, and the results document."""
        store = self.store
        check_jobs(jobs)
        _check_portable(self.context, jobs)
        self._check_comparisons()
        self.study.save(self.folder)
        steps = list(self.plan.ordered())
        untrained = self._untrained(store)
        done = sum(step.id in store for step in steps)
        if progress:
            progress.start(len(steps), done)

        def tell(step: Step, seconds: float, linked: bool) -> None:
            if progress:
                progress.advance(step.kind, step.label, seconds, linked)

        try:
            while True:
                if any(step.id not in store for step in steps):
                    runner(self.context, jobs).run(steps, store, tell)
                # Collecting may find a damaged result, which is put aside then, so that the next pass computes it.
                with contextlib.suppress(DamagedResult):
                    results = collect(self.study, self.plan, store, self.methods)
                    write_atomically(self.folder / _RESULTS, as_json(results).encode())
                    return results
        except InputError:
            # A method that fails before anything was trained for it has no place in the study: it would fail for ever.
            if self._untrained(store) == untrained:
                self._withdraw()
            raise
        finally:
            if progress:
                progress.finish()

    def _check_comparisons(self) -> None:
        if all(arm.check in (ORIGINAL, DENSE) for arm in self.plan.arms):
            reasons = "; ".join(f"{e['method']}, {e['check']}: {e['why']}" for e in self.plan.not_applicable[:5])
            raise InputError(f"asked for a study, got nothing to compare. Not applicable: {reasons}.")

    def _untrained(self, store: Store) -> int:
        return sum(step.kind == "train" and step.id not in store for step in self.plan.steps.values())

    def _withdraw(self) -> None:
        if self.before is not None:
            self.before.save(self.folder)
        else:
            studies.forget(self.folder)


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


def reopen(folder: Path) -> tuple[Study, dict[str, Any]]:
    """A study as its folder has it, and what its finished steps say. Needs neither the data nor the model.

    A complete run wrote its results, and those are shown: a score of the user's own may have been edited since, or may
    not be found from here.

    Raises:
        InputError: no study is there, or one of its methods cannot be found and it never ran to its end.
    """
    study = Study.load(folder)
    written = _written(folder)
    if (
        written.get("complete")
        and written["statistics"]["seeds"] == study.seeds
        and all(_asked(written, part) == list(getattr(study, part)) for part in ("methods", "checks", "sparsities"))
    ):
        return study, written
    planned, store = plan(study), Store(folder / "store")
    while True:
        # A damaged result is put aside and counts as not finished.
        with contextlib.suppress(DamagedResult):
            return study, collect(study, planned, store)


def _asked(written: dict[str, Any], part: str) -> list[Any]:
    """The methods, checks or sparsities that a document is about, as the study names them."""
    names = {"methods": "label", "checks": "name"}
    return [entry[names[part]] if part in names else entry for entry in written[part]]


def _written(folder: Path) -> dict[str, Any]:
    """The results that the last run wrote; nothing if there are none, or none that can be read."""
    try:
        written = json.loads((folder / _RESULTS).read_text())
    except (OSError, ValueError):
        return {}
    return written if isinstance(written, dict) else {}


def check(
    *methods: MethodLike,
    model: ModelLike,
    data: Any,
    sparsity: float | Sequence[float],
    seeds: int = 5,
    checks: Sequence[str] | None = None,
    out: str | Path | None = None,
    jobs: int = 1,
    recipe: Recipe | None = None,
    margin: str | float | None = None,
    progress: Progress | None = None,
    **settings_: Any,
) -> Report:
    """Does a pruning method find anything that a random mask with the same layer ratios would not?

    Trains the method's tickets and their tampered twins over several seeds and judges every difference.

    Args:
        methods: registered names (with options, "grasp,temperature=1"), ``Method`` objects or score functions.
        model: a name, "package:factory", a factory, or a module.
        data: ``(train, test)``, each a map-style Dataset or ``(inputs, targets)`` tensors; or a ``Data``, or the
            name of a data set.
        sparsity: fractions removed.
        seeds: how many; at least 3 for a verdict.
        checks: names; the default ones if None; ["all"] for every one.
        out: the study's folder, so that it can be continued; a temporary one by default.
        jobs: worker processes. The results do not depend on it.
        recipe: how tickets are trained; the data set's default if None.
        margin: what drop matters, in points or as a share of (dense - chance), "2%".
        settings_: ``alpha``, ``final``, ``multiplicity``, ``family``, ``test``, ``per_class``, ``device``.

    Returns:
        A :class:`Report` with ``verdicts``, ``results`` (plain values), ``html(path)`` and a readable ``str``.

    Raises:
        InputError: anything wrong with the input, before any training.
    """
    known = {"alpha", "final", "multiplicity", "family", "test", "per_class", "device", "command"}
    if set(settings_) - known:
        from ticketlab.errors import unknown

        raise unknown("setting of check", sorted(set(settings_) - known)[0], sorted(known))
    with tempfile.TemporaryDirectory(prefix="ticketlab-") as scratch:
        prepared = prepare(
            methods,
            model=model,
            data=as_data(data),
            sparsity=_several(sparsity),
            seeds=seeds,
            checks=checks,
            folder=Path(scratch if out is None else out),
            recipe=recipe,
            margin=margin,
            **settings_,
        )
        return Report(prepared.run(jobs, progress))


@dataclass(frozen=True)
class Report:
    """What a check found. ``results`` is the whole document in plain values."""

    results: dict[str, Any]

    @property
    def verdicts(self) -> list[dict[str, Any]]:
        """One entry per method, check and sparsity: drop, interval, verdict, and the numbers behind it."""
        return list(self.results["verdicts"])

    def html(self, path: str | Path) -> None:
        """Write one self-contained HTML file."""
        from ticketlab.report.html import write

        write(self.results, Path(path))

    def __str__(self) -> str:
        from io import StringIO

        from rich.console import Console

        from ticketlab.report.terminal import render

        console = Console(file=StringIO(), width=100, no_color=True)
        render(self.results, console)
        return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def as_data(data: Any) -> Data:
    """A data set from its name, from ``(train, test)``, or as it is."""
    if isinstance(data, str):
        from ticketlab.data.load import load

        return load(data)
    return data if isinstance(data, Data) else from_user(data)


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
    from ticketlab.budget import check_sparsity

    # Scalars of numpy and torch are numbers too; in single precision they have seven digits.
    number = float(f"{float(value):.7g}") if hasattr(value, "item") and not isinstance(value, float) else value
    check_sparsity(number)
    return float(number)


def _drawn(factory: Factory, built: nn.Module) -> bool:
    """Whether another seed gives another initialisation."""
    with seeding.isolated(1, "shape"):
        other = factory()
    return any(not torch.equal(a, b) for a, b in zip(built.parameters(), other.parameters(), strict=True))


def _several(value: Any) -> list[Any]:
    """One or several values, as a list. A tensor without dimensions says that it can be iterated, and cannot."""
    return list(value) if isinstance(value, Iterable) and getattr(value, "ndim", 1) != 0 else [value]


def _first_look(study: Study) -> int:
    return int(study.statistics["looks"][0])


def _check_budgets(study: Study, model: nn.Module, own: dict[str, Method]) -> None:
    """Let every budget that can fail do so now: those that need no score."""
    from ticketlab.pruning import planned_budget

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


def _check_portable(context: Context, jobs: int) -> None:
    """With worker processes, the model's factory and the user's scores must be importable there."""
    if jobs == 1:
        return
    sent = context.__getstate__()
    for what, thing in [("model", context.build), *((f"method {n}", m) for n, m in sent["methods"].items())]:
        try:
            pickle.dumps(thing)
        except Exception as error:
            raise InputError(
                f"asked for {jobs} jobs, got a {what} that cannot be sent to other processes ({error}). "
                "Define it at the top level of a module, or use jobs=1."
            ) from error


def check_jobs(jobs: int) -> None:
    """Refuse a number of processes with which nothing could run."""
    if jobs < 1:
        raise InputError(f"asked for {jobs} jobs, got fewer than one.")


def shell(arguments: Sequence[str]) -> str:
    """A command line as one would type it."""
    return shlex.join(["ticketlab", *arguments])
