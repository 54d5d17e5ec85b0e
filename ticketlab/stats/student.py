"""The tails of Student's t distribution, from `scipy.special`: half a second faster to import than `scipy.stats`."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Number: TypeAlias = "float | Array"


def t_tail(t: Number, df: Number) -> Array:
    """P(T > t) for Student's t with `df` degrees of freedom."""
    from scipy.special import stdtr

    return np.asarray(stdtr(df, np.negative(t)))


def t_quantile(tail: Number, df: Number) -> Array:
    """The t that leaves the probability `tail` above it; a tail of 0 gives infinity."""
    from scipy.special import stdtrit

    return np.where(np.asarray(tail) > 0, -stdtrit(df, np.maximum(tail, 1e-300)), np.inf)
