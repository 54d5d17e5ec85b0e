"""Masks of ones and zeros, which practice uses: beside the rescaled masks of the theory, at as many weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ticketlab import seeding
from ticketlab.sketch.masks import sample_mask
from ticketlab.sketch.measure import mask_errors, mean_of
from ticketlab.sketch.probabilities import column_norms, from_scores

# Numbers of masks that are laid out at once.
_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Binary:
    """The error of masks that keep ``kept`` weights of each model as they are; a fixed mask has no standard error."""

    mask: str
    end: str
    kept: int
    error: float
    standard_error: float


def binary_masks(
    X: Tensor, w0: Tensor, w_end: Tensor, kept: tuple[int, ...], masks: int, seed: int, end: str
) -> list[Binary]:
    """Errors ``|X (m * w_end) - X w_end|^2``, summed over the models, of masks chosen by the weights at the start.

    Args:
        X: (n, d). w0, w_end: (models, d).
        kept: how many weights a mask keeps; more than ``d`` are left out.
        masks: random ones to average over.
        end: the end point's name.
    """
    scores = {"|x||w|": column_norms(X) * w0.abs(), "|w|": w0.abs(), "random": torch.ones_like(w0)}
    found = []
    for k in [k for k in kept if k <= w0.shape[1]]:
        for name in ("|x||w|", "|w|"):
            top = torch.zeros_like(w0).scatter_(-1, scores[name].topk(k, dim=-1).indices, 1.0)
            error = sum(float(mask_errors(X, w, m[None])) for w, m in zip(w_end, top, strict=True))
            found.append(Binary(f"top-k {name}", end, k, error, 0.0))
        for name in ("|x||w|", "|w|", "random"):
            generator = seeding.generator(seed, "sketch binary", name, end, k)
            pairs = zip(scores[name], w_end, strict=True)
            seen = mean_of(torch.stack([_sampled(X, s, w, k, masks, generator) for s, w in pairs]).sum(0))
            label = "random" if name == "random" else f"sampled {name}"
            found.append(Binary(label, end, k, seen.mean, seen.standard_error))
    return found


def _sampled(X: Tensor, scores: Tensor, w: Tensor, k: int, masks: int, generator: torch.Generator) -> Tensor:
    """The errors of one model's masks of ``k`` different weights, (masks,)."""
    # Weights without a score are never drawn: a column of zeros does not matter.
    k = min(k, int((scores > 0).sum()))
    if k == 0:
        return mask_errors(X, w, torch.zeros_like(w)[None]).expand(masks)
    p = from_scores(scores)
    at_once = max(1, _AT_ONCE // len(w))
    pieces = []
    for first in range(0, masks, at_once):
        many = min(at_once, masks - first)
        pieces.append(mask_errors(X, w, sample_mask(p, k, generator, replacement=False, rescale=False, masks=many)))
    return torch.cat(pieces)
