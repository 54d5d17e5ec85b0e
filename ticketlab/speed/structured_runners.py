"""What engines gain from masks with a pattern: a smaller dense network, and NVIDIA's units for two of four."""

from __future__ import annotations

import copy
import warnings
from typing import cast

import torch
from torch import Tensor, nn

from ticketlab.engine.precision import check_precision
from ticketlab.errors import InputError
from ticketlab.mask import Mask
from ticketlab.speed.runner import Call, Case
from ticketlab.speed.structure import structure_of, two_of_four
from ticketlab.speed.torch_runners import eager_call

# What torch's 16-bit kernels take: rows and columns of a weight in multiples of these.
_ROWS, _COLUMNS = 32, 64


def channels_removed(case: Case) -> Call:
    """A dense network without the channels that change no answer, channels last.

    Raises:
        InputError: the mask removes no whole units, or none that can go alone.
    """
    if (found := structure_of(case.subject.mask)) != "channels":
        raise InputError(f"for masks of whole units, this one's pattern is: {found}")
    return eager_call(case.subject.without_channels, case, channels_last=True)


def two_of_four_linear(case: Case) -> Call:
    """The network in bfloat16 whose linear layers are multiplied as 2:4 matrices; everything else is dense.

    Raises:
        InputError: no linear layer has the pattern and a size that torch's kernels take, or they are not to be had.
    """
    check_precision("bf16", case.device)
    model = copy.deepcopy(case.subject.folded)
    suited = linear_layers(model, case.subject.mask)
    if not suited:
        raise InputError(
            f"for linear layers with a 2:4 mask and sizes in multiples of {_ROWS} and {_COLUMNS}: got none"
        )
    model = model.to(case.device, torch.bfloat16).eval()
    try:
        with warnings.catch_warnings():
            # torch calls it a prototype.
            warnings.simplefilter("ignore")
            for name in suited:
                layer = cast(nn.Linear, model.get_submodule(name))
                sparse = torch.sparse.to_sparse_semi_structured(layer.weight.detach())
                layer.weight = nn.Parameter(sparse, requires_grad=False)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"torch has no 2:4 kernels here: {str(error).splitlines()[0]}") from error

    def call(inputs: Tensor) -> Tensor:
        with torch.inference_mode():
            outputs: Tensor = model(inputs.to(torch.bfloat16)).float()
        torch.cuda.synchronize(inputs.device)
        return outputs

    return call


def linear_layers(model: nn.Module, mask: Mask) -> list[str]:
    """The names of the linear layers whose mask is 2:4 and whose size torch's kernels take."""
    return [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear)
        and layer.out_features % _ROWS == 0
        and layer.in_features % _COLUMNS == 0
        and f"{name}.weight" in mask
        and two_of_four(~mask[f"{name}.weight"])
    ]
