"""Lines and claims, held against numbers worked out by hand and against scipy's paired t-test."""

from __future__ import annotations

import math
from statistics import mean, stdev
from typing import Any

import pytest
from scipy.stats import ttest_1samp, ttest_rel

from ticketlab.reproduce.compare import Finding, Line, findings, lines
from ticketlab.reproduce.published import Figure
from ticketlab.reproduce.records import Record
from ticketlab.reproduce.table import Claim

from .made import NUMERICS, cell, figures, record, runs, table

GPU = {**NUMERICS, "device": "cuda", "gpu": "some"}
DENSE = runs("dense", None, 95.0, 95.2, 94.9)


def line(found: list[Record], row: str = "snip", **changes: Any) -> Line:
    shown = lines(table(**changes), figures(snip=(92.0, 0.6), random=(91.0, None)), found)
    (one,) = (entry for entry in shown if entry.cell == cell(row))
    return one


def claims(found: list[Record], seeds: int | None = None, **changes: Any) -> dict[tuple[str, float], Finding]:
    shown = findings(
        table(**changes), figures(snip=(92.0, 0.6), random=(91.0, 0.3), rewound=(93.0, None)), found, seeds
    )
    return {(f.claim.text, f.sparsity): f for f in shown}


def test_a_line_by_hand() -> None:
    one = line(runs("snip", 0.9, 90.0, 91.0, 92.0))
    assert one.published == Figure(92.0, 0.6) and one.reproduced is None
    assert (one.n, one.seeds, one.diverged, one.epochs_seen) == (3, (0, 1, 2), 0, 160)
    assert (one.mean, one.sd, one.best_mean, one.difference) == (91.0, 1.0, 91.5, -1.0)
    # -1 over the root of 1/3 + 0.36/3.
    assert one.standard_errors == pytest.approx(-1 / math.sqrt(1.36 / 3)) == pytest.approx(-1.4852, abs=1e-4)
    assert line(runs("rewound", 0.9, 93.0), "rewound").epochs_seen == 320


def test_every_cell_has_a_line_run_or_not() -> None:
    shown = lines(table(), figures(), runs("snip", 0.9, 90.0))
    assert len(shown) == 1 + 2 * 4 and [entry.n for entry in shown] == [0, 1, *[0] * 7]
    empty = shown[0]
    assert empty.mean is empty.sd is empty.best_mean is empty.difference is empty.standard_errors is None


def test_no_standard_errors_without_a_spread() -> None:
    assert line(runs("snip", 0.9, 90.0)).standard_errors is None
    assert line(runs("random", 0.9, 90.0, 91.0), "random").standard_errors is None
    assert line(runs("random", 0.9, 90.0, 91.0), "random").difference == -0.5
    quick = line(runs("snip", 0.9, 90.0, 91.0, protocol="quick"), quick=True)
    assert quick.difference == -1.5 and quick.standard_errors is None


def test_equal_accuracies_have_no_spread_of_ours() -> None:
    assert line(runs("snip", 0.9, 90.0, 90.0)).standard_errors == pytest.approx(-2 / (0.6 / math.sqrt(3)))


def test_what_diverges_counts_as_chance() -> None:
    one = line(runs("snip", 0.9, 90.0, None, 92.0))
    assert one.diverged == 1 and one.n == 3 and math.isnan(one.accuracies[1])
    assert one.mean == mean([90, 10, 92]) and one.sd == pytest.approx(stdev([90, 10, 92]))
    assert one.best_mean == mean([90.5, 10, 92.5])


def test_a_seed_that_ran_on_two_machines_counts_once() -> None:
    both = [*runs("snip", 0.9, 90.0, 91.0, 92.0), record("snip", 0.9, 0, 50.0, numerics=GPU, step="gpu")]
    assert line(both).accuracies == (90.0, 91.0, 92.0) and line(both).where == ("cpu fp32",)
    assert line([*both[1:], record("snip", 0.9, 0, 80.0, numerics=GPU, step="gpu")]).where == ("cpu fp32", "cuda fp32")


def holm(p: list[float], alpha: float = 0.05) -> list[bool]:
    """Which hypotheses fall (Holm 1979)."""
    order, fallen = sorted(range(len(p)), key=p.__getitem__), [False] * len(p)
    for rank, index in enumerate(order):
        if p[index] > alpha / (len(p) - rank):
            break
        fallen[index] = True
    return fallen


