"""``ticketlab prune``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ticketlab.commands.common import check_writable, data_of, request, unfinished, work_store
from ticketlab.diagnosis import Diagnosis, diagnose
from ticketlab.errors import InputError
from ticketlab.mask import Mask
from ticketlab.models.weights import with_weights
from ticketlab.report.progress import Progress


def run_prune(options: argparse.Namespace) -> int:
    """Check the input, run the method's program but its last training, write the mask and say what it keeps."""
    out = Path(options.out)
    check_writable(out, "the mask", "mask.safetensors")
    store, data = work_store(options), data_of(options)
    given = with_weights(options.model, data.classes, data.in_shape, Path(options.weights)) if options.weights else None
    asked = request(options, given or options.model, data)
    if asked.sparsity is None:
        raise InputError(f"asked for a mask, got the method {asked.method!r}, which prunes nothing.")
    with Progress(kinds=unfinished(asked.finding, store)) as progress:
        mask = asked.find(store, progress).mask
    mask.save(out)
    found = diagnose(asked.ground.built, mask, data.in_shape)
    if options.json:
        facts = asked.facts(mask)
        # A model that came with its weights is known by its class alone.
        facts["model"] = {**facts["model"], "name": options.model}
        print(json.dumps({**facts, **_health(mask, found)}, indent=1))
    else:
        _show(mask, found, Console(highlight=False))
    print(f"mask: {out}", file=sys.stderr)
    return 0


def _health(mask: Mask, found: Diagnosis) -> dict[str, Any]:
    return {
        "layers": {name: {"kept": kept, "total": total} for name, (kept, total) in mask.counts().items()},
        "empty_layers": list(found.empty_layers),
        "dead_units": found.dead_units,
        "effective_sparsity": found.effective_sparsity,
    }


def _show(mask: Mask, found: Diagnosis, console: Console) -> None:
    table = Table("layer", box=None, pad_edge=False)
    for column in ("kept", "of", "sparsity"):
        table.add_column(column, justify="right")
    for name, (kept, total) in {**mask.counts(), "all": (mask.kept, mask.total)}.items():
        table.add_row(name, f"{kept:,}", f"{total:,}", f"{1 - kept / total:.4f}")
    console.print(table)
    if found.empty_layers:
        console.print(f"warning: no weight is left in {', '.join(found.empty_layers)}", soft_wrap=True)
    if found.dead_units:
        console.print(
            f"warning: {found.dead_units} dead units, through which no path runs from the input to the output: "
            f"the effective sparsity is {found.effective_sparsity:.4f}",
            soft_wrap=True,
        )
