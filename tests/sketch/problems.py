"""Data and weights of many kinds for the tests of sketches, and the exact variance of a sketch's error."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ticketlab.data.digits import digits
from ticketlab.sketch import probabilities

WEIGHTS = ("gaussian", "student", "cauchy", "sparse")
DATA = ("iid", "coherent", "rank-one")
MIXTURE = {"optimal": 0.5, "magnitude": 0.4, "uniform": 0.1}
KINDS = ("optimal", "magnitude", "column-norm", "uniform", "snip", "synflow", "mixture")


def weights(kind: str, d: int, g: torch.Generator, dtype: torch.dtype = torch.float64) -> Tensor:
    """(d,): Gaussian, heavy-tailed (Student's t with 3 degrees of freedom, or 1: Cauchy), or nine of ten zero."""
    w = torch.randn(d, generator=g, dtype=torch.float64)
    if kind in ("student", "cauchy"):
        freedom = 3 if kind == "student" else 1
        w /= torch.randn(freedom, d, generator=g, dtype=torch.float64).square().mean(0).sqrt()
    if kind == "sparse":
        few = torch.rand(d, generator=g) < 0.1
        few[torch.randint(d, (1,), generator=g)] = True
        w *= few
    return w.to(dtype)


def data(kind: str, n: int, w: Tensor, g: torch.Generator, rho: float = 0.3) -> Tensor:
    """(n, d): columns of unequal length; "coherent" ones share a direction in which all ``x_i w_i`` add up."""
    noise = torch.randn(n, len(w), generator=g, dtype=torch.float64)
    common = torch.randn(n, 1, generator=g, dtype=torch.float64)
    lengths = 0.2 + torch.rand(len(w), generator=g, dtype=torch.float64)
    if kind == "coherent":
        noise = (1 - rho) ** 0.5 * noise + rho**0.5 * common * torch.where(w < 0, -1.0, 1.0)
    if kind == "rank-one":
        noise = common * torch.randn(len(w), generator=g, dtype=torch.float64)
    return (noise * lengths).to(w.dtype)


def real_data() -> Tensor:
    """The pixels of real digits, (360, 64), standardised but for those that are always blank."""
    X = digits()[1].inputs.flatten(1).double()
    return (X - X.mean(0)) / X.std(0).clamp_min(1)


def every_kind(X: Tensor, w: Tensor, g: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    """All kinds of probabilities for a problem; the gradient is one of a squared error."""
    residual = torch.randn(len(X), generator=g, dtype=torch.float64).to(X)
    for kind in KINDS:
        yield kind, probabilities(X, w, MIXTURE if kind == "mixture" else kind, grad=X.mT @ residual)
