"""``ticketlab reproduce``."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from ticketlab.commands.common import check_writable, loggers_of, tell_failed, unfinished, where_of
from ticketlab.errors import InputError
from ticketlab.experiment.estimate import estimate
from ticketlab.experiment.run import Failure
from ticketlab.experiment.store import Store
from ticketlab.packing import write_atomically
from ticketlab.report import reproduction as report
from ticketlab.report.progress import Progress
from ticketlab.report.words import duration
from ticketlab.reproduce import records
from ticketlab.reproduce.cells import Cell, select
from ticketlab.reproduce.compare import findings, lines
from ticketlab.reproduce.prepare import Group, prepare
from ticketlab.reproduce.protocol import sift
from ticketlab.reproduce.published import Figures
from ticketlab.reproduce.records import Record
from ticketlab.reproduce.run import run, store_of
from ticketlab.reproduce.table import Table, load


def run_reproduce(options: argparse.Namespace) -> int:
    """Check the input, run what is missing, print what was published beside what came out."""
    table = load(options.table, options.quick)
    chosen = _chosen(table, options)
    figures = Figures.load(table)
    folder = Path(options.out) if options.out else Path("runs") / table.name.split("/")[0]
    _check_files(options)
    more = [records.load(Path(path)) for path in options.more]
    seeds = table.seeds if options.seeds is None else options.seeds
    if seeds < 1:
        raise InputError(f"asked for {seeds} seeds, got fewer than one.")
    groups: list[Group] = []
    failures: list[Failure] = []
    if not options.show:
        if not options.dry_run:
            check_writable(folder / "records" / "any", "steps and records", "any")
        on_gpu = str(options.device).startswith("cuda")
        where, loggers = where_of(options, 1 if on_gpu else None), loggers_of(options)
        groups = prepare(
            table,
            chosen,
            seeds=seeds,
            data_dir=options.data_dir,
            device=options.device,
            precision=options.precision,
            engine=options.engine,
            sparse=options.sparse,
            checkpoint_every=options.checkpoint_every,
            jobs=None if where.elsewhere else where.jobs,
        )
        if options.dry_run:
            _print_plan(groups, store_of(folder, options.store), seeds, where.jobs, Console(stderr=options.json))
            return 0
        steps = {step.id: step for group in groups for seed in range(seeds) for step in group.steps(seed)}
        with Progress(kinds=unfinished(steps.values(), store_of(folder, options.store))) as progress:
            failures = run(
                table,
                groups,
                folder,
                seeds=seeds,
                jobs=where,
                progress=progress,
                place=options.store,
                loggers=loggers,
            )
    protocol = "quick" if table.quick else "paper"
    found = sift(
        table, records.merged(records.read(folder, table.name, protocol), *more), options.precision, groups
    )  # fmt: skip
    _say(
        options,
        report.Reproduction(
            table,
            figures,
            lines(table, figures, found.kept),
            findings(table, figures, found.kept, options.seeds),
            found.kept,
            found.left_out,
        ),
    )
    tell_failed((failure.step.label, failure.text) for failure in failures)
    return 1 if failures else 0


def _chosen(table: Table, options: argparse.Namespace) -> list[Cell]:
    try:
        return select(table, options.cell)
    except InputError as error:
        if table.quick:
            _refuse_full(options, error)
        raise


def _refuse_full(options: argparse.Namespace, error: InputError) -> None:
    """Say so where the cells asked for are the full table's: the quick form is a table of its own."""
    try:
        select(load(options.table), options.cell)
    except InputError:
        return
    raise InputError(
        f"{error} The full table has it: leave --quick out, or ask for a cell of the quick form."
    ) from None


def _check_files(options: argparse.Namespace) -> None:
    """Refuse what could not be written in the end, and what is there and would be lost."""
    for given, what, example in (
        (options.save, "the records", "table.jsonl"),
        (options.markdown, "the comparison", "table.md"),
    ):
        if given:
            check_writable(Path(given), what, example)
    if options.save:
        _saved(Path(options.save))
    if options.markdown and options.save and Path(options.markdown).resolve() == Path(options.save).resolve():
        raise InputError(f"asked to write the records and the comparison to {options.save}, got one file for both.")


def _saved(path: Path) -> list[Record]:
    """What a file of records holds by now; nothing if there is none."""
    return records.load(path) if path.exists() else []


def _say(options: argparse.Namespace, found: report.Reproduction) -> None:
    if options.save:
        path = Path(options.save)
        before = _saved(path)
        kept = records.merged(before, found.records)
        records.save(path, kept)
        print(f"records: {path}, {len(kept) - len(before)} new of {len(kept)}", file=sys.stderr)
    if options.markdown:
        write_atomically(Path(options.markdown), report.markdown(found).encode())
        print(f"comparison: {options.markdown}", file=sys.stderr)
    if options.json:
        print(json.dumps(found.to_json(), indent=1, allow_nan=False), flush=True)
    else:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A terminal that has no ± gets a question mark, not an error.
            sys.stdout.reconfigure(errors="replace")
        report.render(found, Console())


def _print_plan(groups: Sequence[Group], store: Store, seeds: int, jobs: int, console: Console) -> None:
    total = 0.0
    for group in groups:
        steps = list({step.id: step for seed in range(seeds) for step in group.steps(seed)}.values())
        found = estimate(steps, group.ground.conditions, group.ground.context, store, jobs)
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(Counter(step.kind for step in steps).items()))
        console.print(
            f"{group.dataset} / {group.network}: {_counted(len(group.cells), 'cell')}, {_counted(seeds, 'seed')}, "
            f"{kinds}, {found.done} of them done; about {duration(found.seconds)} with {_counted(jobs, 'job')}",
            highlight=False,
            markup=False,
        )
        total += found.seconds
    numerics = groups[0].ground.conditions.numerics
    console.print(
        f"in all about {duration(total)} on {numerics['device']} ({numerics['precision']}, {numerics['engine']}, "
        f"{torch.get_num_threads()} threads here)",
        highlight=False,
        markup=False,
    )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
