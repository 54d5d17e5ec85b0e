"""Bounds on the error at the end of training: they hold, they are ordered, and the price of leaving out the data."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.sketch.problems import data, weights
from ticketlab import InputError, seeding
from ticketlab.sketch import (
    bounds,
    data_free_price,
    error_at,
    expected_error,
    mixture_bound,
    movement_bound,
    near_optimality_bound,
    optimal_error,
    probabilities,
    ratio_bound,
    relative_bound,
    worst_data_free_price,
)
from ticketlab.sketch.expected import product_energy


def problem(weight: str, kind: str, step: float) -> tuple[Tensor, Tensor, Tensor]:
    w0 = weights(weight, 200, seeding.generator(0, weight))
    X = data(kind, 6, w0, seeding.generator(1, kind))
    moved = torch.randn(200, generator=seeding.generator(2), dtype=torch.float64)
    return X, w0, torch.where(w0 != 0, w0 + step * moved, w0)


@pytest.mark.parametrize("weight", ["gaussian", "student", "cauchy", "sparse"])
@pytest.mark.parametrize("kind", ["iid", "coherent", "rank-one"])
@pytest.mark.parametrize("step", [0.0, 0.1, 1.0])
def test_bounds_hold_in_order(weight: str, kind: str, step: float) -> None:
    X, w0, w_end = problem(weight, kind, step)
    error = error_at(X, w_end, probabilities(X, w0, "optimal"), 10).total * (1 - 1e-9)
    found = bounds(X, w0, w_end, 10)
    assert error <= found.near_optimality <= found.ratio * (1 + 1e-9)
    assert error <= found.movement
    delta = float(((w_end - w0).abs() / w0.abs().where(w0 != 0, torch.ones_like(w0))).max())
    assert found.ratio <= relative_bound(X, w0, w_end, 10, delta) * (1 + 1e-9)
    for share in (0.1, 0.5, 1.0):
        columns = probabilities(X, w0, "column-norm")
        mixed = (1 - share) * probabilities(X, w0, "optimal") + share * columns
        assert error_at(X, w_end, mixed, 10).total <= mixture_bound(X, w_end, 10, share)
    assert found.mixture == mixture_bound(X, w_end, 10, 0.1)


def test_without_movement_the_bounds_are_the_error() -> None:
    X, w0, _ = problem("gaussian", "iid", 0)
    error = optimal_error(X, w0, 10)
    torch.testing.assert_close(ratio_bound(X, w0, w0, 10), error)
    torch.testing.assert_close(near_optimality_bound(X, w0, w0, 10), error)
    torch.testing.assert_close(relative_bound(X, w0, w0, 10, 0.0), error)
    torch.testing.assert_close(movement_bound(X, w0, w0, 10), 2 * error)
    # Every weight scaled alike: the mask is as good as the best, and the ratio is attained.
    torch.testing.assert_close(relative_bound(X, w0, 1.5 * w0, 10, 0.5), optimal_error(X, 1.5 * w0, 10))


def test_near_optimality_by_its_definition() -> None:
    X, w0, w_end = problem("student", "coherent", 0.5)
    p0, best = probabilities(X, w0, "optimal"), probabilities(X, w_end, "optimal")
    length, energy = (X.square().sum(0).sqrt() * w_end.abs()).sum(), product_energy(X, w_end)
    want = (length.square() / (p0 / best).min() - energy) / 10
    torch.testing.assert_close(near_optimality_bound(X, w0, w_end, 10), want)


def test_batches_equal_a_loop() -> None:
    X, w0, w_end = problem("gaussian", "iid", 0.3)
    both, ends = torch.stack([w0, 2 * w0]), torch.stack([w_end, w_end])
    for got, first, second in zip(
        bounds(X, both, ends, 5), bounds(X, w0, w_end, 5), bounds(X, 2 * w0, w_end, 5), strict=True
    ):
        torch.testing.assert_close(got, torch.stack([first, second]))
    for price in (data_free_price, worst_data_free_price):
        torch.testing.assert_close(price(X, both), price(X, w0).expand(2))
        narrow = price(X.float(), w0.float()).double()
        torch.testing.assert_close(narrow, price(X, w0), rtol=1e-5, atol=0)
        torch.testing.assert_close(price(1e200 * X, 1e-200 * w0), price(X, w0))


@pytest.mark.parametrize("weight", ["gaussian", "student", "cauchy", "sparse"])
@pytest.mark.parametrize("kind", ["iid", "coherent", "rank-one"])
def test_the_price_of_leaving_out_the_data_is_exact(weight: str, kind: str) -> None:
    X, w, _ = problem(weight, kind, 0)
    price = data_free_price(X, w)
    leading = [
        10 * expected_error(X, w, probabilities(X, w, k), 10) + product_energy(X, w) for k in ("magnitude", "optimal")
    ]
    torch.testing.assert_close(leading[0] / leading[1], price)
    norms, share = X.square().sum(0).sqrt(), w.abs() / w.abs().sum()
    mean = (share * norms).sum()
    torch.testing.assert_close(price, 1 + (share * (norms - mean).square()).sum() / mean.square())
    assert 1 <= price <= worst_data_free_price(X, w)
    torch.testing.assert_close(data_free_price(torch.ones_like(X), w), torch.ones(()).double())


def test_coordinates_without_data_do_not_matter() -> None:
    X, w0, w_end = problem("gaussian", "iid", 0.3)
    X[:, 3] = 0
    w0[3] = 0
    found, without = bounds(X, w0, w_end, 5), torch.arange(200) != 3
    for got, want in zip(found, bounds(X[:, without], w0[without], w_end[without], 5), strict=True):
        torch.testing.assert_close(got, want)


def test_bad_input_names_both_sides() -> None:
    X, w0, w_end = problem("gaussian", "iid", 0.3)
    lost = w0 * (torch.arange(200) > 1)
    for bound in (ratio_bound, near_optimality_bound, movement_bound):
        with pytest.raises(InputError, match="got 2 coordinates that matter there and have probability zero"):
            bound(X, lost, w_end, 5)
        with pytest.raises(InputError, match=r"got X \(6, 200\) and w \(199,\)"):
            bound(X, w0[1:], w_end, 5)
        with pytest.raises(InputError, match=r"got w0 \(2, 200\) and w_end \(3, 200\)"):
            bound(X, w0.expand(2, 200), w_end.expand(3, 200), 5)
        with pytest.raises(InputError, match="asked for 0 draws"):
            bound(X, w0, w_end, 0)
    with pytest.raises(InputError, match=r"at most 0.1 of themselves, got one that moves \d"):
        relative_bound(X, w0, w_end, 5, 0.1)
    with pytest.raises(InputError, match="at most nan"):
        relative_bound(X, w0, w_end, 5, float("nan"))
    for share in (0.0, 1.1, float("nan")):
        with pytest.raises(InputError, match=f"a share of {share}"):
            mixture_bound(X, w_end, 5, share)
    for price in (data_free_price, worst_data_free_price):
        with pytest.raises(InputError, match="zero in every coordinate"):
            price(X, 0 * w0)
