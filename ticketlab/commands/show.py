"""``ticketlab show`` and ``ticketlab report``: read a study's folder, compute nothing."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from ticketlab.errors import InputError
from ticketlab.experiment.prepared import reopen
from ticketlab.experiment.results import as_json
from ticketlab.packing import write_atomically
from ticketlab.report import tables
from ticketlab.report.html import write as write_html
from ticketlab.report.terminal import render


def run_show(options: argparse.Namespace) -> int:
    """Print what a study says."""
    _, results = reopen(Path(options.folder), options.own_code)
    if options.json:
        print(as_json(results))
    else:
        render(results, Console())
    return 0


def run_report(options: argparse.Namespace) -> int:
    """Write the files that were asked for."""
    wanted = [kind for kind in ("html", "csv", "runs_csv", "latex", "json") if getattr(options, kind)]
    if not wanted:
        raise InputError("asked for a report, got no file to write: add --html, --csv, --runs-csv, --latex or --json.")
    _, results = reopen(Path(options.folder), options.own_code)
    for kind in wanted:
        path = Path(getattr(options, kind))
        if kind == "html":
            write_html(results, path)
            continue
        text = {
            "csv": tables.to_csv,
            "runs_csv": tables.runs_csv,
            "latex": tables.to_latex,
            "json": as_json,
        }[kind](results)
        write_atomically(path, text.encode())
    return 0
