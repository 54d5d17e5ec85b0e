"""``ticketlab export``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ticketlab.commands.common import check_writable
from ticketlab.errors import InputError
from ticketlab.export.formats import export_ticket
from ticketlab.export.onnx_file import INSTALL
from ticketlab.ticket_file import load_ticket

_EXAMPLES = {"compact": "small.safetensors", "onnx": "model.onnx", "dense": "weights.safetensors"}


def run_export(options: argparse.Namespace) -> int:
    """Write the ticket in another form and say how large it is."""
    to = Path(options.to)
    check_writable(to, "the ticket", _EXAMPLES[options.format])
    if options.model and options.format != "onnx":
        raise InputError(f"asked for --model {options.model} with --format {options.format}, which needs no model.")
    found = export_ticket(load_ticket(options.ticket), to, options.format, model=options.model)
    print(json.dumps(found, indent=1) if options.json else _words(found))
    print(f"{options.format}: {to}", file=sys.stderr)
    return 0


def _words(found: dict[str, Any]) -> str:
    size, dense, bound = found["bytes"], found["dense_bytes"], found["entropy_bytes"]
    lines = [f"{size:,} bytes; all weights and buffers written out take {dense:,}"]
    if found["format"] == "compact":
        lines[0] += f", {dense / size:.1f} times as many"
        lines += [
            "reads back bit-equal: checked",
            f"{size / bound:.2f} of the {bound:,} bytes that positions and values without any pattern need",
        ]
    if found["format"] == "onnx":
        apart = found["max_difference"]
        checked = f"differ from torch's by at most {apart:.1e} of the largest" if apart is not None else ""
        lines.append(
            f"outputs in ONNX Runtime {checked}"
            if checked
            else f"not checked: ONNX Runtime is not installed: {INSTALL}"
        )
        lines.append("pruned weights are zeros in it: it computes as much as the dense network")
    return "\n".join(lines)
