"""Selection: exactly the budgeted number, the highest scores, ties by a seeded permutation; the exact threshold."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ticketlab import InputError, select, threshold
from ticketlab.threshold import kth_largest

LIMITS = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def dense(scores: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.ones(s.shape, dtype=torch.bool) for name, s in scores.items()}


# Few distinct values, so that ties are the rule.
value = st.sampled_from([-2.0, -1.0, -0.5, -0.0, 0.0, 0.25, 0.5, 1.0, 3.0])
layers = st.lists(st.lists(value, min_size=1, max_size=12), min_size=1, max_size=5).map(
    lambda rows: {f"layer{i}": torch.tensor(row) for i, row in enumerate(rows)}
)


def flat(tensors: dict[str, Tensor]) -> Tensor:
    return torch.cat([t.reshape(-1) for t in tensors.values()])


@given(layers, st.data())
@LIMITS
def test_top_k_is_exact_and_agrees_with_sort(scores: dict[str, Tensor], data: st.DataObject) -> None:
    total = flat(scores).numel()
    count, seed = data.draw(st.integers(0, total)), data.draw(st.integers(0, 5))
    kept = select.top_k(scores, count, dense(scores), seed)
    assert list(kept) == list(scores) and int(flat(kept).sum()) == count
    assert torch.equal(flat(scores)[flat(kept)].sort().values, flat(scores).sort().values[total - count :])
    assert all(torch.equal(kept[n], again) for n, again in select.top_k(scores, count, dense(scores), seed).items())


@given(layers, st.data())
@LIMITS
def test_top_k_keeps_only_what_is_alive(scores: dict[str, Tensor], data: st.DataObject) -> None:
    alive = {
        n: torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(s), max_size=len(s))), dtype=torch.bool)
        for n, s in scores.items()
    }
    available = int(flat(alive).sum())
    count = data.draw(st.integers(0, available))
    for choose in (select.top_k, select.inverted, select.at_random):
        kept = choose(scores, count, alive, 1)
        assert int(flat(kept).sum()) == count and not bool((flat(kept) & ~flat(alive)).any())
        with pytest.raises(InputError, match=f"keep {available + 1} weights, got {available}"):
            choose(scores, available + 1, alive, 1)


@given(layers, st.data())
@LIMITS
def test_counts_for_each_layer(scores: dict[str, Tensor], data: st.DataObject) -> None:
    counts = {n: data.draw(st.integers(0, s.numel())) for n, s in scores.items()}
    for choose in (select.top_k, select.inverted, select.at_random):
        kept = choose(scores, counts, dense(scores), 1)
        assert {n: int(t.sum()) for n, t in kept.items()} == counts
    kept = select.top_k(scores, counts, dense(scores), 1)
    for n, s in scores.items():
        assert torch.equal(s[kept[n]].sort().values, s.sort().values[s.numel() - counts[n] :])


@given(layers, st.data())
@LIMITS
def test_inverted_keeps_the_lowest(scores: dict[str, Tensor], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, flat(scores).numel()))
    kept = select.inverted(scores, count, dense(scores), 0)
    assert torch.equal(flat(scores)[flat(kept)].sort().values, flat(scores).sort().values[:count])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int64, torch.bool])
def test_scores_that_are_whole_numbers(dtype: torch.dtype) -> None:
    """Minus an unsigned number wraps round, and minus a bool is refused."""
    low = -128 if dtype == torch.int8 else 0
    scores = {"a": torch.tensor([1, low, 1, 1, 1]).to(dtype)}
    assert select.inverted(scores, 1, dense(scores), 0)["a"].tolist() == [False, True, False, False, False]
    assert select.top_k(scores, 4, dense(scores), 0)["a"].tolist() == [True, False, True, True, True]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_scores(dtype: torch.dtype) -> None:
    scores = {"a": torch.tensor([0.5, 2.0, -1.0, 8.0]).to(dtype)}
    assert select.top_k(scores, 2, dense(scores), 0)["a"].tolist() == [False, True, False, True]


def test_layers_of_different_precision() -> None:
    """0.1 is larger in float32 than in float64; rounding the threshold to float32 would make them tie."""
    single, double = torch.tensor([0.1] * 5), torch.tensor([0.1] * 5, dtype=torch.float64)
    assert float(single[0]) > float(double[0])
    scores = {"single": single, "double": double}
    for seed in range(5):
        kept = select.top_k(scores, 6, dense(scores), seed)
        assert bool(kept["single"].all()) and int(kept["double"].sum()) == 1


def test_ties_go_by_the_seed_and_evenly() -> None:
    scores = {"a": torch.zeros(20), "b": torch.zeros(5, 4), "high": torch.ones(3)}
    times = {n: torch.zeros(s.shape) for n, s in scores.items()}
    runs = 400
    masks = set()
    for seed in range(runs):
        kept = select.top_k(scores, 13, dense(scores), seed)
        assert bool(kept["high"].all())
        masks.add(tuple(flat(kept).tolist()))
        for n in scores:
            times[n] += kept[n]
    assert len(masks) > 0.99 * runs
    # Ten of 40: each kept with frequency 1/4; five standard deviations of a binomial are 0.108.
    tied = torch.cat([times["a"], times["b"].reshape(-1)]) / runs
    assert bool(((tied - 0.25).abs() < 0.11).all())


def test_random_positions_are_even_and_free_of_other_layers() -> None:
    shape = (6, 5)
    times, runs = torch.zeros(shape), 600
    for seed in range(runs):
        alone = select.at_random({}, {"a": 6}, {"a": torch.ones(shape, dtype=torch.bool)}, seed)["a"]
        more = {"b": torch.ones(7, dtype=torch.bool), "a": torch.ones(shape, dtype=torch.bool)}
        assert torch.equal(select.at_random({}, {"b": 2, "a": 6}, more, seed)["a"], alone)
        times += alone
    # 6 of 30: five standard deviations of a binomial with p = 0.2 are 0.082.
    assert bool(((times / runs - 0.2).abs() < 0.083).all())


def test_layers_of_one_shape_get_different_positions() -> None:
    alive = {n: torch.ones(1000, dtype=torch.bool) for n in ("a", "b")}
    for scores in ({}, {n: torch.zeros(1000) for n in alive}):
        choose = select.top_k if scores else select.at_random
        kept = choose(scores, {"a": 500, "b": 500}, alive, 0)
        assert 150 < int((kept["a"] & kept["b"]).sum()) < 350


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("choose", [select.top_k, select.inverted])
def test_scores_that_are_not_finite(bad: float, choose: select.Select) -> None:
    scores = {"good": torch.ones(3), "bad": torch.tensor([1.0, bad, bad])}
    with pytest.raises(InputError, match=r"layer 'bad' hold 2 NaN or infinite values out of 3"):
        choose(scores, 2, dense(scores), 0)


def test_scores_of_another_shape() -> None:
    with pytest.raises(InputError, match=r"'a' has shape \(4,\), its weight has \(2, 2\)"):
        select.top_k({"a": torch.ones(4)}, 1, {"a": torch.ones(2, 2, dtype=torch.bool)}, 0)


def test_inputs_stay_as_they_are() -> None:
    scores = {"a": torch.randn(50, generator=torch.Generator().manual_seed(0)), "b": torch.zeros(20)}
    alive = {"a": torch.arange(50) % 3 > 0, "b": torch.ones(20, dtype=torch.bool)}
    before = [t.clone() for t in (*scores.values(), *alive.values())]
    for choose in (select.top_k, select.inverted, select.at_random):
        for count in (0, 7, 40, int(flat(alive).sum())):
            kept = choose(scores, count, alive, 0)
            for t in kept.values():
                t.logical_not_()
    assert all(torch.equal(a, b) for a, b in zip(before, (*scores.values(), *alive.values()), strict=True))


# The threshold.


def of_bits(bits: list[int], double: bool) -> Tensor:
    """Floats of given bit patterns, without the ones that are not finite."""
    kind = "<Qd" if double else "<If"
    values = [struct.unpack(f"<{kind[2]}", struct.pack(f"<{kind[1]}", b))[0] for b in bits]
    finite = [v for v in values if np.isfinite(v)] or [0.0]
    return torch.tensor(finite, dtype=torch.float64 if double else torch.float32)


patterns32 = st.one_of(
    st.integers(0, 2**32 - 1),
    st.integers(0, 3),
    st.integers(2**31, 2**31 + 3),
    st.integers(2**16 - 2, 2**16 + 2),
    st.integers(2**31 + 2**16 - 2, 2**31 + 2**16 + 2),
    st.sampled_from([0x3F800000, 0x3F800001, 0x7F7FFFFF, 0xFF7FFFFF, 0x00800000, 0x80800000, 0x007FFFFF]),
)
near = [0, 2**16, 2**32, 2**48, 2**52, 0x3FF0 << 48, 0x7FEF << 48]
patterns64 = st.one_of(
    st.integers(0, 2**64 - 1),
    st.builds(
        lambda base, off, sign: max(0, min(base + off, 2**63 - 1)) + (sign << 63),
        st.sampled_from(near),
        st.integers(-3, 3),
        st.integers(0, 1),
    ),
)


@pytest.mark.parametrize("chunk", [1, 3, 1 << 19])
@pytest.mark.parametrize("few", [0, 1, 3, 1 << 21])
@pytest.mark.parametrize("double", [False, True])
def test_threshold_is_that_of_sort(double: bool, few: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also through every later pass, which only huge inputs reach, and across the borders of chunks."""
    monkeypatch.setattr(threshold, "_FEW", few)
    monkeypatch.setattr(threshold, "_CHUNK", chunk)

    @given(st.lists(patterns64 if double else patterns32, min_size=1, max_size=16), st.integers(1, 4), st.data())
    @settings(max_examples=30, deadline=None)
    def agrees(bits: list[int], parts: int, data: st.DataObject) -> None:
        scores = of_bits(bits, double)
        before = scores.clone()
        k = data.draw(st.integers(1, scores.numel()))
        found = kth_largest(scores.chunk(parts), k)
        expected = float(scores.sort(descending=True).values[k - 1])
        assert found == expected, (scores, k)
        assert torch.equal(
            scores.view(torch.int64 if double else torch.int32),
            before.view_as(scores).view(torch.int64 if double else torch.int32),
        )

    agrees()


