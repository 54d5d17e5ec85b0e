"""Optimal brain damage: the loss's rise on removing a weight, to second order (LeCun, Denker & Solla, NIPS 1989)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ticketlab.errors import InputError, unknown
from ticketlab.scores.columns import Tensors, squared_columns, zeros_of
from ticketlab.scoring import Batch, Loss, Scoring

CURVATURES = ("exact", "hutchinson")


def obd(scoring: Scoring, curvature: str = "exact", draws: int = 100, images: int = 0) -> dict[str, Tensor]:
    """``h w^2 / 2`` with ``h`` the diagonal of the curvature of the mean loss, in eval mode (LeCun et al. 1989).

    "exact": the diagonal of ``J^T H J``, with ``H`` the Hessian of the loss in the outputs: the Gauss-Newton form,
    which LeCun et al. also take. It is the Hessian's diagonal where the outputs are piecewise linear in each weight
    (ReLU nets), and never negative; needs a loss that is convex in the outputs. Examples must not affect each other.
    "hutchinson": the Hessian's own diagonal, estimated as the mean over ``draws`` of ``v * (H v)`` with random signs
    ``v`` on the weights that are left (Bekas, Kokiopoulou & Saad 2007). A negative estimate counts as zero: below
    zero, the second order says nothing about how much a weight matters. Few draws are noise, which the zero cuts off
    on one side only.

    The method is made for trained nets: the slope of the loss, which it leaves out, is zero at a minimum.
    ``images`` reads at most that many examples (0: all of them): the first of every class, then the second, and so
    on; without classes, the first of every batch.
    """
    check_options(curvature, draws, images)
    batches = _first(scoring.require_batches(), images)
    scoring.model.eval()
    # Only the plain form of attention has a second derivative and a batching rule.
    with sdpa_kernel(SDPBackend.MATH):
        diagonal = _exact(scoring, batches) if curvature == "exact" else _hutchinson(scoring, batches, draws)
    return {name: diagonal[name] * w.detach().to(diagonal[name].dtype) ** 2 / 2 for name, w in scoring.weights.items()}


def check_options(curvature: str, draws: int, images: int, **others: object) -> None:
    """Refuse options that the score could not work with; ``others`` are not its own."""
    if curvature not in CURVATURES:
        raise unknown("curvature", curvature, CURVATURES)
    for name, value in (("draws", draws), ("images", images)):
        if isinstance(value, bool) or value != int(value):
            raise InputError(f"asked for {name}={value}, got no whole number.")
    if draws < 1:
        raise InputError(f"asked for {draws} draws, got a mean over none. Use 1 or more.")
    if images < 0:
        raise InputError(f"asked for {images} images, got a negative number. Use 0 for all.")


def _first(batches: Sequence[Batch], images: int) -> Sequence[Batch]:
    """The first examples, one of every class (or batch, without classes) after the other; in the data's own order."""
    if images == 0:
        return batches
    groups: list[int] = []
    for i, (inputs, targets) in enumerate(batches):
        classes = isinstance(targets, Tensor) and targets.ndim == 1 and not targets.is_floating_point()
        groups += targets.tolist() if classes else [i] * len(inputs)
    seen: Counter[int] = Counter()
    turns = []
    for group in groups:
        turns.append(seen[group])
        seen[group] += 1
    chosen = torch.zeros(len(groups), dtype=torch.bool)
    chosen[sorted(range(len(groups)), key=turns.__getitem__)[:images]] = True
    parts = chosen.split([len(inputs) for inputs, _ in batches])
    return [
        (x[part.to(x.device)], y[part.to(x.device)]) for (x, y), part in zip(batches, parts, strict=True) if part.any()
    ]


def _exact(scoring: Scoring, batches: Sequence[Batch]) -> Tensors:
    """The diagonal of ``J^T H J``: the squared gradients of ``s . f`` for every column ``s`` of ``H = S S^T``."""
    count = sum(len(inputs) for inputs, _ in batches)

    def factors(inputs: Tensor, targets: Tensor, outputs: Tensor) -> Tensor:
        return _factors(outputs, targets, scoring.loss, len(inputs)) * math.sqrt(len(inputs) / count)

    return squared_columns(scoring, batches, factors)


