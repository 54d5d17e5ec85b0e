"""``ticketlab check``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from ticketlab.commands.common import (
    check_writable,
    data_of,
    default_folder,
    loggers_of,
    recipe_of,
    shell,
    tell_failed,
    unfinished,
    where_of,
)
from ticketlab.engine.memory import gigabytes
from ticketlab.experiment.prepare import prepare
from ticketlab.experiment.prepared import Prepared
from ticketlab.experiment.results import as_json
from ticketlab.experiment.settings import before_any_run
from ticketlab.experiment.study import Study
from ticketlab.report import require
from ticketlab.report.html import write as write_html
from ticketlab.report.progress import Progress
from ticketlab.report.terminal import render
from ticketlab.stats import feasible

# The options that a study may grow in, and those that do not touch its results: its default folder's name has neither.
_MAY_GROW = {"command", "methods", "checks", "sparsity", "seeds", "final"}
_NO_MATTER = {
    "out", "store", "jobs", "scheduler", "slurm", "dashboard", "dry_run", "html", "json", "require", "checkpoint_every",
    "tensorboard",
}  # fmt: skip


def run_check(options: argparse.Namespace, arguments: list[str]) -> int:
    """Check the input, run the study, print and write what it says."""
    folder = Path(options.out) if options.out else _default_folder(options)
    where, loggers = where_of(options), loggers_of(options)
    page = Path(options.html) if options.html else folder / "report.html"
    if options.html:
        check_writable(page, "the report", "report.html")
    prepared = _prepare(options, arguments, folder)
    if options.dry_run:
        _print_plan(prepared, where.jobs, Console(stderr=options.json))
        return 0
    # A requirement that names what the study does not hold is an error now, not after hours of training.
    wanted = [require.parse(text, _names(prepared.study)) for text in options.require]
    # Until decided, nobody knows what the later looks will take.
    kinds = None if prepared.study.until_decided else unfinished(prepared.plan.steps.values(), prepared.store)
    with Progress(kinds=kinds) as progress:
        results = prepared.run(where, progress, loggers)
    # What was computed is said first: nothing that goes wrong with the page may cost it.
    if options.json:
        print(as_json(results), flush=True)
    else:
        render(results, Console())
    write_html(results, page)
    console = Console(stderr=True)
    console.print(f"report: {page}", highlight=False, soft_wrap=True)
    unmet = require.unmet(wanted, results)
    for line in unmet:
        print(f"not met: {line}", file=sys.stderr)
    tell_failed((failure["label"], failure["error"]) for failure in results["failed"])
    return 1 if unmet or results["failed"] else 0


def _default_folder(options: argparse.Namespace) -> Path:
    # A study of fixed seeds keeps the name that it had before there was a choice.
    fixed = set() if options.until_decided else {"until_decided"}
    return default_folder(options, _MAY_GROW | _NO_MATTER | fixed)


def _prepare(options: argparse.Namespace, arguments: list[str], folder: Path) -> Prepared:
    recipe = recipe_of(options)
    return prepare(
        options.methods,
        model=options.model,
        data=data_of(options),
        sparsity=options.sparsity,
        seeds=options.seeds,
        until_decided=options.until_decided,
        checks=options.checks,
        folder=folder,
        recipe=recipe,
        per_class=options.per_class,
        margin=options.margin,
        alpha=options.alpha,
        final=options.final,
        multiplicity=options.multiplicity,
        family=options.family,
        test=options.test,
        device=options.device,
        precision=options.precision,
        engine=options.engine,
        sparse=options.sparse,
        checkpoint_every=options.checkpoint_every,
        command=shell(arguments),
        store=options.store,
    )


def _names(study: Study) -> dict[str, Any]:
    """The part of the results that requirements are checked against."""
    return {
        "methods": [{"label": m} for m in study.methods],
        "checks": [{"name": c} for c in study.checks],
        "sparsities": list(study.sparsities),
    }


def _print_plan(prepared: Prepared, jobs: int, console: Console) -> None:
    study, found = prepared.study, prepared.estimate(jobs)
    total = sum(found.steps.values())
    kinds = ", ".join(f"{n} {kind}" for kind, n in found.steps.items())
    first = f"first look, {study.statistics['looks'][0]} seeds: " if study.until_decided else ""
    console.print(f"{first}{total} steps ({kinds}), {found.done} of them done", highlight=False)
    numerics = study.numerics
    console.print(f"engine: {numerics['engine']} on {numerics['device']}, {numerics['precision']}", highlight=False)
    console.print(f"estimated time: {_clock(found.seconds)} with {jobs} jobs", highlight=False)
    console.print(f"estimated memory: {gigabytes(found.memory)} a process, for data and tickets", highlight=False)
    console.print(f"estimated disk: {gigabytes(found.disk)} in the store", highlight=False)
    if study.until_decided:
        most = prepared.estimate_of_most(jobs)
        console.print(
            f"at most, if nothing is decided by {study.seeds} seeds: {sum(most.steps.values())} steps, "
            f"{_clock(most.seconds)}, {gigabytes(most.disk)} of disk",
            highlight=False,
        )
    for entry in prepared.plan.not_applicable:
        console.print(f"not applicable: {entry['method']}, {entry['check']}: {entry['why']}", highlight=False)
    family = sum(1 for arm in prepared.plan.arms if arm.seed == 0 and arm.check not in ("original", "dense"))
    settings = before_any_run(study.statistics, study.data["test"], study.data["chance"])
    console.print(f"a family of {family} comparisons, margin about {settings.margin:.2f} points:", highlight=False)
    for row in feasible(settings, max(family, 1)):
        console.print(
            f"  {row.seeds} seeds: 'does not use' is possible up to sd {row.sd_equiv:.2f} of the differences, "
            f"a drop of one margin shows up to sd {row.sd_diff:.2f}",
            highlight=False,
        )


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
