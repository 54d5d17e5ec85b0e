from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from ticketlab.stats import Comparison, across

from .studies import settings

PLAN = settings(looks=(5,), weights=(1.0,))


def rows(drops: list[float], check: str = "rearrange", spread: float = 0.05, **more: object) -> list[Comparison]:
    rng = np.random.default_rng(0)
    return [
        Comparison("snip", check, 0.9 + i / 100, tuple(rng.normal(93, spread, 5)), tuple(rng.normal(93 - d, spread, 5)))
        for i, d in enumerate(drops)
    ]


def test_seeds_are_averaged_before_the_test() -> None:
    group = rows([0.3, 0.4, 0.5], spread=0.3)
    (summary,) = across(group, PLAN)
    per_seed = np.mean([np.subtract(c.original, c.tampered) for c in group], axis=0)
    assert summary.mean is not None
    assert summary.mean.p_diff == pytest.approx(ttest_1samp(per_seed, 0).pvalue)
    assert summary.mean.to_json()["sparsity"] is None


def test_everywhere_needs_every_sparsity() -> None:
    (up,) = across(rows([1.0, 1.5, 2.0]), PLAN)
    (mostly,) = across(rows([1.0, 1.5, 0.0]), PLAN)
    (opposed,) = across(rows([1.0, -1.0]), PLAN)
    (same,) = across(rows([0.0, 0.0]), PLAN)
    found = [row.everywhere for row in (up, mostly, opposed, same)]
    assert found == ["uses", "undecided", "undecided", "does not use"]


def test_everywhere_is_a_family_of_its_own() -> None:
    group = rows([1.0, 1.5]) + rows([1.0, 1.2], check="reinit")
    assert [row.mean.cut_equiv for row in across(group, PLAN) if row.mean] == pytest.approx([0.025, 0.025])


def test_dead_tickets_and_single_sparsities_have_no_average() -> None:
    dead = Comparison("snip", "rearrange", 0.98, (93.0,) * 5, (93.0, 93.0, 93.0, 93.0, 10.0))
    (row,) = across([*rows([0.0]), dead], PLAN)
    assert row.mean is None and row.note == "dead tickets at sparsity 0.98"
    void = Comparison("snip", "rearrange", 0.98, (93.0,) * 5, (93.0,) * 5, control_ok=False)
    (row,) = across([*rows([0.0]), void], PLAN)
    assert row.mean is None and row.note == "void at sparsity 0.98" and row.everywhere == "undecided"
    assert across(rows([0.0]), PLAN) == []


def test_sparsities_may_be_decided_at_looks_of_their_own() -> None:
    """Seeds are added to the undecided ones only: what held at three seeds holds when another sparsity has five."""
    plan = settings(looks=(3, 5, 8, 12, 20), weights=(0.05, 0.10, 0.20, 0.25, 0.40))
    plain, slow = [3.0, 3.02, 2.98], [1.3, 1.7, 1.5, 1.4, 1.6]

    def everywhere(n: int) -> str:
        drops = {0.9: plain, 0.95: slow[:n]}
        group = [
            Comparison("snip", "rearrange", s, (93.0,) * len(d), tuple(93 - x for x in d)) for s, d in drops.items()
        ]
        (row,) = across(group, plan)
        return row.everywhere

    assert [everywhere(n) for n in (3, 5)] == ["undecided", "uses"]
