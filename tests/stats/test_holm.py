from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import false_discovery_control
from statsmodels.stats.multitest import multipletests

from ticketlab.stats import judge
from ticketlab.stats.holm import cutoff

from .studies import Comparison, settings


def test_cutoff_by_hand() -> None:
    p = np.array([0.3, 0.001, 0.02, 0.011, 0.012])
    assert cutoff(p, 0.05) == pytest.approx(0.05)
    assert (p <= cutoff(p, 0.05)).sum() == 4
    assert cutoff(p, 0.05, "none") == 0.05


@pytest.mark.parametrize("vectors", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_decisions_equal_statsmodels_and_scipy(vectors: int) -> None:
    rng = np.random.default_rng(1)
    for _ in range(vectors):
        p = rng.uniform(size=rng.integers(1, 15)) ** rng.integers(1, 5)
        assert ((p <= cutoff(p, 0.05)) == multipletests(p, 0.05, "holm")[0]).all()
        assert ((p <= cutoff(p, 0.05, "bh")) == (false_discovery_control(p) <= 0.05)).all()


def test_one_family_for_each_method() -> None:
    rows = [Comparison(m, c, 0.9, (93.0, 93.1, 93.2), (92.0, 92.0, 92.1)) for m in ("snip", "grasp") for c in "abc"]
    assert judge(rows[:3], settings()) == judge(rows, settings(family="method"))[:3]
    assert judge(rows, settings())[0].cut_equiv == pytest.approx(0.05 / 6)
    assert judge(rows, settings(multiplicity="none"))[0].cut_equiv == pytest.approx(0.05)
