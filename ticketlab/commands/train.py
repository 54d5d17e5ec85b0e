"""``ticketlab train``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ticketlab.commands.common import check_writable, data_of, request, unfinished, work_store
from ticketlab.report.progress import Progress
from ticketlab.ticket_file import save_ticket


def run_train(options: argparse.Namespace) -> int:
    """Check the input, run the method's whole program, write the finished ticket and say what it is."""
    out = Path(options.out)
    check_writable(out, "the ticket", "ticket.safetensors")
    store = work_store(options)
    asked = request(options, options.model, data_of(options))
    with Progress(kinds=unfinished(asked.steps, store)) as progress:
        ticket, facts = asked.train(store, progress)
    save_ticket(out, ticket, facts)
    print(json.dumps(facts, indent=1) if options.json else _words(facts))
    print(f"ticket: {out}", file=sys.stderr)
    return 0


def _words(facts: dict[str, Any]) -> str:
    what = f"{facts['method']} on {facts['data']['name']}, {facts['model']['name']}, seed {facts['seed']}"
    kept = f"{facts['kept']:,} of {facts['total']:,} weights kept, sparsity {facts['exact_sparsity']:.4f}"
    return f"{what}: {kept}\ntest accuracy {facts['accuracy']:.2f}% after the last of {facts['epochs_seen']:g} epochs"
