"""The formula against masks: over a grid of problems, and what else a measurement has to do."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tests.sketch.problems import DATA, WEIGHTS, data, every_kind, real_data, weights
from ticketlab import InputError, seeding
from ticketlab.sketch import (
    NormalisedWarning,
    error_variance,
    expected_error,
    mask_errors,
    measured_error,
    probabilities,
    sample_mask,
)
from ticketlab.sketch.measure import sketch_errors

Cell = tuple[str, float]
DENSITIES = (0.005, 0.02, 0.1, 0.5)


def cells(name: str, X: Tensor, w: Tensor, densities: tuple[float, ...], draws: int) -> Iterator[Cell]:
    """How many exact standard errors the measured mean is away from the formula, for every kind and density."""
    for kind, p in every_kind(X, w, seeding.generator(0, name)):
        for density in densities:
            s = max(1, round(density * len(w)))
            masks = min(4000, max(32, draws // s))
            seen = measured_error(X, w, p, s, masks, seeding.generator(1, name, kind, s)).mean
            formula = float(expected_error(X, w, p, s))
            scale = float((X.square().sum(0).sqrt() * w.abs()).sum().square()) / s
            deviation = (float(error_variance(X, w, p, s)) / masks) ** 0.5
            # Of a sketch without any variance, rounding is all that is seen.
            yield f"{name} {kind} s={s}", abs(seen - formula) / (deviation + 1e-13 * scale)


def grid(
    sizes: tuple[int, ...], densities: tuple[float, ...], draws: int, kinds: tuple[str, ...] = WEIGHTS
) -> Iterator[Cell]:
    for d in sizes:
        for weight in kinds:
            for kind in DATA:
                name = f"d={d} {weight} {kind}"
                w = weights(weight, d, seeding.generator(2, name))
                yield from cells(name, data(kind, 6, w, seeding.generator(3, name)), w, densities, draws)


def grid_of_digits(densities: tuple[float, ...], draws: int) -> Iterator[Cell]:
    for weight in WEIGHTS:
        name = f"digits {weight}"
        X = real_data()
        yield from cells(name, X, weights(weight, X.shape[1], seeding.generator(2, name)), densities, draws)


def check(found: list[Cell]) -> None:
    far = [cell for cell in found if cell[1] > 3]
    assert len(far) <= 0.01 * len(found), far
    assert max(away for _, away in found) <= 5, far


def test_the_formula_is_the_mean_over_masks() -> None:
    check([*grid((10, 100, 1000), DENSITIES, 1 << 15), *grid_of_digits(DENSITIES, 1 << 15)])


def test_the_formula_is_the_mean_over_masks_of_many_coordinates() -> None:
    check([*grid((10_000,), (0.005, 0.1), 1 << 15), *grid((100_000,), (0.005,), 1 << 15, ("student",))])


@pytest.mark.slow
def test_the_formula_is_the_mean_over_masks_on_the_whole_grid() -> None:
    densities = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
    sizes = (10, 30, 100, 300, 1000, 10_000, 100_000)
    check([*grid(sizes, densities, 1 << 20), *grid_of_digits(densities, 1 << 20)])


@pytest.mark.parametrize("s", [1, 2, 30])
def test_the_measured_standard_error_is_the_exact_one_where_tails_are_light(s: int) -> None:
    w = weights("gaussian", 200, seeding.generator(0))
    X = data("iid", 5, w, seeding.generator(1))
    p = probabilities(X, w, "optimal")
    seen = measured_error(X, w, p, s, 100_000)
    assert seen.standard_error == pytest.approx((float(error_variance(X, w, p, s)) / 100_000) ** 0.5, rel=0.03)
    assert seen.masks == 100_000


def test_masks_that_are_laid_out_have_the_same_errors_on_average() -> None:
    w = weights("student", 50, seeding.generator(0))
    X = data("coherent", 5, w, seeding.generator(1))
    p = probabilities(X, w, {"optimal": 0.8, "uniform": 0.2})
    errors = mask_errors(X, w, sample_mask(p, 7, masks=50_000))
    deviation = (float(error_variance(X, w, p, 7)) / 50_000) ** 0.5
    assert abs(float(errors.mean() - expected_error(X, w, p, 7))) < 4 * deviation


@pytest.mark.parametrize("n", [1, 3, 40, 400])
def test_more_rows_than_coordinates_change_nothing(n: int) -> None:
    w = weights("gaussian", 30, seeding.generator(0))
    X = data("iid", n, w, seeding.generator(1))
    p = probabilities(X, w, "uniform")
    got = torch.cat(list(sketch_errors(X, w, p, 5, 200, seeding.generator(2))))
    # The same draws, masks laid out: few draws, so both bisect.
    index = torch.rand(200 * 5, generator=seeding.generator(2), dtype=torch.float64).mul(30).long().view(200, 5)
    masks = torch.zeros(200, 30, dtype=torch.float64).scatter_add_(1, index, torch.full((200, 5), 6.0).double())
    torch.testing.assert_close(got, mask_errors(X, w, masks))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("s", [3, 100])
def test_the_same_seed_gives_the_same_errors(dtype: torch.dtype, s: int) -> None:
    w = weights("gaussian", 300, seeding.generator(0), dtype)
    X = data("iid", 4, w, seeding.generator(1))
    p = probabilities(X, w, "optimal")
    first, again, other = (
        torch.cat(list(sketch_errors(X, w, p, s, 5000, torch.Generator().manual_seed(seed)))) for seed in (5, 5, 6)
    )
    assert torch.equal(first, again) and not torch.equal(first, other) and first.shape == (5000,)
    assert first.dtype == dtype
    assert measured_error(X, w, p, s, 50) == measured_error(X, w, p, s, 50)


def test_float32_sees_the_same_masks_as_float64() -> None:
    w = weights("gaussian", 300, seeding.generator(0))
    X = data("iid", 4, w, seeding.generator(1))
    p = probabilities(X, w, "optimal")
    wide = measured_error(X, w, p, 10, 20_000, seeding.generator(3))
    narrow = measured_error(X.float(), w.float(), p.float(), 10, 20_000, seeding.generator(3))
    assert narrow.mean == pytest.approx(wide.mean, rel=1e-3)


def test_parameters_may_require_gradients() -> None:
    w = weights("gaussian", 20, seeding.generator(0)).requires_grad_()
    X = data("iid", 4, w.detach(), seeding.generator(1))
    assert measured_error(X, w, probabilities(X, w, "optimal"), 3, 10).mean > 0


def test_one_coordinate_leaves_no_error() -> None:
    X, w = torch.tensor([[2.0], [1.0]]), torch.tensor([-3.0])
    assert measured_error(X, w, torch.ones(1), 1, 5) == (0.0, 0.0, 5)
    X, w = torch.randn(3, 4), torch.tensor([0.0, 0.0, 2.0, 0.0])
    assert measured_error(X, w, probabilities(X, w, "optimal"), 2, 5).mean == pytest.approx(0, abs=1e-12)


def test_bad_input_is_refused_at_once() -> None:
    X, w = torch.eye(4), torch.tensor([1.0, 2.0, 3.0, 0.0])
    p = torch.full((4,), 0.25)
    with pytest.raises(InputError, match=r"got zero for 1 of them"):
        sketch_errors(X, w, torch.tensor([0.5, 0.5, 0.0, 0.0]), 2, 10)
    for bad, text in (
        ((X, w, p, 0, 10), "asked for 0 draws"),
        ((X, w, p, 2.5, 10), "asked for 2.5 draws"),
        ((X, w, p, 2, 1), "got 1 masks"),
        ((X, w, p, 2, 0), "asked for 0 masks"),
        ((X, w, p[:3], 2, 10), r"sketch 4 coordinates, got probabilities of shape \(3,\)"),
        ((X, w[:3], p, 2, 10), r"X \(4, 4\) and w \(3,\)"),
        ((X, w.expand(2, 4), p, 2, 10), r"one sketch, got w \(2, 4\)"),
        ((X * torch.nan, w, p, 2, 10), "finite data, got 16 NaN"),
        ((X, w.double(), p, 2, 10), r"got X torch.float32 on cpu and w torch.float64"),
    ):
        with pytest.raises(InputError, match=text):
            measured_error(*bad)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"got w \(4,\) and masks \(2, 3\)"):
        mask_errors(X, w, torch.ones(2, 3))
    with pytest.raises(InputError, match="finite masks, got 1 NaN"):
        mask_errors(X, w, torch.tensor([[1.0, 1.0, 1.0, torch.nan]]))


def test_masks_of_any_kind_of_numbers_can_be_measured() -> None:
    X, w = torch.eye(3), torch.tensor([1.0, 2.0, 3.0])
    assert mask_errors(X, w, torch.tensor([[True, False, True], [True, True, True]])).tolist() == [4.0, 0.0]


def test_a_warning_points_to_whoever_gave_the_probabilities() -> None:
    X, w = torch.eye(3), torch.ones(3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        measured_error(X, w, torch.ones(3), 2, 10)
    assert [(c.category, c.filename) for c in caught] == [(NormalisedWarning, __file__)]
