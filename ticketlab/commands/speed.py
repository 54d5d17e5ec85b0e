"""``ticketlab speed``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console

from ticketlab.commands.common import check_writable
from ticketlab.errors import InputError
from ticketlab.experiment.settings import checked_device
from ticketlab.packing import write_atomically
from ticketlab.report.speed import markdown, render
from ticketlab.speed.measure import How, checked, document, to_stderr
from ticketlab.speed.subject import Subject, from_ticket, random_subject

_GENERATED = ("sparsity", "density", "ratios", "seed")


def run_speed(options: argparse.Namespace) -> int:
    """Measure one network in every runner there is, and print what that says."""
    if options.markdown:
        check_writable(Path(options.markdown), "the report", "speed.md")
    checked_device(options.device)
    how = checked(
        How(
            batches=(1, options.batch_size),
            rounds=options.rounds,
            seconds=options.seconds,
            runners=options.runners,
            threads=options.threads,
            device=options.device,
        )
    )
    found = document(_subject(options), how, to_stderr)
    if options.markdown:
        write_atomically(Path(options.markdown), markdown(found).encode())
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        render(found, Console(highlight=False))
    return 0


def _subject(options: argparse.Namespace) -> Subject:
    if options.ticket is not None:
        for name in _GENERATED:
            if getattr(options, name) is not None:
                raise InputError(f"asked for --{name} with the ticket {options.ticket}, got a ticket that has its own.")
        return from_ticket(options.ticket, options.model, options.data, options.data_dir)
    if options.sparsity is None and options.density is None:
        raise InputError("asked for a random mask, got neither --sparsity nor --density (nor a ticket).")
    if options.density is not None and not 0 < options.density <= 1:
        raise InputError(f"asked for density {options.density:g}, got a fraction kept outside (0, 1].")
    # Decimal digits as they were typed: 1 - 0.1 is no 0.9.
    sparsity = options.sparsity if options.density is None else round(1 - options.density, 12)
    return random_subject(
        options.model or "conv",
        options.data or "digits",
        options.data_dir,
        sparsity,
        options.ratios or "uniform",
        options.seed or 0,
    )