def _factors(outputs: Tensor, targets: Tensor, loss: Loss, examples: int) -> Tensor:
    """``S`` of every example, transposed (examples, columns, outputs), with the columns that are zero left out."""
    if outputs.ndim == 0 or len(outputs) != examples:
        raise InputError(
            f"the exact curvature needs outputs for each example, got {tuple(outputs.shape)} for {examples} inputs. "
            "Use curvature='hutchinson'."
        )
    try:
        hessian = _hessian(outputs.double(), targets, loss)
    except RuntimeError:
        # A loss with tensors of its own, such as weights of classes, may take outputs of their type only.
        hessian = _hessian(outputs, targets, loss)
    if not hessian.isfinite().all():
        raise InputError(
            "the exact curvature needs finite outputs, got NaN or infinity. Check the data and the weights."
        )
    values, vectors = torch.linalg.eigh(hessian.double())
    most = values.abs().max()
    if values.min() < -most * torch.finfo(hessian.dtype).eps ** 0.5:
        raise InputError(
            f"the exact curvature needs a loss that is convex in the outputs, got curvature {values.min().item():.3g}. "
            "Use curvature='hutchinson'."
        )
    # Of cross-entropy one column is zero in every example: a constant added to all outputs changes nothing.
    used = (values > most * torch.finfo(hessian.dtype).eps).any(0)
    columns: Tensor = (vectors * values.clamp(min=0).sqrt()[:, None]).mT[:, used]
    return columns.to(outputs.dtype)


def _hessian(outputs: Tensor, targets: Tensor, loss: Loss) -> Tensor:
    """The second derivatives of the loss in each example's outputs (examples, outputs, outputs)."""
    examples = len(outputs)
    with torch.enable_grad():
        outputs = outputs.detach().requires_grad_()
        slope = torch.autograd.grad(loss(outputs, targets), outputs, create_graph=True)[0].reshape(examples, -1)
        if not slope.requires_grad:
            return torch.zeros_like(slope)[:, None].expand(-1, slope.shape[1], -1)
        # An example's slope depends on its own outputs only, so that the sum over examples mixes nothing.
        rows = [
            torch.autograd.grad(one.sum(), outputs, retain_graph=True, materialize_grads=True)[0]
            for one in slope.unbind(1)
        ]
    return torch.stack([row.reshape(examples, -1) for row in rows], 1)


def _hutchinson(scoring: Scoring, batches: Sequence[Batch], draws: int) -> Tensors:
    """The mean over draws of ``v * (H v)``, not below zero."""
    total = zeros_of(scoring)
    count = sum(len(inputs) for inputs, _ in batches)
    start = scoring.generator.get_state()
    for batch in batches:
        # Every batch sees the same signs: H is that of the loss over all of them.
        scoring.generator.set_state(start)
        grads = scoring.gradient(batch, create_graph=True)
        share = len(batch[0]) / count / draws
        for _ in range(draws):
            signs = {name: _signs(scoring, name) for name in grads}
            flow = torch.stack([(signs[name] * grad).sum() for name, grad in grads.items()]).sum()
            if not flow.requires_grad:
                break
            seconds = torch.autograd.grad(
                flow, list(scoring.weights.values()), retain_graph=True, materialize_grads=True
            )
            for (name, sign), second in zip(signs.items(), seconds, strict=True):
                total[name] += share * sign * second
    return {name: value.clamp(min=0) for name, value in total.items()}


def _signs(scoring: Scoring, name: str) -> Tensor:
    """Random signs, zero at weights that are gone: they would only add noise. Drawn on the CPU, as for any device."""
    weight = scoring.weights[name]
    drawn = torch.randint(0, 2, weight.shape, generator=scoring.generator) * 2 - 1
    return drawn.to(weight) * scoring.mask[name].to(weight.device)
