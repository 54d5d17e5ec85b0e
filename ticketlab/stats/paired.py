"""Two p-values for one comparison: is there a difference, and is it smaller than the margin?

All functions work on whole arrays; the last axis runs over seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ticketlab.stats.comparison import Test
from ticketlab.stats.student import Array, t_tail


@dataclass(frozen=True)
class Estimate:
    """The drop (original - tampered) over `pairs` seeds; drop, sd and se in points."""

    pairs: Array
    drop: Array
    sd: Array
    df: Array

    @property
    def se(self) -> Array:
        return self.sd / np.sqrt(np.maximum(self.pairs, 1))

    def p_diff(self) -> Array:
        """Two-sided p-value of "the drop is 0" (Student 1908; Welch 1947)."""
        return 2 * t_tail(np.abs(self.drop) / self.se, self.df)

    def p_equiv(self, margin: float) -> Array:
        """p-value of "the drop is at least the margin": the larger of two one-sided tests (Schuirmann 1987)."""
        return t_tail((margin - np.abs(self.drop)) / self.se, self.df)


def estimate(original: Array, tampered: Array, use: Array, image: float, test: Test = "paired") -> Estimate:
    """Mean and spread of the drop over the pairs marked in `use` (booleans), all in points.

    `image` is what one test image is worth: a difference of two counts carries a rounding noise of
    image / sqrt(6), and no spread below it is believed (three equal differences are no proof).
    """
    k = use.sum(-1)
    a, b = np.where(use, original, 0.0), np.where(use, tampered, 0.0)

    def mean_var(x: Array) -> tuple[Array, Array]:
        mean = x.sum(-1) / np.maximum(k, 1)
        residual = np.where(use, x - mean[..., None], 0.0)
        return mean, np.square(residual).sum(-1) / np.maximum(k - 1, 1)

    drop, var = mean_var(a - b)
    df = np.maximum(k - 1, 1).astype(float)
    if test == "welch":
        var_a, var_b = mean_var(a)[1], mean_var(b)[1]
        var = var_a + var_b
        squares = np.square(var_a) + np.square(var_b)
        df = df * np.divide(np.square(var), squares, out=np.ones_like(var), where=squares > 0)
    return Estimate(k, drop, np.sqrt(np.maximum(var, image**2 / 6)), df)