@pytest.mark.parametrize("seeds", [3, 6])
def test_claims_against_scipy(seeds: int) -> None:
    """Differences by a paired t-test, equality by two one-sided ones, each Holm over all claims, those not run too."""
    offsets = [0.0, 0.31, -0.42, 0.17, 0.66, -0.25][:seeds]
    noise = [0.11, -0.07, 0.02, -0.09, 0.13, 0.05][:seeds]
    rows = {
        ("snip", 0.9): [91.0 + o for o in offsets],
        ("random", 0.9): [89.0 + o + e for o, e in zip(offsets, noise, strict=True)],
        ("rewound", 0.9): [93.0 + o for o in offsets],
        ("moved", 0.9): [92.96 + o - e for o, e in zip(offsets, noise, strict=True)],
        ("snip", 0.5): [93.0 + o for o in offsets],
        ("random", 0.5): [93.0 + e for e in noise],
    }
    found = [*DENSE, *(r for (row, sparsity), values in rows.items() for r in runs(row, sparsity, *values))]
    shown = findings(table(seeds=seeds), figures(snip=(92.0, 0.6), random=(91.0, 0.3)), found)
    differ, equal = [], []
    for f in shown:
        higher, lower = (rows.get((row, f.sparsity)) for row in (f.claim.higher, f.claim.lower))
        if not (higher and lower):
            differ.append(1.0)
            equal.append(1.0)
            continue
        gaps = [a - b for a, b in zip(higher, lower, strict=True)]
        differ.append(float(ttest_rel(higher, lower).pvalue))
        equal.append(
            max(
                float(ttest_1samp(gaps, 0.5, alternative="less").pvalue),
                float(ttest_1samp(gaps, -0.5, alternative="greater").pvalue),
            )
        )
        assert f.n == seeds and f.difference == pytest.approx(mean(gaps)) and f.margin == 0.5
        assert f.low is not None and f.high is not None and f.low + f.high == pytest.approx(2 * mean(gaps))
    for f, unequal, same in zip(shown, holm(differ), holm(equal), strict=True):
        expected = "no different" if same else ("higher" if (f.difference or 0) > 0 else "lower") if unequal else None
        assert f.verdict == (expected or ("undecided" if f.n else "not run")), f
        wanted = {"higher": "higher", "equal": "no different"}[f.claim.expect]
        assert f.holds == (None if expected is None else expected == wanted)
        assert (f.low is not None and f.low > 0) == (unequal and (f.difference or 0) > 0)
    # Nothing of this was trivial.
    assert {"higher", "not run"} < {f.verdict for f in shown}
    first = shown[0]
    gaps = [a - b for a, b in zip(rows["snip", 0.9], rows["random", 0.9], strict=True)]
    apart = (mean(gaps) - 1.0) / math.sqrt(stdev(gaps) ** 2 / seeds + (0.6**2 + 0.3**2) / 3)
    assert first.published == 1.0 and first.standard_errors == pytest.approx(apart)


SNIP, RANDOM = (92.0, 92.1, 91.9), (90.0, 90.2, 89.9)


def test_fewer_seeds_than_planned_decide_nothing() -> None:
    found = [*DENSE, *runs("snip", 0.9, *SNIP), *runs("random", 0.9, *RANDOM)]
    text = ("snip beats random", 0.9)
    assert claims(found)[text].verdict == "higher" and claims(found)[text].holds
    # Whoever asks for fewer does not choose the seeds at which a claim is judged.
    assert claims(found, seeds=2)[text].verdict == "higher"
    assert claims(found, seeds=5)[text].reason == "needs 5 seeds, has 3"
    two = [r for r in found if r.seed < 2]
    assert claims(two)[text].verdict == "undecided" and claims(two)[text].holds is None


def test_a_table_that_plans_more_seeds() -> None:
    found = [*DENSE, *runs("snip", 0.9, *SNIP), *runs("random", 0.9, *RANDOM)]
    (first, *_) = findings(table(seeds=5), figures(), found, seeds=3)
    assert (first.verdict, first.holds, first.reason) == ("undecided", None, "needs 5 seeds, has 3")
    (first, *_) = findings(table(seeds=1), figures(), found)
    assert first.verdict == "higher"


