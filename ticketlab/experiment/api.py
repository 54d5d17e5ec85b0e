"""check: the library's way into the machinery of studies."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ticketlab.data.types import Data
from ticketlab.data.user import from_user
from ticketlab.engine.recipe import Recipe
from ticketlab.errors import unknown
from ticketlab.experiment.compute import Progress
from ticketlab.experiment.factory import ModelLike
from ticketlab.experiment.groundwork import MethodLike
from ticketlab.experiment.prepare import prepare
from ticketlab.experiment.where import Where


def check(
    *methods: MethodLike,
    model: ModelLike,
    data: Any,
    sparsity: float | Sequence[float],
    seeds: int | None = None,
    until_decided: bool = False,
    checks: Sequence[str] | None = None,
    out: str | Path | None = None,
    jobs: int | Where = 1,
    recipe: Recipe | None = None,
    margin: str | float | None = None,
    progress: Progress | None = None,
    loggers: Sequence[Any] = (),
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
        seeds: how many (5 if None); at least 3 for a verdict.
        until_decided: add seeds to the undecided comparisons only, at looks of 3, 5, 8, 12 and 20.
        checks: names; the default ones if None; ["all"] for every one.
        out: the study's folder, so that it can be continued; a temporary one by default.
        jobs: worker processes, or a :class:`ticketlab.Where` (a Dask cluster, Slurm). The results do not depend on it.
        loggers: told of every finished training; see ``ticketlab.logging``.
        recipe: how tickets are trained; the data set's default if None.
        margin: what drop matters, in points or as a share of (dense - chance), "2%".
        settings_: ``alpha``, ``final``, ``multiplicity``, ``family``, ``test``, ``per_class``, ``device``,
            ``precision`` ("fp32", "bf16", "tf32"), ``engine`` (measured when a study begins if None),
            ``sparse`` ("on", "off" or "auto": whether tickets are trained on the sparse kernels),
            ``checkpoint_every`` (seconds), ``store`` (a folder or URL for the steps, which studies may share).

    Returns:
        A :class:`Report` with ``verdicts``, ``results`` (plain values), ``html(path)`` and a readable ``str``.

    Raises:
        InputError: anything wrong with the input, before any training.
    """
    known = {
        "alpha",
        "final",
        "multiplicity",
        "family",
        "test",
        "per_class",
        "device",
        "precision",
        "engine",
        "sparse",
        "checkpoint_every",
        "command",
        "store",
    }
    if set(settings_) - known:
        raise unknown("setting of check", sorted(set(settings_) - known)[0], sorted(known))
    with tempfile.TemporaryDirectory(prefix="ticketlab-") as scratch:
        prepared = prepare(
            methods,
            model=model,
            data=as_data(data),
            sparsity=_several(sparsity),
            seeds=seeds,
            until_decided=until_decided,
            checks=checks,
            folder=Path(scratch if out is None else out),
            recipe=recipe,
            margin=margin,
            **settings_,
        )
        results = prepared.run(jobs, progress, loggers)
    for line in sorted({failure["error"] for failure in results["failed"]}):
        warnings.warn(f"a step failed, and its comparisons have no answer: {line}", RuntimeWarning, stacklevel=2)
    return Report(results)


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


def _several(value: Any) -> list[Any]:
    """One or several values, as a list. A tensor without dimensions says that it can be iterated, and cannot."""
    return list(value) if isinstance(value, Iterable) and getattr(value, "ndim", 1) != 0 else [value]
