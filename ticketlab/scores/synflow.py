"""SynFlow: the share of the total synaptic flow through a weight (Tanaka et al., NeurIPS 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from ticketlab.errors import InputError
from ticketlab.scoring import Scoring


def synflow(scoring: Scoring, bias: str = "keep") -> dict[str, Tensor]:
    """``|w| * dR/d|w|`` with R the sum of the outputs of the net in absolute values for an input of ones (eq. 2).

    Reads no data; the input's shape comes from the data or from ``input_shape``. All parameters and buffers are
    taken in absolute value, in float64 and with batch norm in eval mode, as the authors' code does; they leave
    float64 out, which under- or overflows in deep nets. Their paper removes biases (``bias="drop"``), their code
    keeps them. Use it in many rounds: in one shot it empties layers.
    """
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
    grads = torch.autograd.grad(model(ones).sum(), weights, allow_unused=True)
    return {
        name: torch.zeros_like(w) if grad is None else (w * grad).detach()
        for (name, w), grad in zip(scoring.weights.items(), grads, strict=True)
    }
