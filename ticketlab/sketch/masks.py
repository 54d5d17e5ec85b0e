"""Random masks: the draws of a sketch."""

from __future__ import annotations

import torch
from torch import Tensor

from ticketlab import seeding
from ticketlab.errors import InputError
from ticketlab.sketch.draws import Draws, bisect, ends_of
from ticketlab.sketch.probabilities import check_draws, check_finite, check_inclusion, checked


def sample_mask(
    p: Tensor,
    s: int,
    generator: torch.Generator | None = None,
    *,
    replacement: bool = True,
    rescale: bool = True,
    masks: int | None = None,
) -> Tensor:
    """Masks of a sketch with ``s`` draws.

    With replacement, a coordinate drawn ``c_i`` times holds ``c_i / (s p_i)``: the mask's mean is 1 everywhere (Drineas
    et al. 2006), and at most ``s`` coordinates are kept. Without, exactly ``s`` different coordinates are kept, one
    after the other in proportion to what is left. Each of them then holds ``1 / (1 - exp(-p_i t))``, where ``t`` is the
    key at which the next one would have been kept, so that the mean is 1 again (Cohen & Kaplan, PODC 2007).

    Args:
        p: (..., d), probabilities of one draw.
        s: the number of draws.
        generator: on the CPU or on p's device; seed 0 without one.
        rescale: False gives ones and zeros.
        masks: this many masks for each row of ``p``, as a new first dimension.

    Returns:
        (..., d) or (masks, ..., d), in the dtype and on the device of ``p``.

    Raises:
        InputError: ``s`` < 1, NaN, negative probabilities, or fewer positive ones than draws without replacement.
    """
    s = check_draws(s)
    p = checked(p.detach(), p.shape[-1] if p.ndim else 0)
    if masks is not None:
        masks = check_draws(masks, "masks")
    generator = generator if generator is not None else seeding.generator(0, "sketch")
    shape = p.shape if masks is None else (masks, *p.shape)
    if replacement:
        return _with_replacement(p, shape, s, generator, rescale)
    few = int((p > 0).sum(-1).min())
    if s > few:
        raise InputError(f"asked to draw {s} coordinates without replacement, got {few} of positive probability.")
    return _without_replacement(p, shape, s, generator, rescale)


def _with_replacement(p: Tensor, shape: tuple[int, ...], s: int, generator: torch.Generator, rescale: bool) -> Tensor:
    # As integers: in float32, counts would stop at 2^24.
    counts = torch.zeros(shape, dtype=torch.int32, device=p.device)
    flat = counts.view(-1, shape[-1])
    if p.ndim == 1:
        index = Draws(p, len(flat) * s, generator).take(len(flat) * s).view(-1, s)
    else:
        ends = ends_of(p.to(generator.device)).contiguous()
        times = counts.numel() // p.numel()
        drawn = bisect(ends, (*p.shape[:-1], times * s), generator)
        index = drawn.unflatten(-1, (times, s)).movedim(-2, 0).reshape(-1, s)
    index = index.to(device=p.device, dtype=torch.int64)
    flat.scatter_add_(-1, index, torch.ones((), dtype=counts.dtype, device=p.device).expand_as(index))
    if not rescale:
        return (counts > 0).to(p.dtype)
    return counts.to(p.dtype).div_(s * p.where(p > 0, torch.ones_like(p)))


def _without_replacement(
    p: Tensor, shape: tuple[int, ...], s: int, generator: torch.Generator, rescale: bool
) -> Tensor:
    if s == p.shape[-1]:
        return torch.ones(shape, dtype=p.dtype, device=p.device)
    # The s smallest of Exp(1) / p_i; in logarithms, as keys of the least probabilities would overflow.
    u = torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device).to(p.device)
    logs = p.double().log()
    keys = u.neg_().log1p_().neg_().clamp_min_(_LEAST).log_().sub_(logs)
    least = keys.topk(s + 1, dim=-1, largest=False)
    mask = torch.zeros(shape, dtype=p.dtype, device=p.device)
    kept, following = least.indices[..., :s], least.values[..., s:]
    if not rescale:
        return mask.scatter_(-1, kept, 1.0)
    rates = (logs.expand(shape).gather(-1, kept) + following).exp_()
    return mask.scatter_(-1, kept, rates.neg_().expm1_().reciprocal_().neg_().to(p.dtype))


def inclusion(scores: Tensor, kept: float) -> Tensor:
    """``min(1, t score_i)`` with ``t`` such that they sum to ``kept``: how likely a Poisson mask keeps each coordinate.

    Args:
        scores: (d,), none negative.
        kept: the expected number of coordinates, at most the number of positive scores.

    Raises:
        InputError: NaN, negative scores, or fewer positive ones than asked for.
    """
    check_finite(scores, "scores")
    if scores.ndim != 1 or bool((scores < 0).any()):
        raise InputError(
            f"asked for inclusion probabilities of scores (d,), got {tuple(scores.shape)} or a negative one."
        )
    largest = scores.detach().max().double()
    scaled = scores.detach().double() / largest.where(largest > 0, torch.ones_like(largest))
    # Counted after scaling: what is lost in it counts as zero.
    positive = int((scaled > 0).sum())
    if not 0 < kept <= positive:
        raise InputError(f"asked to keep {kept:g} coordinates, got {positive} positive scores.")
    ordered = scaled.sort(descending=True).values
    rest = ordered.flip(0).cumsum(0).flip(0)
    # With the j largest kept for certain, t = (kept - j) / rest_j: for the first j for which no other one exceeds 1.
    room = kept - torch.arange(len(ordered), dtype=torch.float64, device=scores.device)
    first = int((room * ordered <= rest * (1 + 1e-12)).int().argmax())
    return (room[first] / rest[first] * scaled).clamp_max(1).to(scores.dtype)


def poisson_mask(
    inclusion: Tensor, generator: torch.Generator | None = None, *, rescale: bool = True, masks: int | None = None
) -> Tensor:
    """Every coordinate kept on its own with probability ``inclusion_i``, holding its inverse (Horvitz & Thompson 1952).

    Returns:
        (..., d) or (masks, ..., d); the number kept varies around the sum of ``inclusion``.
    """
    check_inclusion(inclusion)
    if masks is not None:
        masks = check_draws(masks, "masks")
    generator = generator if generator is not None else seeding.generator(0, "sketch")
    shape = inclusion.shape if masks is None else (masks, *inclusion.shape)
    u = torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device).to(inclusion.device)
    kept = (u < inclusion).to(inclusion.dtype)
    return kept / inclusion.where(inclusion > 0, torch.ones_like(inclusion)) if rescale else kept


# The least Exp(1) that a uniform number of 53 bits could give: zero has no logarithm.
_LEAST = 2.0**-54