def test_seeds_beyond_the_plan_do_not_stand_in_for_missing_ones() -> None:
    found = [*DENSE, *runs("snip", 0.9, *SNIP, 92.0), *runs("random", 0.9, *RANDOM, 90.0)]
    text = ("snip beats random", 0.9)
    assert claims(found)[text].n == 3
    gap = [r for r in found if r.seed != 1]
    assert claims(gap)[text].n == 2 and claims(gap)[text].holds is None


def test_pairs_are_of_equal_numerics() -> None:
    text = ("snip beats random", 0.9)
    apart = [*DENSE, *runs("snip", 0.9, *SNIP), *runs("random", 0.9, *RANDOM, numerics=GPU)]
    assert claims(apart)[text].n == 0 and claims(apart)[text].verdict == "not run"
    # The same seed of one row on both machines: the pair is found, though the cell counts the other record.
    more = [*apart, *runs("snip", 0.9, *(a + 0.05 for a in SNIP), numerics=GPU, step="gpu")]
    assert claims(more)[text].n == 3 and claims(more)[text].difference == pytest.approx(2.0167, abs=1e-4)
    # Which of several like GPUs it was does not matter.
    one = [*DENSE, *runs("snip", 0.9, *SNIP, numerics=GPU)]
    other = runs("random", 0.9, *RANDOM, numerics={**GPU, "device": "cuda:3"})
    assert claims([*one, *other])[text].n == 3


def test_collapse() -> None:
    text = ("snip beats random", 0.9)
    dead = claims([*DENSE, *runs("snip", 0.9, *SNIP), *runs("random", 0.9, 10.0, 10.0, None)])[text]
    assert dead.collapsed and dead.low is dead.high is dead.standard_errors is None
    assert dead.reason.startswith("unstable: 0 of 3 snip and 3 of 3 random tickets at chance")
    both = claims([*DENSE, *runs("snip", 0.9, 10.0, 10.0, 10.1), *runs("random", 0.9, 10.0, 10.0, None)])[text]
    assert both.verdict == "void" and both.holds is None and both.reason == "both at chance: nothing to compare"


@pytest.mark.parametrize("dense", [(10.0, 10.0, 10.0), (None, None, None)])
def test_a_dense_net_at_chance_voids_everything(dense: tuple[float | None, ...]) -> None:
    found = [*runs("dense", None, *dense), *runs("snip", 0.9, *SNIP), *runs("random", 0.9, *RANDOM)]
    one = claims(found)["snip beats random", 0.9]
    assert one.verdict == "void" and one.reason == "the dense net did not learn"


def test_a_failed_control_voids_a_claim() -> None:
    control = {"passed": False, "summary": "nothing was moved"}
    moved = [*runs("moved", 0.9, 90.0, 90.1), record("moved", 0.9, 2, 90.0, control=control)]
    found = [*DENSE, *runs("rewound", 0.9, 93.0, 93.1, 92.9), *moved]
    one = claims(found)["moving costs", 0.9]
    assert (one.verdict, one.holds, one.reason) == ("void", None, "nothing was moved")
    assert line(found, "moved").failed_controls == 1


@pytest.mark.parametrize(("images", "margin"), [(10_000, 0.5), (1000, 1.7), (40, 7.5)])
def test_the_margin_is_one_that_the_test_set_resolves(images: int, margin: float) -> None:
    data = {"name": "digits", "train": 60, "test": images, "fingerprint": "data"}
    made = [*runs("dense", None, 95.0, data=data), *runs("snip", 0.9, 90.0, data=data)]
    assert claims(made)["snip beats random", 0.9].margin == pytest.approx(margin)
    # Without the dense net, what the best ticket gains over chance is the measure, not a perfect net's 90 points.
    assert claims(made[1:])["snip beats random", 0.9].margin == pytest.approx({1000: 1.6}.get(images, margin))


def test_claims_about_the_same_rows_and_without_any() -> None:
    twice = (Claim("a", "snip", "random", "higher"), Claim("b", "snip", "random", "higher"))
    found = [*DENSE, *runs("snip", 0.9, *SNIP), *runs("random", 0.9, *RANDOM)]
    assert [f.verdict for f in findings(table(claims=twice), figures(), found)][:2] == ["higher", "higher"]
    assert findings(table(claims=()), figures(), found) == [] and findings(table(), figures(), []) == []
