"""Drawing in proportion to scores, without replacement, for any number of weights.

Drawing ``k`` of ``d`` one after the other, each in proportion to the scores that are left, is the same as keeping the
``k`` largest of ``log(score) + Gumbel noise``, or the ``k`` smallest of ``Exp(1) / score``. So a weighted draw is a
top-k of noisy keys: no cumulative sum to lose small scores in, no limit of 2^24 as ``torch.multinomial`` has, and
one pass. Every chunk has a stream of its own, so that threads share the work and the draw is the same on any number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ticketlab import seeding

_CHUNK = 1 << 17
Array = NDArray[Any]


def noisy_keys(scores: Tensor, seed: int, power: float = 1.0, log_floor: float = -math.inf) -> Tensor:
    """Keys whose ``k`` largest are a draw of ``k`` in proportion to ``score^power + floor``, without replacement.

    Args:
        scores: on the CPU, none NaN. What is not positive counts as zero.
        power: the temperature: 0 draws uniformly among the positive, 1 in proportion, many is nearly top-k. Below
            zero, low scores are drawn rather than high ones.
        log_floor: the logarithm of what is added to every ``score^power``: a share of uniform drawing.

    Returns:
        float32, the shape of ``scores``: ``log(score^power + floor) - log(Exp(1))``. Where that is zero, keys tie far
        below all others: drawn when nothing else is left.
    """
    keys = torch.empty(scores.shape, dtype=torch.float32)
    out, given = keys.view(-1).numpy(), scores.detach().reshape(-1).numpy()

    def fill(at: int) -> None:
        here = slice(at * _CHUNK, (at + 1) * _CHUNK)
        stream = np.random.Generator(np.random.PCG64(seeding.derive(seed, "chunk", at)))
        noise = stream.standard_exponential(len(out[here]))
        # Zero has a chance of 2^-53 or so; it would win whatever its score.
        np.maximum(noise, _LEAST, out=noise)
        if power == 1 and log_floor == -math.inf:
            positive = np.maximum(given[here], 0, dtype=np.float64)
            with np.errstate(divide="ignore", over="ignore"):
                out[here] = np.log(positive / noise).clip(-_FAR, _FAR)
            return
        logs = log_powers(given[here], power)
        if log_floor > -math.inf:
            logs = np.logaddexp(logs, log_floor)
        out[here] = logs - np.log(noise)

    chunks = range(-(-len(out) // _CHUNK))
    if len(chunks) < 2:
        list(map(fill, chunks))
    else:
        with ThreadPoolExecutor(min(torch.get_num_threads(), len(chunks))) as threads:
            list(threads.map(fill, chunks))
    return keys


def log_total(scores: Iterable[Tensor], power: float) -> float:
    """``log(sum score^power)`` over all elements of all tensors."""
    chunks = (chunk for s in scores for chunk in s.detach().reshape(-1).split(_CHUNK))
    parts = [torch.logsumexp(torch.from_numpy(log_powers(chunk.numpy(), power)), 0) for chunk in chunks]
    return float(torch.logsumexp(torch.stack(parts), 0)) if parts else -math.inf


def log_powers(scores: Array, power: float) -> Array:
    """``log(score^power)`` in float64, cut off far outside of what real scores reach."""
    positive: Array = np.maximum(scores, 0, dtype=np.float64)
    if power == 0:
        return np.where(positive > 0, 0.0, -_FAR)
    with np.errstate(divide="ignore"):
        logs: Array = np.log(positive, out=positive)
    logs *= power
    return logs.clip(-_FAR, _FAR, out=logs)


# Less than any Exp(1) that is not zero, and a logarithm that no score has.
_LEAST = 2.0**-70
_FAR = 1e30
