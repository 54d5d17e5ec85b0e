"""Exact expectations: against masks, against each other, in every range of numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.sketch.problems import data, every_kind, weights
from ticketlab import InputError, seeding
from ticketlab.sketch import (
    best_shrinkage,
    error_at,
    expected_error,
    expected_error_over_data,
    inclusion,
    kernel_error,
    kernel_probabilities,
    mask_errors,
    optimal_error,
    optimal_product_error,
    poisson_error,
    poisson_mask,
    probabilities,
    product_error,
    product_probabilities,
    sample_mask,
)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeding.generator(seed, *shape), dtype=torch.float64)


def agrees(samples: Tensor, expected: Tensor, errors: float = 4) -> bool:
    """The mean of independent samples is within some standard errors of what is expected."""
    return bool((samples.mean(0) - expected).abs().max() < errors * samples.std(0).max() / len(samples) ** 0.5)


@pytest.mark.parametrize("weight", ["gaussian", "student", "cauchy", "sparse"])
@pytest.mark.parametrize("kind", ["iid", "coherent", "rank-one"])
def test_no_probabilities_beat_the_optimal_ones(weight: str, kind: str) -> None:
    w = weights(weight, 200, seeding.generator(0, weight))
    X = data(kind, 5, w, seeding.generator(1, kind))
    least = optimal_error(X, w, 7)
    torch.testing.assert_close(expected_error(X, w, probabilities(X, w, "optimal"), 7), least)
    for _, p in every_kind(X, w, seeding.generator(2)):
        assert expected_error(X, w, p, 7) >= least * (1 - 1e-12)


@pytest.mark.parametrize("weight", ["gaussian", "student", "cauchy", "sparse"])
def test_the_error_at_the_end_is_exactly_optimal_plus_excess(weight: str) -> None:
    w0 = weights(weight, 300, seeding.generator(0, weight))
    X = data("coherent", 6, w0, seeding.generator(1))
    for step in (0.0, 0.3, 2.0):
        w_end = w0 + step * torch.where(w0 != 0, gaussian(300), 0.0)
        for kind, p0 in every_kind(X, w0, seeding.generator(2)):
            at = error_at(X, w_end, p0, 9)
            torch.testing.assert_close(at.total, expected_error(X, w_end, p0, 9))
            assert torch.equal(at.total, at.optimal + at.excess) and at.excess >= 0
            torch.testing.assert_close(at.optimal, optimal_error(X, w_end, 9))
            length = (X.square().sum(0).sqrt() * w_end.abs()).sum()
            best = probabilities(X, w_end, "optimal")
            chi2 = (best.square() / p0.where(p0 > 0, torch.ones_like(p0))).sum() - 1
            torch.testing.assert_close(at.excess, length.square() / 9 * chi2, rtol=1e-9, atol=1e-9 * float(at.total))
            if kind == "optimal" and step == 0:
                assert at.excess <= 1e-12 * at.total


def test_the_excess_is_the_error_of_masks_beyond_the_best() -> None:
    w0, X = weights("gaussian", 40, seeding.generator(0)), gaussian(5, 40)
    w_end = w0 + 0.2 * gaussian(40)
    p0 = probabilities(X, w0, {"optimal": 0.9, "uniform": 0.1})
    errors = mask_errors(X, w_end, sample_mask(p0, 8, seeding.generator(3), masks=50_000))
    assert agrees(errors, error_at(X, w_end, p0, 8).total)


def test_random_data_on_average() -> None:
    w, p = weights("gaussian", 12, seeding.generator(0)), torch.rand(12, generator=seeding.generator(1)).double()
    p, root = p / p.sum(), gaussian(12, 12, seed=5) / 3
    moment = root @ root.mT
    X = torch.randn(50_000, 3, 12, generator=seeding.generator(2), dtype=torch.float64) @ root.mT
    masks = sample_mask(p, 4, seeding.generator(3), masks=50_000)
    errors = ((masks - 1) * w).unsqueeze(-1)
    assert agrees((X @ errors).square().sum((1, 2)), expected_error_over_data(moment, w, p, 4, 3))
    assert agrees(
        torch.stack([expected_error(x, w, p, 4) for x in X[:3000]]), expected_error_over_data(moment, w, p, 4, 3)
    )
    variances = torch.rand(12, generator=seeding.generator(4)).double()
    torch.testing.assert_close(
        expected_error_over_data(variances, w, p, 4, 3), expected_error_over_data(variances.diag(), w, p, 4, 3)
    )
    # Uncorrelated columns of variance v: by magnitude, n v (|w|_1^2 - |w|_2^2) / s.
    torch.testing.assert_close(
        expected_error_over_data(torch.full((12,), 0.7).double(), w, w.abs() / w.abs().sum(), 4, 3),
        3 * 0.7 / 4 * (w.abs().sum().square() - w.square().sum()),
    )


def test_products_of_matrices() -> None:
    A, B = gaussian(4, 30), gaussian(30, 5)
    A *= torch.linspace(0.2, 2, 30).double()
    best = product_probabilities(A, B)
    for p in (best, torch.full((30,), 1 / 30).double(), 0.5 * best.flip(0) + 0.5 / 30):
        masks = sample_mask(p, 7, seeding.generator(1), masks=40_000)
        errors = (torch.einsum("ik,mk,kj->mij", A, masks, B) - A @ B).square().sum((1, 2))
        assert agrees(errors, product_error(A, B, p, 7))
        assert product_error(A, B, p, 7) >= optimal_product_error(A, B, 7) * (1 - 1e-12)
    torch.testing.assert_close(product_error(A, B, best, 7), optimal_product_error(A, B, 7))
    assert optimal_product_error(A, B, 7) <= A.square().sum() * B.square().sum() / 7
    # Nearly optimal probabilities, p >= beta p*, cost at most 1 / beta.
    flat = torch.full((30,), 1 / 30).double()
    assert product_error(A, B, flat, 7) <= A.square().sum() * B.square().sum() / (7 * (flat / best).min())
    # One column: the product of a matrix and a vector.
    torch.testing.assert_close(product_error(A, B[:, :1], flat, 7), expected_error(A, B[:, 0], flat, 7))
    both = torch.stack([B, 2 * B])
    torch.testing.assert_close(
        product_error(A, both, flat, 7), product_error(A, B, flat, 7) * torch.tensor([1.0, 4]).double()
    )


def test_the_tangent_kernel() -> None:
    J = gaussian(8, 120) * (0.2 + 1.8 * torch.rand(120, generator=seeding.generator(1))).double()
    K, best = J @ J.mT, kernel_probabilities(J)
    torch.testing.assert_close(best, J.square().sum(0) / J.square().sum())
    flat = torch.full((120,), 1 / 120).double()
    for p in (best, flat):
        masks = sample_mask(p, 20, seeding.generator(2), masks=40_000)
        errors = (torch.einsum("ik,mk,jk->mij", J, masks, J) - K).square().sum((1, 2))
        assert agrees(errors, kernel_error(J, p, 20))
    torch.testing.assert_close(kernel_error(J, best, 20), (J.square().sum().square() - K.square().sum()) / 20)
    assert kernel_error(J, flat, 20) > 1.5 * kernel_error(J, best, 20)


def test_poisson_masks() -> None:
    w, X = weights("student", 60, seeding.generator(0)), gaussian(5, 60)
    q = inclusion(w.abs(), 20)
    errors = mask_errors(X, w, poisson_mask(q, seeding.generator(1), masks=50_000))
    assert agrees(errors, poisson_error(X, w, q))
    assert poisson_error(X, w, torch.ones(60).double()) == 0
    a = X.square().sum(0) * w.square()
    torch.testing.assert_close(poisson_error(X, w, q), (a * (1 - q) / q).sum())
    with pytest.raises(InputError, match="got zero for 1 of them"):
        poisson_error(X, w, q * (torch.arange(60) > 0))
    with pytest.raises(InputError, match=r"sketch 60 coordinates, got inclusion \(59,\)"):
        poisson_error(X, w, q[1:])
    with pytest.raises(InputError, match=r"in \[0, 1\], got .* to 2"):
        poisson_error(X, w, 2 * torch.ones(60).double())


def test_the_best_shrinkage() -> None:
    w, X = weights("gaussian", 40, seeding.generator(0)), gaussian(5, 40)
    p = probabilities(X, w, "optimal")
    shrunk = best_shrinkage(X, w, expected_error(X, w, p, 4))
    masks = sample_mask(p, 4, seeding.generator(1), masks=50_000)
    assert agrees(mask_errors(X, w, shrunk.factor * masks), shrunk.error)
    for factor in (0.5, 2.0):
        assert mask_errors(X, w, factor * shrunk.factor * masks).mean() > shrunk.error
    energy = (X @ w).square().sum()
    torch.testing.assert_close(best_shrinkage(X, w, energy).error, energy / 2)
    assert best_shrinkage(X, 0 * w, torch.zeros(()).double()) == (1, 0)
    assert best_shrinkage(X, w, torch.zeros(()).double()) == (1, 0)


Expectation = Callable[[Tensor, Tensor, Tensor], Tensor]
EXPECTATIONS: dict[str, Expectation] = {
    "expected_error": lambda X, w, p: expected_error(X, w, p, 5),
    "optimal_error": lambda X, w, p: optimal_error(X, w, 5),
    "error_at": lambda X, w, p: torch.stack(error_at(X, w, p, 5), -1),
    "over data": lambda X, w, p: expected_error_over_data(X.square().sum(0), w, p, 5, 2),
    "over correlated data": lambda X, w, p: expected_error_over_data(X.mT @ X, w, p, 5, 2),
    "poisson_error": lambda X, w, p: poisson_error(X, w, p),
    "shrinkage": lambda X, w, p: torch.stack(best_shrinkage(X, w, expected_error(X, w, p, 5)), -1),
}


@pytest.mark.parametrize("name", EXPECTATIONS)
def test_batches_equal_a_loop_and_float32_is_close(name: str) -> None:
    call, X, w = EXPECTATIONS[name], gaussian(4, 30), gaussian(2, 3, 30)
    p = probabilities(X, w, {"magnitude": 0.7, "uniform": 0.3})
    got = call(X, w, p)
    looped = torch.stack([torch.stack([call(X, w[i, j], p[i, j]) for j in range(3)]) for i in range(2)])
    torch.testing.assert_close(got, looped)
    torch.testing.assert_close(call(X, w, p[0, 0])[1, 2], call(X, w[1, 2], p[0, 0]))
    torch.testing.assert_close(call(X.float(), w.float(), p.float()).double(), got, rtol=1e-4, atol=1e-4)


def test_errors_are_never_negative_and_zero_where_nothing_is_left_to_chance() -> None:
    for seed in range(20):
        w = weights("gaussian", 1000, seeding.generator(seed), torch.float32).abs()
        X = w.new_ones(3, 1000)
        for error in (optimal_error(X, w, 3), expected_error(X, w, probabilities(X, w, "optimal"), 3)):
            assert 0 <= error < 1e-5 * (X @ w).square().sum()
    one, X = torch.tensor([2.0]), torch.tensor([[3.0]])
    assert expected_error(X, one, torch.ones(1), 1) == optimal_error(X, one, 1) == 0
    assert error_at(X, one, torch.ones(1), 1) == (0, 0, 0)
    assert expected_error(X, 0 * one, torch.ones(1), 1) == 0
    lonely, X = torch.tensor([0.0, 2.0, 0.0]), torch.ones(2, 3)
    assert expected_error(X, lonely, torch.tensor([0.0, 1.0, 0.0]), 3) == 0
    assert error_at(X, 0 * lonely, torch.ones(3) / 3, 3) == (0, 0, 0)


def test_tiny_weights_of_tiny_probability_still_count() -> None:
    X, w = torch.eye(2, dtype=torch.float64), torch.tensor([1.0, 1e-170], dtype=torch.float64)
    p = torch.tensor([1.0, 1e-300], dtype=torch.float64)
    assert float(expected_error(X, w, p, 1)) == pytest.approx(0, abs=1e-12)
    assert float(expected_error(X, torch.tensor([0.0, 1e-170]).double(), p, 1)) == pytest.approx(1e-40)
    scaled = expected_error(1e100 * X, 1e-100 * torch.ones(2).double(), torch.full((2,), 0.5).double(), 1)
    assert float(scaled) == pytest.approx(2)


def test_bad_input_names_both_sides() -> None:
    X, w, p = gaussian(3, 4), gaussian(4), torch.full((4,), 0.25).double()
    zero = torch.tensor([0.5, 0.5, 0.0, 0.0]).double()
    for call, text in (
        (lambda: expected_error(X, w, zero, 2), "got zero for 2 of them. Mix in a uniform share"),
        (lambda: error_at(X, w, zero, 2), "got zero for 2 of them"),
        (lambda: kernel_error(X, zero, 2), "got zero for 2 of them"),
        (lambda: expected_error(X, w, p, 0), "asked for 0 draws"),
        (lambda: optimal_error(X, w, -1), "asked for -1 draws"),
        (lambda: expected_error(X, w, p[:3], 2), r"sketch 4 coordinates, got probabilities of shape \(3,\)"),
        (lambda: expected_error(X, w.expand(2, 4), p.expand(3, 4), 2), r"got w \(2, 4\) and p \(3, 4\)"),
        (lambda: expected_error(X, w, p * torch.nan, 2), "finite given probabilities, got 4"),
        (lambda: product_error(X, w, p, 2), r"got A \(3, 4\) and B \(4,\)"),
        (lambda: product_error(X, X, p, 2), r"got X \(3, 4\) and w"),
        (lambda: expected_error_over_data(X, w, p, 2, 1), r"second moments \(d, d\) or \(d,\), got \(3, 4\)"),
        (lambda: expected_error_over_data(-p, w, p, 2, 1), "second moments, got a negative one, -0.25"),
        (lambda: expected_error_over_data(p, w, p, 2, 0), "asked for 0 rows"),
    ):
        with pytest.raises(InputError, match=text):
            call()
    # Where the weight or the column is zero, no probability is needed.
    assert expected_error(X, w * (zero > 0), zero, 2) >= 0
    assert expected_error(X * (zero > 0), w, zero, 2) >= 0
