"""SynFlow: the share of the total synaptic flow through a weight (Tanaka et al., NeurIPS 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from ticketlab.errors import InputError, unknown
from ticketlab.scoring import Scoring

BIASES = ("keep", "drop")


def synflow(scoring: Scoring, bias: str = "keep") -> dict[str, Tensor]:
    """``|w| * dR/d|w|`` with R the sum of the outputs of the net in absolute values for an input of ones (eq. 2).

    Reads no data; the input's shape comes from the data or from ``input_shape``. All parameters and buffers are
    taken in absolute value, in float64 and with batch norm in eval mode, as the authors' code does; they leave
    float64 out, which under- or overflows in deep nets. Their paper removes biases (``bias="drop"``), their code
    keeps them. Use it in many rounds: in one shot it empties layers.
    """
    if bias not in BIASES:
        raise unknown("bias of synflow", bias, BIASES)
    if scoring.input_shape is None:
        raise InputError("synflow needs the shape of one input: pass data, or input_shape=(channels, height, width).")
    model = scoring.model.double()
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.abs_()
        if bias == "drop":
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):
                    parameter.zero_()
    weights = list(scoring.weights.values())
    ones = torch.ones((1, *scoring.input_shape), dtype=torch.float64, device=weights[0].device)
    try:
        flow = model(ones).sum()
    except (RuntimeError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"synflow feeds ones of shape {tuple(ones.shape)} in float64 and sums the outputs, "
            f"but the model fails on them: {str(error).splitlines()[0]}"
        ) from error
    grads = torch.autograd.grad(flow, weights, allow_unused=True)
    return {
        name: torch.zeros_like(w) if grad is None else (w * grad).detach()
        for (name, w), grad in zip(scoring.weights.items(), grads, strict=True)
    }
