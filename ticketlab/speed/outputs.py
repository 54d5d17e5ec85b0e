"""Are a runner's outputs right? Nothing is timed before."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Of the largest output. fp32: another order of summation, batch norm folded; bf16 keeps 8 bits of every intermediate,
# which in deep networks that were never trained add up to a tenth.
TOLERANCES = {"fp32": 1e-4, "bf16": 0.25}


@dataclass(frozen=True)
class Deviation:
    """How outputs differ from fp32's: largest difference over largest output; share of images with the same class."""

    error: float
    agreement: float

    def wrong(self, precision: str) -> str | None:
        """Why such outputs cannot be trusted, or None."""
        if self.error <= TOLERANCES[precision]:
            return None
        return (
            f"outputs differ by {self.error:.1e} of the largest; {precision} may differ by {TOLERANCES[precision]:.0e}"
        )


def deviation(found: Tensor, wanted: Tensor) -> Deviation:
    """Of outputs (N, classes); outputs of another shape, or NaN where there should be none, are infinitely wrong."""
    if found.shape != wanted.shape:
        return Deviation(float("inf"), 0.0)
    apart = (found.double().cpu() - wanted.double().cpu()).abs().max()
    error = float(apart / wanted.double().abs().max().cpu().clamp_min(torch.finfo().tiny))
    agreement = (found.argmax(-1).cpu() == wanted.argmax(-1).cpu()).double().mean()
    return Deviation(error if error == error else float("inf"), float(agreement))
