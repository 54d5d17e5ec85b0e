"""The drop on other test images: an interval over seeds and images together."""

from __future__ import annotations

import math

import numpy as np

from ticketlab.errors import InputError
from ticketlab.stats.student import Array, t_quantile


def population_interval(original: Array, tampered: Array, level: float = 0.9) -> tuple[float, float]:
    """Interval for the drop (points) over new seeds and new test images, from per-image correctness.

    `original` and `tampered` are booleans, seeds x images. A two-way random-effects analysis of variance, with the
    degrees of freedom of Satterthwaite (1946). Raises `InputError` for shapes that differ or fewer than two rows
    or columns.
    """
    if original.shape != tampered.shape or original.ndim != 2 or min(original.shape) < 2:
        raise InputError(
            "asked for the same seeds x test images in both arms, at least two of each, got correctness of shape "
            f"{original.shape} and {tampered.shape}."
        )
    n, images = original.shape
    d = 100.0 * (np.asarray(original, dtype=float) - np.asarray(tampered, dtype=float))
    by_seed, by_image, drop = d.mean(1), d.mean(0), float(d.mean())
    residual = d - by_seed[:, None] - by_image + drop
    ms_image = n * by_image.var(ddof=1)
    ms_residual = np.square(residual).sum() / ((n - 1) * (images - 1))
    # The same floor as in the test: no spread below the rounding noise of one image.
    v_seed = max(float(by_seed.var(ddof=1)), (100 / images) ** 2 / 6) / n
    v_both = v_seed + max(0.0, float(ms_image - ms_residual)) / (n * images)
    half = float(t_quantile((1 - level) / 2, (n - 1) * (v_both / v_seed) ** 2)) * math.sqrt(v_both)
    return drop - half, drop + half
