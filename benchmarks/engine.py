"""Training many sparse tickets: ticketlab's engines against the loop of the papers' code, in one run.

Each row trains one net on random images with random masks of 95%, batch 64. The baseline is one process with all
threads, one ticket after another: for ResNet-32 and VGG-19 a port of the loop of Su et al.'s (2020) code, for the
smaller nets a plain eager loop over tensors. The engine side is what ticketlab does: one process per core with one
thread, each with its own tickets, in the engine that a short try finds fastest. Both take turns, A B A B, in chunks of
2 s and more; the ratio is the median over the rounds. Rows named bf16 may use bf16 or fp32, rows named fp32 only fp32.

`ceiling` is the highest ratio that dense arithmetic allows here: this machine's best matrix product, measured in the
same run, over the baseline's arithmetic. A baseline below half (ResNet-32) or 60% (VGG-19) of the fp32 peak is called
weak, and so is one that other programs disturbed (0.1 cores and more): such a ratio is not valid.

    python benchmarks/engine.py [--json] [--only WORK [WORK ...]] [--rounds 5] [--compile]
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch
from support.duel import How, duel, say
from support.gpu import seconds_per_ticket
from support.machine import facts
from support.table import render
from support.work import WORK

from ticketlab.errors import InputError


def measure(only: list[str], how: How) -> list[dict[str, Any]]:
    """The rows that this machine can have."""
    machine = facts()
    rows = []
    for name in only:
        gpu = name.startswith("h200")
        if gpu and not torch.cuda.is_available():
            continue
        try:
            row = seconds_per_ticket(name, WORK[name], how.rounds) if gpu else duel(name, WORK[name], how)
        except InputError as error:
            say(f"{name} left out: {error}")
            continue
        rows.append({**row, "machine": machine})
    return rows


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", action="store_true")
    options.add_argument("--only", nargs="+", choices=list(WORK), default=list(WORK), metavar="WORK")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--compile", action="store_true", help="try engines that take up to a minute to compile, too")
    chosen = options.parse_args()
    rows = measure(chosen.only, How(chosen.rounds, compiled=chosen.compile))
    if chosen.json:
        print(json.dumps(rows, indent=1))
    else:
        render(rows)


if __name__ == "__main__":
    main()
