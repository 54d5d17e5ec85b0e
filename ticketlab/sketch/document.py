"""A study of the theory as plain values: what is printed, written and read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import ticketlab
from ticketlab.sketch.cells import Kind
from ticketlab.sketch.study import Study

FORMAT = 1
_READ_DATA = {"optimal", "column-norm", "snip"}


def document(study: Study, *, data: Mapping[str, Any], command: str) -> dict[str, Any]:
    """The whole study; the same study always gives the same document.

    Errors, formulas and bounds are squared lengths, summed over the models. Divided by the ``energy`` of their end
    point they are relative: 1 is the error of predicting zero.
    """
    plan = study.plan
    return {
        "format": FORMAT,
        "ticketlab": ticketlab.__version__,
        "title": f"pruning as sketching: linear models on {data['name']}",
        "command": command,
        "data": {**data, "examples": study.examples, "size": study.size, "empty_columns": study.empty_columns},
        "plan": {
            "classes": list(plan.classes),
            "draws": list(plan.draws),
            "distances": list(plan.distances),
            "steps": plan.steps,
            "masks": plan.masks,
            "std": plan.std,
            "seed": plan.seed,
        },
        "kinds": [{"name": name, "reads_data": bool(_READ_DATA & set(_parts(k)))} for name, k in plan.kinds.items()],
        "ends": [asdict(end) for end in study.ends],
        "cells": [asdict(cell) for cell in study.cells],
        "binary": [asdict(found) for found in study.binary],
        "prices": [asdict(price) for price in study.prices],
    }


def _parts(kind: Kind) -> list[str]:
    return [kind] if isinstance(kind, str) else [name for name, share in kind.items() if share > 0]
