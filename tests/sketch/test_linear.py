"""Where linear models start and end: the nearest least-squares solution, and gradient descent on its way there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ticketlab.errors import InputError
from ticketlab.sketch import linear


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def data(rows: int, size: int, models: int = 3) -> tuple[Tensor, Tensor]:
    X = noise(rows, size)
    X[:, 1] = 0  # a pixel that is always black
    X[:, 2] = X[:, 3] + X[:, 4]  # a column that depends on others
    return X, noise(models, rows, seed=1).sign()


@pytest.mark.parametrize(("rows", "size"), [(40, 9), (9, 9), (6, 20)])
def test_the_closed_form_is_the_nearest_solution(rows: int, size: int) -> None:
    X, Y = data(rows, size)
    w0 = linear.start([0, 1, 2], size, 0.3, seed=0)
    w = linear.closed_form(linear.regression(X, Y), w0)
    expected = w0 + (torch.linalg.pinv(X) @ (Y - w0 @ X.mT).mT).mT
    torch.testing.assert_close(w, expected)
    # What no example sees stays as it was.
    torch.testing.assert_close(w[:, 1], w0[:, 1])


def test_turning_the_rows_changes_nothing_that_counts() -> None:
    X, Y = data(50, 8)
    problem = linear.regression(X, Y)
    w = noise(3, 8, seed=2)
    assert problem.X.shape == (8, 8) and problem.examples == 50
    torch.testing.assert_close(problem.X.mT @ problem.X, X.mT @ X)
    assert float(problem.X[:, 1].abs().max()) == 0
    torch.testing.assert_close(problem.loss(w), (w @ X.mT - Y).square().mean(1))
    torch.testing.assert_close(problem.gradient(w), (w @ X.mT - Y) @ X / 50)


def test_gradient_descent_ends_at_the_closed_form() -> None:
    problem = linear.regression(noise(60, 5), data(60, 5)[1])
    w0 = linear.start([0, 1, 2], 5, 1.0, seed=0)
    w, steps = linear.gradient_descent(problem, w0, 100_000)
    assert steps < 100_000
    torch.testing.assert_close(w, linear.closed_form(problem, w0))
    near, few = linear.gradient_descent(problem, w0, 3)
    assert few == 3 and problem.loss(w).sum() < problem.loss(near).sum() < problem.loss(w0).sum()


def test_a_start_does_not_depend_on_the_other_classes() -> None:
    both = linear.start([3, 7], 400, 0.1, seed=5)
    assert torch.equal(linear.start([7], 400, 0.1, seed=5)[0], both[1])
    assert not torch.equal(both[0], both[1]) and not torch.equal(linear.start([3], 400, 0.1, seed=6)[0], both[0])
    assert float(both.std()) == pytest.approx(0.1, rel=0.1)
    assert linear.movement(both, both + 0.2, 0.1) == pytest.approx(2)


def test_features() -> None:
    pixels = torch.tensor([[[0, 255]], [[51, 255]]], dtype=torch.uint8)
    assert linear.features(pixels, standardise=False).tolist() == [[0, 1], [0.2, 1]]
    assert linear.features(pixels, standardise=True).tolist() == [[-1, 0], [1, 0]]
    X = linear.features(noise(30, 2, 3).float() * 4 + 7, standardise=True)
    torch.testing.assert_close(X.mean(0), torch.zeros(6, dtype=torch.float64))
    torch.testing.assert_close(X.square().mean(0), torch.ones(6, dtype=torch.float64))


def test_targets() -> None:
    assert linear.targets(torch.tensor([2, 0, 2]), [2, 0]).tolist() == [[1, -1, 1], [-1, 1, -1]]


def test_refusals() -> None:
    labels = torch.tensor([0, 1, 1])
    with pytest.raises(InputError, match=r"asked for a linear model of 2, got examples of 0, 1"):
        linear.targets(labels, [0, 2])
    with pytest.raises(InputError, match="named twice"):
        linear.targets(labels, [1, 1])
    with pytest.raises(InputError, match="zero in every coordinate"):
        linear.regression(torch.zeros(3, 2, dtype=torch.float64), labels[None].double())
    with pytest.raises(InputError, match=r"--limit-train 26843 or fewer"):
        linear.features(torch.empty(30_000, 10_000, device="meta"), standardise=False)
