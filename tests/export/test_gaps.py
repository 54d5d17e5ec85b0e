"""Coded positions: what comes back is what was coded, and nothing else is accepted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketlab.export import gaps


@given(st.integers(0, 3000), st.sampled_from([0.0, 0.001, 0.02, 0.5, 0.9, 0.999, 1.0]), st.integers(0, 99))
def test_round_trip(size: int, density: float, seed: int) -> None:
    flags = np.random.default_rng(seed).random(size) < density
    coded = gaps.encode(flags)
    assert coded.dtype == np.uint8 and coded.size <= size
    assert np.array_equal(gaps.decode(coded, size, int(flags.sum())), flags)


@pytest.mark.parametrize("skipped", [0, 1, 253, 254, 255, 256, 509, 510, 511, 765])
def test_distances_about_a_byte(skipped: int) -> None:
    flags = np.zeros(2000, np.bool_)
    flags[[skipped, 2 * skipped + 1]] = True
    coded = gaps.encode(flags)
    assert coded.tolist() == 2 * ([255] * (skipped // 255) + [skipped % 255])
    assert np.array_equal(gaps.decode(coded, 2000, 2), flags)


@pytest.mark.parametrize(
    ("coded", "size", "true", "said"),
    [
        ([0, 0], 10, 1, "not as many"),
        ([0], 10, 2, "not as many"),
        ([], 10, 1, "not as many"),
        ([0, 255], 1000, 1, "not as many"),
        ([255], 1000, 0, "not as many"),
        ([9, 0], 10, 2, "beyond the last"),
        ([255] * 9 + [0], 10, 1, "beyond the last"),
    ],
)
def test_lies(coded: list[int], size: int, true: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        gaps.decode(np.array(coded, np.uint8), size, true)
