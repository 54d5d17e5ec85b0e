"""Drawing in proportion to scores, without replacement, for any number of weights.

Drawing ``k`` of ``d`` one after the other, each in proportion to the scores that are left, is the same as keeping the
``k`` largest of ``log(score) + Gumbel noise``, or the ``k`` smallest of ``Exp(1) / score``. So a weighted draw is a
top-k of noisy keys: no cumulative sum to lose small scores in, no limit of 2^24 as ``torch.multinomial`` has, and
one pass. The noise is drawn in float64, in fixed chunks, on the CPU: the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

_CHUNK = 1 << 18


def noisy_keys(scores: Tensor, generator: torch.Generator, power: float = 1.0, log_floor: float = -math.inf) -> Tensor:
    """Keys whose ``k`` largest are a draw of ``k`` in proportion to ``score^power + floor``, without replacement.

    Args:
        scores: on the CPU, none NaN. What is not positive counts as zero.
        generator: a CPU generator; it is advanced by the same amount whatever the scores are.
        power: the temperature: 0 draws uniformly among the positive, 1 in proportion, many is nearly top-k. Below
            zero, low scores are drawn rather than high ones.
        log_floor: the logarithm of what is added to every ``score^power``: a share of uniform drawing.

    Returns:
        float32, the shape of ``scores``: ``log(score^power + floor) - log(Exp(1))``. Where that is zero, keys tie far
        below all others: drawn when nothing else is left.
    """
    keys = torch.empty(scores.shape, dtype=torch.float32)
    flat, given = keys.view(-1), scores.detach().reshape(-1)
    noise = torch.empty(min(_CHUNK, flat.numel()), dtype=torch.float64)
    for start in range(0, flat.numel(), _CHUNK):
        part = given[start : start + _CHUNK]
        # Exp(1) by log1p, which is fine-grained near zero, where the winners are.
        drawn = noise[: part.numel()].uniform_(generator=generator).neg_().log1p_().neg_().clamp_min_(_LEAST).log_()
        logs = log_powers(part, power)
        if log_floor > -math.inf:
            logs = torch.logaddexp(logs, torch.full_like(logs, log_floor))
        flat[start : start + _CHUNK] = logs.sub_(drawn)
    return keys


def log_total(scores: Iterable[Tensor], power: float) -> float:
    """``log(sum score^power)`` over all elements of all tensors."""
    parts = [torch.logsumexp(log_powers(c, power), 0) for s in scores for c in s.detach().reshape(-1).split(_CHUNK)]
    return float(torch.logsumexp(torch.stack(parts), 0)) if parts else -math.inf


def log_powers(scores: Tensor, power: float) -> Tensor:
    """``log(score^power)`` in float64, cut off far outside of what real scores reach."""
    positive = scores.double().clamp_min_(0) if scores.dtype != torch.float64 else scores.clamp_min(0)
    if power == 0:
        return torch.where(positive > 0, 0.0, -_FAR)
    return positive.log_().mul_(power).clamp_(-_FAR, _FAR)


# The least Exp(1) that a uniform number of 53 bits could give, and a logarithm that no score has.
_LEAST = 2.0**-54
_FAR = 1e30
