"""``ticketlab reproduce``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from ticketlab.commands.common import check_writable, unfinished
from ticketlab.experiment.estimate import estimate
from ticketlab.experiment.prepared import check_jobs
from ticketlab.report import reproduction as report
from ticketlab.report.progress import Progress
from ticketlab.report.words import duration
from ticketlab.reproduce import records
from ticketlab.reproduce.cells import select
from ticketlab.reproduce.compare import findings, lines
from ticketlab.reproduce.prepare import Group, prepare
from ticketlab.reproduce.published import Figures
from ticketlab.reproduce.records import Record
from ticketlab.reproduce.run import run, store_of
from ticketlab.reproduce.table import Table, load


def run_reproduce(options: argparse.Namespace) -> int:
    """Check the input, run what is missing, print what was published beside what came out."""
    table = load(options.table, options.quick)
    chosen = select(table, options.cell)
    figures = Figures.load(table)
    folder = Path(options.out) if options.out else Path("runs") / table.name.split("/")[0]
    for path, what in ((options.save, "the records"), (options.markdown, "the comparison")):
        if path:
            check_writable(Path(path), what, "table.jsonl" if what == "the records" else "table.md")
    more = [_of(table, records.load(Path(path))) for path in options.more]
    seeds = table.seeds if options.seeds is None else options.seeds
    if not options.show:
        on_gpu = str(options.device).startswith("cuda")
        jobs = options.jobs if options.jobs is not None else 1 if on_gpu else os.cpu_count() or 1
        check_jobs(jobs)
        groups = prepare(
            table,
            chosen,
            seeds=seeds,
            data_dir=options.data_dir,
            device=options.device,
            precision=options.precision,
            engine=options.engine,
            checkpoint_every=options.checkpoint_every,
            jobs=jobs,
        )
        if options.dry_run:
            _print_plan(groups, folder, seeds, jobs, Console(stderr=options.json))
            return 0
        steps = {step.id: step for group in groups for seed in range(seeds) for step in group.steps(seed)}
        with Progress(kinds=unfinished(steps.values(), store_of(folder))) as progress:
            run(table, groups, folder, seeds=seeds, jobs=jobs, progress=progress)
    protocol = "quick" if table.quick else "paper"
    found = records.merged(records.read(folder, table.name, protocol), *more)
    _say(
        options,
        report.Reproduction(
            table, figures, lines(table, figures, found), findings(table, figures, found, options.seeds), found
        ),
    )
    return 0


def _say(options: argparse.Namespace, found: report.Reproduction) -> None:
    if options.json:
        print(json.dumps(found.to_json(), indent=1, allow_nan=False), flush=True)
    else:
        report.render(found, Console())
    if options.save:
        records.save(Path(options.save), found.records)
        print(f"records: {options.save}", file=sys.stderr)
    if options.markdown:
        Path(options.markdown).write_text(report.markdown(found), encoding="utf-8")
        print(f"comparison: {options.markdown}", file=sys.stderr)


def _of(table: Table, found: Sequence[Record]) -> list[Record]:
    protocol = "quick" if table.quick else "paper"
    return [record for record in found if (record.table, record.protocol) == (table.name, protocol)]


def _print_plan(groups: Sequence[Group], folder: Path, seeds: int, jobs: int, console: Console) -> None:
    total = 0.0
    store = store_of(folder)
    for group in groups:
        steps = list({step.id: step for seed in range(seeds) for step in group.steps(seed)}.values())
        found = estimate(steps, group.ground.conditions, group.ground.context, store, jobs)
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(Counter(step.kind for step in steps).items()))
        console.print(
            f"{group.dataset} / {group.network}: {len(group.cells)} cells, {seeds} seeds, {kinds}, {found.done} "
            f"of them done; about {duration(found.seconds)} with {jobs} jobs",
            highlight=False,
        )
        total += found.seconds
    numerics = groups[0].ground.conditions.numerics
    console.print(
        f"in all about {duration(total)} on {numerics['device']} ({numerics['precision']}, {numerics['engine']}, "
        f"{torch.get_num_threads()} threads here)",
        highlight=False,
    )
