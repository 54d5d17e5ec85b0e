"""torch itself: eager, with channels last, in bfloat16, and compiled."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ticketlab.engine.engine import in_channels_last
from ticketlab.engine.precision import check_precision
from ticketlab.errors import InputError
from ticketlab.speed.runner import Call, Case

Start = Callable[[Case], Call]


def eager(channels_last: bool = False, bf16: bool = False, unpruned: bool = False) -> Start:
    """The network, batch norm folded, called as it is."""

    def start(case: Case) -> Call:
        model = case.subject.unpruned_folded if unpruned else case.subject.folded
        return eager_call(model, case, channels_last, bf16)

    return start


def eager_call(model: nn.Module, case: Case, channels_last: bool = False, bf16: bool = False) -> Call:
    """A copy of a network on the case's device, called as it is."""
    return _call(_placed(model, case, channels_last, bf16), case, channels_last, bf16)


def compiled(bf16: bool = False) -> Start:
    """The network through torch.compile with its weights as constants, channels last."""

    def start(case: Case) -> Call:
        model = _placed(case.subject.folded, case, True, bf16)
        # Programs of another batch size or precision would count against torch's limit on compiling again.
        torch._dynamo.reset()
        options: dict[str, Any] | None = {"freezing": True} if case.device.type == "cpu" else None
        try:
            with warnings.catch_warnings():
                # The compiler's own, about its own modules.
                warnings.simplefilter("ignore")
                call = _call(torch.compile(model, dynamic=False, options=options), case, True, bf16)
                call(case.subject.batch(case.batch).to(case.device))
        except Exception as error:
            # A missing compiler, or any of a compiler's own errors: the other runners go on.
            first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise InputError(f"torch.compile fails here: {first.strip()[:200]}") from error
        return call

    return start


def _placed(model: nn.Module, case: Case, channels_last: bool, bf16: bool) -> nn.Module:
    if bf16:
        check_precision("bf16", case.device)
    placed = copy.deepcopy(model).to(case.device, torch.bfloat16 if bf16 else torch.float32)
    return (in_channels_last(placed) if channels_last else placed).eval()


def _call(model: Callable[[Tensor], Any], case: Case, channels_last: bool, bf16: bool) -> Call:
    layout = torch.channels_last if channels_last and len(case.subject.in_shape) == 3 else torch.contiguous_format
    dtype = torch.bfloat16 if bf16 else torch.float32

    def call(inputs: Tensor) -> Tensor:
        with torch.inference_mode():
            outputs: Tensor = model(inputs.to(dtype=dtype, memory_format=layout)).float()
        if inputs.is_cuda:
            torch.cuda.synchronize(inputs.device)
        return outputs

    return call
