"""The experiment: what is measured agrees with the formulas, keeps to the bounds, and can be had again."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch import Tensor

from ticketlab.errors import InputError
from ticketlab.sketch import linear, measured_error, probabilities
from ticketlab.sketch.bounds import data_free_price
from ticketlab.sketch.cells import measured
from ticketlab.sketch.document import document
from ticketlab.sketch.study import Plan, Study, study, study_from

MIXED = {"optimal": 0.8, "column-norm": 0.2}
KINDS = {"optimal": "optimal", "magnitude": "magnitude", "uniform": "uniform", "snip": "snip", "mixed": MIXED}
PLAN = Plan(KINDS, (1, 3, 8, 16), (0.0, 0.05, 1.0), (0, 1), steps=5, masks=3000, std=0.5, seed=0)


def problem(rows: int = 50, size: int = 8) -> linear.Regression:
    generator = torch.Generator().manual_seed(3)
    X = torch.randn(rows, size, generator=generator, dtype=torch.float64) * torch.linspace(0.5, 2, size).double()
    X[:, 0] = 0
    return linear.regression(X, torch.randn(2, rows, generator=generator, dtype=torch.float64).sign())


def close(w: Tensor) -> Tensor:
    """Weights none of which is near zero: every error has a light tail."""
    return w.sign() * (0.3 + w.abs())


def found(plan: Plan = PLAN) -> Study:
    given = problem()
    return study_from(given, plan, close(linear.start(plan.classes, 8, plan.std, plan.seed)))


def test_formulas_are_measured_and_bounds_hold() -> None:
    result = found()
    assert len(result.cells) == 5 * 4 * 4 and result.empty_columns == 1
    within = 0
    for cell in result.cells:
        assert cell.measured is not None and cell.formula is not None and cell.standard_error is not None
        assert cell.shrunk is not None
        energy = next(end.energy for end in result.ends if end.name == cell.end)
        assert 0 < cell.shrunk < min(cell.formula, energy)
        far = abs(cell.measured - cell.formula) / cell.standard_error
        within += far < 3
        assert far < 5, cell
        assert all(cell.formula <= bound * (1 + 1e-9) for bound in cell.bounds.values()), cell
    assert within >= 79
    assert {name for cell in result.cells for name in cell.bounds if cell.kind == "mixed"} == {"mixture"}
    optimal = [cell for cell in result.cells if cell.kind == "optimal"]
    assert all(set(cell.bounds) == {"ratio", "near-optimality", "movement"} for cell in optimal)


def test_end_points() -> None:
    start, near, solved, descent = found().ends
    assert [start.name, near.name, solved.name] == ["start", "0.05 of the way", "closed form"]
    assert descent.steps == 5 and descent.distance is None
    assert start.movement == 0 and near.movement == pytest.approx(0.05 * solved.movement)
    assert solved.loss < descent.loss < start.loss


def test_the_start_is_always_there() -> None:
    result = found(dataclasses.replace(PLAN, distances=(1.0,), steps=0, masks=10))
    assert [end.name for end in result.ends] == ["start", "closed form"]


def test_the_price_of_no_data() -> None:
    given, result = problem(), found()
    w0 = close(linear.start(PLAN.classes, 8, PLAN.std, PLAN.seed))
    single = data_free_price(given.X, w0)
    first = result.prices[0]
    assert (first.least, first.most) == pytest.approx((float(single.min()), float(single.max())))
    assert first.least <= first.formula <= first.most
    assert first.low is not None and first.high is not None and first.measured is not None
    assert abs(first.measured - first.formula) < 1.5 * (first.high - first.low)
    alone = found(dataclasses.replace(PLAN, kinds={"optimal": "optimal"}, masks=10))
    assert alone.prices[0].measured is None and alone.prices[0].formula == first.formula


def test_the_same_again_and_other_seeds_differ() -> None:
    small = dataclasses.replace(PLAN, masks=20)
    assert study(problem(), small) == study(problem(), small)
    assert study(problem(), small).cells != study(problem(), dataclasses.replace(small, seed=1)).cells


def test_a_cell_does_not_depend_on_the_others() -> None:
    small = dataclasses.replace(PLAN, masks=20)
    alone = found(dataclasses.replace(small, kinds={"uniform": "uniform"}, draws=(3,), distances=(1.0,)))
    ends = {end.name for end in alone.ends}
    among = [c for c in found(small).cells if (c.kind, c.draws) == ("uniform", 3) and c.end in ends]
    assert list(alone.cells) == among


def test_masks_laid_out_agree_with_columns_summed() -> None:
    given = problem()
    w = linear.start([0], 8, 1.0, seed=0)
    p = probabilities(given.X, w, "magnitude")
    one = measured(given.X, w, p, 4, 20_000, torch.Generator().manual_seed(0))
    other = measured_error(given.X, w[0], p[0], 4, 20_000, torch.Generator().manual_seed(1))
    assert abs(one.mean - other.mean) < 4 * (one.standard_error**2 + other.standard_error**2) ** 0.5


def test_a_probability_of_zero_where_it_matters_has_no_error() -> None:
    w0 = close(linear.start(PLAN.classes, 8, PLAN.std, PLAN.seed))
    w0[1, 4] = 0
    result = study_from(problem(), dataclasses.replace(PLAN, masks=10), w0)
    undefined = {(cell.kind, cell.end) for cell in result.cells if cell.why}
    ends = [end.name for end in result.ends]
    assert undefined == {(kind, end) for kind in ("optimal", "magnitude", "snip") for end in ends[1:]}
    assert all(cell.measured is None and "zero" in cell.why for cell in result.cells if cell.why)


def test_scores_of_zero_only_have_no_error() -> None:
    # The loss has no gradient where no target asks for anything and the weights see only zeros: snip has no scores.
    given = dataclasses.replace(problem(), Y=torch.zeros(2, 8, dtype=torch.float64))
    plan = dataclasses.replace(PLAN, masks=10, kinds={"snip": "snip", "uniform": "uniform"})
    result = study_from(given, plan, torch.eye(8, dtype=torch.float64)[[0, 0]])
    assert {cell.kind for cell in result.cells if cell.why} == {"snip"}
    assert result.prices[0].formula is None and all(b.error == 0 for b in result.binary)


def test_binary_masks() -> None:
    result = found(dataclasses.replace(PLAN, masks=200))
    assert {b.kept for b in result.binary} == {1, 3, 8}, "a binary mask keeps no more weights than there are"
    assert len({b.mask for b in result.binary}) == 5
    for b in result.binary:
        assert (b.standard_error == 0) == (b.mask.startswith("top-k") or b.kept == 8)
        assert b.error == pytest.approx(0, abs=1e-9) if b.kept == 8 else b.error > 0


def test_the_document_is_json() -> None:
    result = document(found(dataclasses.replace(PLAN, masks=10)), data={"name": "noise"}, command="x")
    again = json.loads(json.dumps(result, allow_nan=False))
    assert again == result
    assert [k["reads_data"] for k in again["kinds"]] == [True, False, False, True, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks": 1}, "too few for a standard error"),
        ({"std": 0.0}, "no spread"),
        ({"draws": ()}, "nothing to draw"),
        ({"distances": (-1.0,)}, "negative or infinite"),
    ],
)
def test_refusals(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        study(problem(), dataclasses.replace(PLAN, **change))  # type: ignore[arg-type]
