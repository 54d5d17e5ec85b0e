"""Probabilities: what they are proportional to, that they sum to one in every range, and what is refused."""

from __future__ import annotations

import warnings

import pytest
import torch

from tests.sketch.problems import data, every_kind, weights
from ticketlab import InputError, seeding
from ticketlab.sketch import KINDS, NormalisedWarning, expected_error, inclusion, probabilities
from ticketlab.sketch.bounds import bounds
from ticketlab.sketch.expected import kernel_error, product_probabilities
from ticketlab.sketch.probabilities import check_draws, checked, column_norms, from_scores

X = torch.tensor([[3.0, 0.0, 1.0], [4.0, 2.0, 0.0]], dtype=torch.float64)
w = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
g = torch.tensor([0.5, 1.0, -1.0], dtype=torch.float64)


@pytest.mark.parametrize(
    ("kind", "scores"),
    [
        ("optimal", [5, 4, 3]),
        ("magnitude", [1, 2, 3]),
        ("column-norm", [5, 2, 1]),
        ("uniform", [1, 1, 1]),
        ("snip", [0.5, 2, 3]),
        ("synflow", [1, 2, 3]),
    ],
)
def test_kinds_by_hand(kind: str, scores: list[float]) -> None:
    want = torch.tensor(scores, dtype=torch.float64)
    torch.testing.assert_close(probabilities(X, w, kind, grad=g), want / want.sum())
    both = probabilities(X, torch.stack([w, 2 * w]), kind, grad=torch.stack([g, g]))
    torch.testing.assert_close(both, (want / want.sum()).expand(2, 3))


def test_every_kind_is_tested() -> None:
    assert KINDS == ("optimal", "magnitude", "column-norm", "uniform", "snip", "synflow")


def test_a_mixture_shares_out() -> None:
    mixed = probabilities(X, w, {"optimal": 0.9, "uniform": 0.1, "snip": 0.0})
    want = 0.9 * probabilities(X, w, "optimal") + 0.1 / 3
    torch.testing.assert_close(mixed, want)
    for bad in ({}, {"optimal": 0.5}, {"optimal": 1.5, "uniform": -0.5}, {"optimal": float("nan")}):
        with pytest.raises(InputError, match="shares that sum to one"):
            probabilities(X, w, bad)
    with pytest.raises(InputError, match="Did you mean 'uniform'"):
        probabilities(X, w, {"optimal": 1.0, "uniforn": 0.0})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_sum_to_one_and_never_warn(dtype: torch.dtype) -> None:
    many = weights("cauchy", 1_000_000, seeding.generator(0), dtype)
    for _, p in every_kind(data("iid", 2, many, seeding.generator(1)), many, seeding.generator(2)):
        assert p.dtype == dtype and float(p.double().sum()) == pytest.approx(1, abs=1e-6)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            checked(p, len(p))
            checked(p.double(), len(p))


@pytest.mark.parametrize("of_data", [1e-200, 1.0, 1e200])
@pytest.mark.parametrize("of_weights", [1e-200, 1.0, 1e200])
def test_units_do_not_matter_however_huge_or_tiny(of_data: float, of_weights: float) -> None:
    for kind in KINDS:
        got = probabilities(of_data * X, of_weights * w, kind, grad=g / of_weights)
        torch.testing.assert_close(got, probabilities(X, w, kind, grad=g))
    torch.testing.assert_close(column_norms(of_data * X), of_data * column_norms(X), rtol=1e-12, atol=0)
    scores = of_data * column_norms(X)
    torch.testing.assert_close(checked(from_scores(scores), 3), torch.tensor([5.0, 2, 1]).double() / 8)
    torch.testing.assert_close(inclusion(scores, 2), torch.tensor([1.0, 2 / 3, 1 / 3]).double())
    A, B = of_data * X, of_weights * torch.ones(3, 2, dtype=torch.float64)
    torch.testing.assert_close(product_probabilities(A, B), torch.tensor([5.0, 2, 1]).double() / 8)


def test_magnitudes_far_apart_keep_their_order() -> None:
    p = from_scores(torch.tensor([1e300, 1e150, 1e-5], dtype=torch.float64))
    assert p.tolist() == pytest.approx([1, 1e-150, 1e-305]) and float(p[2]) > 0


def test_bad_input_names_both_sides() -> None:
    for arguments, text in (
        ((X, w[:2], "optimal"), r"X \(n, d\) and w \(..., d\), got X \(2, 3\) and w \(2,\)"),
        ((X[0], w, "optimal"), r"got X \(3,\) and w \(3,\)"),
        ((X[:0], w, "optimal"), r"got no numbers: \(0, 3\)"),
        ((X, w * torch.nan, "optimal"), "finite weights, got 3 NaN or infinite values out of 3"),
        ((X, w / 0, "uniform"), "finite weights, got 3"),
        ((X, 0 * w, "magnitude"), "magnitude scores, got zeros only"),
        ((0 * X, w, "optimal"), "optimal scores, got zeros only"),
        ((X, torch.stack([w, 0 * w]), "synflow"), "synflow scores, got zeros only"),
        ((X, w, "snip"), "got no gradient. Pass grad"),
        ((X.long(), w, "optimal"), "data as floating-point numbers, got torch.int64"),
        ((X.float(), w, "optimal"), "X and w alike, got X torch.float32 on cpu and w torch.float64"),
        ((X, w, "optimum"), "Did you mean 'optimal'"),
    ):
        with pytest.raises(InputError, match=text):
            probabilities(*arguments)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"weights \(3,\), got a gradient \(2,\)"):
        probabilities(X, w, "snip", grad=g[:2])
    with pytest.raises(InputError, match="finite gradients, got 1"):
        probabilities(X, w, "snip", grad=torch.tensor([1.0, 1.0, torch.inf]).double())
    with pytest.raises(InputError, match="negative ones, the least -1"):
        from_scores(torch.tensor([2.0, -1.0]))
    with pytest.raises(InputError, match="negative ones, the least -1"):
        checked(torch.tensor([2.0, -1.0]), 2)
    with pytest.raises(InputError, match="got zeros only"):
        checked(torch.tensor([[0.5, 0.5], [0.0, 0.0]]), 2)


def test_what_does_not_sum_to_one_is_normalised_with_a_warning() -> None:
    with pytest.warns(NormalisedWarning, match="sum to 3, not to 1"):
        got = checked(torch.tensor([[0.5, 0.5], [2.0, 1.0]]), 2)
    torch.testing.assert_close(got, torch.tensor([[0.5, 0.5], [2 / 3, 1 / 3]]))
    with pytest.warns(NormalisedWarning) as caught:
        error = expected_error(X, w, torch.full((3,), 2.0).double(), 5)
    assert caught[0].filename == __file__
    torch.testing.assert_close(error, expected_error(X, w, torch.full((3,), 1 / 3).double(), 5))
    with pytest.warns(NormalisedWarning) as caught:
        kernel_error(X, torch.ones(3).double(), 5)
    assert caught[0].filename == __file__


def test_whole_numbers_of_draws_only() -> None:
    assert check_draws(3) == check_draws(3.0) == 3  # type: ignore[arg-type]
    for bad in (0, -1, 1.5, True, "3", None, float("nan"), float("inf")):
        with pytest.raises(InputError, match=f"asked for {bad} draws"):
            check_draws(bad)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="asked for 0 draws"):
        bounds(X, w, w, 0)
