"""Magnitude: the absolute value of the weight (Han et al. 2015; at initialisation: Frankle et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

from ticketlab.scoring import Scoring


def magnitude(scoring: Scoring) -> dict[str, Tensor]:
    """``|w|``, ranked in at least float32: half-precision magnitudes would tie by the thousand."""
    return {
        name: w.detach().abs().to(torch.promote_types(w.dtype, torch.float32)) for name, w in scoring.weights.items()
    }
