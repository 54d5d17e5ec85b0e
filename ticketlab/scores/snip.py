"""SNIP: the loss's sensitivity to removing a connection (Lee, Ajanthan & Torr, ICLR 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from ticketlab.errors import unknown
from ticketlab.scoring import Scoring

ACCUMULATE = ("gradient", "score")


def snip(scoring: Scoring, accumulate: str = "gradient") -> dict[str, Tensor]:
    """``|w * dL/dw|`` at the weights as they are (Lee et al. 2019, eq. 5, before its normalisation).

    The authors use one batch. Over several batches, "gradient" takes the absolute value after summing, as Su et
    al. (2020) do for large nets; "score" sums the absolute values. The published TensorFlow code also pools the
    biases (they start at zero, so all of them are pruned) and trains freshly drawn weights; here neither.
    """
    if accumulate not in ACCUMULATE:
        raise unknown("way to accumulate", accumulate, ACCUMULATE)
    total = {name: torch.zeros_like(w) for name, w in scoring.weights.items()}
    for batch in scoring.require_batches():
        for name, grad in scoring.gradient(batch).items():
            product = scoring.weights[name].detach() * grad
            total[name] += product if accumulate == "gradient" else product.abs()
    return {name: value.abs() for name, value in total.items()}
