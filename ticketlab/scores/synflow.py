"""SynFlow: the share of the total synaptic flow through a weight (Tanaka et al., NeurIPS 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from ticketlab.errors import InputError, unknown
from ticketlab.scoring import Scoring

BIASES = ("keep", "drop")


def synflow_l2(scoring: Scoring, bias: str = "keep") -> dict[str, Tensor]:
    """SynFlow on squared weights, then the root: the l2 lengths of paths through a weight (derived here).

    Of a deep linear net and random uncorrelated inputs, averaged over the signs of its weights, these are the best
    probabilities of a sketch of its output, where SynFlow's own are l1 lengths.
    """
    # Where units compete (softmax, group norm) a flow may be negative, in SynFlow as here: its sign stays.
    return {name: score.abs().sqrt() * score.sign() for name, score in synflow(scoring, bias, power=2).items()}


def synflow(scoring: Scoring, bias: str = "keep", *, power: int = 1) -> dict[str, Tensor]:
    """``|w| * dR/d|w|`` with R the sum of the outputs of the net in absolute values for an input of ones (eq. 2).

    Reads no data; the input's shape comes from the data or from ``input_shape``. All parameters and buffers are
    taken in absolute value, in float64 and with batch norm in eval mode, as the authors' code does; they leave
    float64 out, which under- or overflows in deep nets. Their paper removes biases (``bias="drop"``), their code
    keeps them. Use it in many rounds: in one shot it empties layers.

    As a sketch: the scores of a layer sum to R, and shared out by it they are the best probabilities of a sketch of R
    itself, whose error is then zero, since all terms are positive (Bar & Giryes 2023; derived here).
    """
    if bias not in BIASES:
        raise unknown("bias of synflow", bias, BIASES)
    if scoring.input_shape is None:
        raise InputError("synflow needs the shape of one input: pass data, or input_shape=(channels, height, width).")
    model = scoring.model.double()
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.abs_().pow_(power)
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
