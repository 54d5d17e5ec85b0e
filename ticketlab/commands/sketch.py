"""``ticketlab sketch``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ticketlab.commands.common import check_writable, shell
from ticketlab.commands.sketch_options import checked_options, draws_of, kinds_of
from ticketlab.data.load import load
from ticketlab.experiment.identity import digest
from ticketlab.experiment.results import as_json
from ticketlab.packing import write_atomically
from ticketlab.report.sketch_findings import findings
from ticketlab.report.sketch_html import write as write_html
from ticketlab.report.sketch_terminal import render
from ticketlab.sketch.document import document
from ticketlab.sketch.linear import features, regression, targets
from ticketlab.sketch.study import Plan, study

# Where results go touches no result: the default folder's name has none of it.
_NO_MATTER = {"command", "out", "html", "json"}


def run_sketch(options: argparse.Namespace, arguments: list[str]) -> int:
    """Check the input, run the study, print and write what it says."""
    checked_options(options)
    kinds = kinds_of(options.kinds)
    folder = Path(options.out) if options.out else _default_folder(options)
    page = Path(options.html) if options.html else folder / "report.html"
    check_writable(folder / "results.json", "the results", "results.json")
    check_writable(page, "the report", "report.html")
    data = load(options.data, options.data_dir, options.limit_train)
    # Named from 0, whether or not the training images show all of them.
    classes = tuple(options.classes) if options.classes else tuple(sorted(set(data.train.targets.tolist())))
    Y = targets(data.train.targets, classes)
    size = data.train.inputs[0].numel()
    plan = Plan(
        kinds,
        draws_of(options.draws, size),
        tuple(options.distances),
        classes,
        options.steps,
        options.masks,
        options.init_std if options.init_std is not None else size**-0.5,
        options.seed,
    )
    problem = regression(features(data.train.inputs, options.standardise), Y)
    with _progress() as bar:
        task = bar.add_task("measuring", total=None)
        found = study(problem, plan, lambda done, total: bar.update(task, completed=done, total=total))
    about = {"name": options.data, "standardised": options.standardise, "fingerprint": data.fingerprint}
    results = document(found, data=about, command=shell(arguments))
    results["answer"] = findings(results)
    text = as_json(results)
    try:
        write_atomically(folder / "results.json", text.encode())
        write_html(results, page)
    finally:
        # Said whatever goes wrong with the files, and after them: who reads may go away.
        if options.json:
            print(text, flush=True)
        else:
            render(results, Console())
    print(f"report: {page}", file=sys.stderr)
    return 0


def _default_folder(options: argparse.Namespace) -> Path:
    kept = {name: repr(value) for name, value in vars(options).items() if name not in _NO_MATTER}
    return Path("runs") / f"sketch-{options.data}-{digest(kept)[:6]}"


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
