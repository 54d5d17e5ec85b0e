"""Layers as sketches: how far masking a weight moves the outputs, to first order (Bar & Giryes 2023; derived here).

Of a ReLU net without biases, ``f = J_l w_l`` holds for every layer ``l`` with ``J_l`` the outputs' Jacobian in its
weights. So a mask of the layer is a sketch of that product, which is best drawn with ``p_i ~ |j_i| |w_i|``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ticketlab.errors import InputError, unknown
from ticketlab.scores.columns import Tensors, squared_columns, zeros_of
from ticketlab.scoring import Batch, Scoring

COLUMNS = ("exact", "sketched")
INPUTS = ("data", "gaussian")


def sketch_jacobian(
    scoring: Scoring, columns: str = "exact", draws: int = 100, inputs: str = "data", examples: int = 100
) -> Tensors:
    """``|j_i| |w_i|``: the best probabilities of a sketch of ``J w``, by layer or of the whole linearised net.

    ``j_i`` holds the derivatives of all outputs of all examples in weight ``i``, in eval mode. "exact" differentiates
    every example and output; "sketched" estimates ``|j_i|^2`` without bias from ``draws`` random signs on all outputs,
    a backward pass each, whatever the number of examples and classes.

    Args:
        inputs: "data", or "gaussian" for standard normal noise in the data's shape: then no data is read.
        examples: how many of the noise.
    """
    lengths = column_lengths(scoring, columns, draws, inputs, examples)
    return {name: lengths[name] * w.detach().abs().to(lengths[name].dtype) for name, w in scoring.weights.items()}


def sketch_ntk(
    scoring: Scoring, columns: str = "exact", draws: int = 100, inputs: str = "data", examples: int = 100
) -> Tensors:
    """``|j_i|^2``: the best probabilities of a sketch of the tangent kernel ``J J^T``; see :func:`sketch_jacobian`.

    Squares are unbiased when "sketched". Weights that were removed have columns too, which count as zero here.
    """
    lengths = column_lengths(scoring, columns, draws, inputs, examples)
    return {name: lengths[name].square() * scoring.mask[name].to(lengths[name].device) for name in scoring.weights}


def column_lengths(scoring: Scoring, columns: str, draws: int, inputs: str, examples: int) -> Tensors:
    """``|j_i|`` for every weight, in its shape."""
    check_options(columns, draws, inputs, examples)
    batches = list(scoring.require_batches()) if inputs == "data" else [_noise(scoring, examples)]
    scoring.model.eval()
    with sdpa_kernel(SDPBackend.MATH):
        squares = (
            squared_columns(scoring, batches, _every_output)
            if columns == "exact"
            else _sketched(scoring, batches, draws)
        )
    return {name: square.sqrt() for name, square in squares.items()}


def check_options(columns: str, draws: int, inputs: str, examples: int, **others: object) -> None:
    """Refuse options that the score could not work with; ``others`` are not its own."""
    if columns not in COLUMNS:
        raise unknown("kind of columns", columns, COLUMNS)
    if inputs not in INPUTS:
        raise unknown("kind of inputs", inputs, INPUTS)
    for name, value in (("draws", draws), ("examples", examples)):
        if isinstance(value, bool) or value != int(value) or value < 1:
            raise InputError(f"asked for {name}={value}, got no whole number from 1 on.")


def _noise(scoring: Scoring, examples: int) -> Batch:
    """Standard normal inputs, drawn on the CPU, as for any device."""
    if scoring.input_shape is None:
        raise InputError("inputs=gaussian needs the shape of one input: pass data, or input_shape=(channels, h, w).")
    first = next(iter(scoring.weights.values()))
    drawn = torch.randn((examples, *scoring.input_shape), generator=scoring.generator)
    return drawn.to(first), torch.zeros(examples, dtype=torch.long, device=first.device)


def _every_output(inputs: Tensor, targets: Tensor, outputs: Tensor) -> Tensor:
    """All outputs of every example, one direction each."""
    if outputs.ndim == 0 or len(outputs) != len(inputs):
        raise InputError(
            f"exact columns need outputs for each example, got {tuple(outputs.shape)} for {len(inputs)} inputs. "
            "Use columns=sketched."
        )
    size = outputs[0].numel()
    return torch.eye(size, dtype=outputs.dtype, device=outputs.device).expand(len(outputs), size, size)


def _sketched(scoring: Scoring, batches: list[Batch], draws: int) -> Tensors:
    """The mean over draws of the squared gradient of ``v . f`` with random signs ``v`` (Hutchinson's estimate)."""
    total = zeros_of(scoring)
    weights = list(scoring.weights.values())
    for inputs, _ in batches:
        outputs = scoring.model(inputs)
        for draw in range(draws):
            signs = torch.randint(0, 2, outputs.shape, generator=scoring.generator) * 2 - 1
            flow = (signs.to(outputs) * outputs).sum()
            grads = torch.autograd.grad(flow, weights, retain_graph=draw < draws - 1, materialize_grads=True)
            for name, grad in zip(scoring.weights, grads, strict=True):
                wide = grad.to(total[name].dtype)
                total[name].addcmul_(wide, wide, value=1 / draws)
    return total