@pytest.mark.parametrize("few", [0, 2, 1 << 21])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "values",
    [
        [0.0, -0.0, 0.0, -0.0],
        [-1e-320, 0.0, -0.0, 1e-320],
        [-1e-45, -2e-45, -0.0, 0.0, 1e-45, 1e-45],
        [-1e-310, -2e-310, -3e-310, 0.0, 0.0, -0.0, 4e-310],
        [-5e-324, -5e-324, 0.0, -0.0, 5e-324],
        [1.0] * 6,
        [-3.0, -2.0, -2.0, -1.0],
        [3.4e38, -3.4e38, 1e-38, -1e-38],
    ],
)
def test_threshold_around_zero(
    values: list[float], dtype: torch.dtype, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threshold, "_FEW", few)
    scores = torch.tensor(values, dtype=dtype)
    for k in range(1, len(values) + 1):
        assert kth_largest([scores], k) == float(scores.sort(descending=True).values[k - 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 0.0])
def test_threshold_of_many(dtype: torch.dtype, scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threshold, "_FEW", 50)
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(30_000, generator=draw, dtype=dtype) * scale
    scores[::7] = 0.25 * scale
    scores[::11] = -0.0
    ranked = scores.sort(descending=True).values
    for k in (1, 2, 77, 5_000, 9_000, 15_000, 20_000, 29_999, 30_000):
        assert kth_largest(scores.split(7_001), k) == float(ranked[k - 1])


def test_negative_zero_ties_with_zero() -> None:
    scores = {"a": torch.tensor([0.0, -0.0] * 20)}
    kept = torch.zeros(40)
    for seed in range(200):
        kept += select.top_k(scores, 10, dense(scores), seed)["a"]
    positive, negative = kept[::2].sum(), kept[1::2].sum()
    assert int(positive + negative) == 2000 and abs(int(positive) - 1000) < 120
