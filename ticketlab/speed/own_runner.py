"""ticketlab's own sparse path: only the kept weights are multiplied."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

import ticketlab
from ticketlab.errors import InputError
from ticketlab.speed.runner import Call, Case


def start(case: Case) -> Call:
    """The network as ``ticketlab.compile_ticket`` makes it; it tunes itself in the calls that come before the clock."""
    compile_ticket: Any = getattr(ticketlab, "compile_ticket", None)
    if compile_ticket is None:
        raise InputError("not in this version of ticketlab")
    model = compile_ticket(copy.deepcopy(case.subject.model), case.subject.mask)

    def call(inputs: Tensor) -> Tensor:
        with torch.inference_mode():
            outputs: Tensor = model(inputs)
        return outputs

    return call
