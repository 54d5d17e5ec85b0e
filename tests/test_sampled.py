"""Masks drawn in proportion to scores: the law of the draw, its options, and how rounds differ from one draw."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import tiny
import torch
from torch import Tensor, nn

import ticketlab
from ticketlab import InputError, methods, sampling, select, spec
from ticketlab.methods import METHODS, SAMPLED
from ticketlab.program import Prune
from ticketlab.pruning import find_mask
from ticketlab.rounds import sparsity_after


def alive_of(scores: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.ones(s.shape, dtype=torch.bool) for name, s in scores.items()}


def inclusion(scores: list[float], kept: int, draws: int = 20_000, **options: object) -> Tensor:
    """How often each of a few weights is drawn."""
    given = {"w": torch.tensor(scores, dtype=torch.float64)}
    drawn = [select.sampled(given, kept, alive_of(given), seed, **options)["w"] for seed in range(draws)]  # type: ignore[arg-type]
    return torch.stack(drawn).double().mean(0)


def one_after_the_other(scores: list[float], kept: int) -> Tensor:
    """The exact inclusion probabilities of drawing in proportion to what is left, by going through all orders."""
    found = torch.zeros(len(scores), dtype=torch.float64)
    for order in itertools.permutations(range(len(scores)), kept):
        left, chance = sum(scores), 1.0
        for i in order:
            chance *= scores[i] / left
            left -= scores[i]
        found[list(order)] += chance
    return found


@pytest.mark.parametrize(
    ("scores", "kept", "published"),
    [
        ([0.5, 0.3, 0.2], 2, [0.83929, 0.67500, 0.48571]),
        ([5.0, 3.0, 1.0, 1.0, 0.5, 0.2], 3, [0.93, 0.83, 0.45, 0.45, 0.24, 0.10]),
    ],
)
def test_inclusion_is_that_of_drawing_one_after_the_other(
    scores: list[float], kept: int, published: list[float]
) -> None:
    exact = one_after_the_other(scores, kept)
    assert torch.allclose(exact, torch.tensor(published, dtype=torch.float64), atol=6e-3 if kept == 3 else 6e-6)
    error = (exact * (1 - exact) / 20_000).sqrt()
    assert ((inclusion(scores, kept) - exact).abs() < 4 * error).all()


def test_temperature_runs_from_uniform_to_top_k() -> None:
    scores = [4.0, 3.0, 2.0, 1.0, 0.0]
    flat = inclusion(scores, 2, 4000, power=0.0)
    assert flat[:4] == pytest.approx([0.5] * 4, abs=0.04) and flat[4] == 0
    squared = inclusion(scores, 1, 4000, power=2.0)
    assert squared == pytest.approx([16 / 30, 9 / 30, 4 / 30, 1 / 30, 0], abs=0.04)
    assert inclusion(scores, 2, 50, power=200.0).tolist() == [1, 1, 0, 0, 0]


def test_mix_is_a_share_of_uniform_drawing() -> None:
    scores = [3.0, 1.0, 0.0, 0.0]
    assert inclusion(scores, 1, 8000, mix=0.4) == pytest.approx([0.55, 0.25, 0.1, 0.1], abs=0.03)
    assert inclusion(scores, 1, 8000, mix=1.0) == pytest.approx([0.25] * 4, abs=0.03)


def test_low_scores_are_drawn_when_turned_round() -> None:
    assert inclusion([4.0, 2.0, 1.0], 1, 8000, power=-1.0) == pytest.approx([1 / 7, 2 / 7, 4 / 7], abs=0.03)


def test_what_is_not_positive_comes_last_and_in_random_order() -> None:
    drawn = inclusion([1e-300, 2.0, 0.0, -5.0, -0.0], 4, 2000)
    assert drawn[:2].tolist() == [1, 1] and drawn[2:] == pytest.approx([2 / 3] * 3, abs=0.06)


@pytest.mark.parametrize("scale", [1e-250, 1e-30, 1.0, 1e30, 1e250])
@pytest.mark.parametrize("mix", [0.0, 0.3])
def test_scores_of_any_size_are_drawn_alike(scale: float, mix: float) -> None:
    scores = torch.rand(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    one, other = (
        select.sampled({"w": s}, 20, {"w": torch.ones(50, dtype=torch.bool)}, 3, mix=mix)["w"]
        for s in (scores, scores * scale)
    )
    # Keys are float32: so far from zero, the last of twenty may fall the other way.
    assert int((one & other).sum()) >= 19


def test_with_replacement_fewer_are_kept() -> None:
    scores = {"a": torch.rand(4000), "b": torch.rand(60, 100)}
    for density, distinct in [(0.5, 0.71), (0.1, 0.93), (0.02, 0.985)]:
        weights = {"w": torch.randn(100_000, generator=torch.Generator().manual_seed(1)).abs()}
        count = round(density * 100_000)
        kept = select.sampled(weights, count, alive_of(weights), 0, replacement=True)["w"]
        assert int(kept.sum()) / count == pytest.approx(distinct, abs=0.006)
    alive = {"a": torch.rand(4000) < 0.3, "b": torch.rand(60, 100) < 0.3}
    kept = select.sampled(scores, 1500, alive, 0, replacement=True)
    assert all(not bool((kept[n] & ~alive[n]).any()) for n in kept)
    assert 0 < sum(int(k.sum()) for k in kept.values()) < 1500
    layered = select.sampled(scores, {"a": 100, "b": 0}, alive, 0, replacement=True)
    assert 0 < int(layered["a"].sum()) <= 100 and not layered["b"].any()


def test_keys_of_many_weights_do_not_repeat_noise() -> None:
    """Chunks go on where the last one ended, and the keys of uniform scores are a Gumbel sample."""
    keys = sampling.noisy_keys(torch.ones(600_001), 5)
    assert keys.unique().numel() > 590_000
    # Mean and variance of -log(Exp(1)): Euler's constant, pi^2 / 6.
    assert float(keys.mean()) == pytest.approx(0.57722, abs=0.01)
    assert float(keys.var()) == pytest.approx(math.pi**2 / 6, abs=0.02)


def test_layers_draw_by_their_own_names() -> None:
    scores = {"a": torch.rand(100), "b": torch.rand(100)}
    counts = {"a": 30, "b": 20}
    both = select.sampled(scores, counts, alive_of(scores), 1)
    alone = select.sampled({"b": scores["b"]}, {"b": 20}, alive_of({"b": scores["b"]}), 1)
    assert torch.equal(both["b"], alone["b"])


def energy(rounds: int, draw: str = "every") -> float:
    """The share of squared weight that a mask of 10% keeps."""
    torch.manual_seed(0)
    model = nn.Linear(300, 300, bias=False)
    nn.init.normal_(model.weight)
    mask = ticketlab.prune(model, "magnitude+sampled", 0.9, rounds=rounds, draw=draw)
    square = model.weight.detach().square()
    return float(square[mask["weight"]].sum() / square.sum())


@pytest.mark.parametrize(
    ("rounds", "expected"), [(1, 0.185), (2, 0.246), (5, 0.308), (10, 0.338), (30, 0.373), (100, 0.390)]
)
def test_drawing_in_every_round_nears_top_k(rounds: int, expected: float) -> None:
    assert energy(rounds) == pytest.approx(expected, abs=0.007)


def test_drawing_in_the_last_round_only_is_another_method() -> None:
    # After 9 of 10 rounds of top-k, 12.6% are left to draw 10% from.
    assert energy(10) < energy(10, "last") < 0.44
    assert energy(1, "last") == energy(1, "every")


def rounds_of_a_program(rounds: int, draw: str) -> float:
    """The energy that prunings in the rounds of a program keep, as a study runs them: a stage each."""
    torch.manual_seed(0)
    model = nn.Linear(300, 300, bias=False)
    nn.init.normal_(model.weight)
    method, own = methods.configured(METHODS["imp+sampled"], {"rounds": rounds, "draw": draw})
    mask = None
    for stage in method.program(0.9, own):
        if isinstance(stage, Prune):
            share = sparsity_after(0.9, stage.of_path, 1)
            mask = find_mask(model, method, own, share, batches=[], start=mask, of_path=stage.of_path)
    assert mask is not None and mask.kept == 9000
    square = model.weight.detach().square()
    return float(square[mask["weight"]].sum() / square.sum())


def test_every_pruning_of_a_program_draws_anew() -> None:
    every, last = rounds_of_a_program(10, "every"), rounds_of_a_program(10, "last")
    assert every == pytest.approx(0.338, abs=0.007) and every < last < 0.44


def test_prunings_of_a_program_are_steps_of_their_own(tmp_path: Path) -> None:
    """Two settings of the draw, and two stages, never share a result."""
    found = {}
    for spec_ in ("imp+sampled,rounds=3", "imp+sampled,rounds=3,draw=last", "imp+sampled,rounds=3,mix=0.1"):
        prepared = tiny.prepared(tmp_path / spec_, [spec_], checks=["rearrange"])
        steps = [s for s in prepared.plan.steps.values() if s.kind == "prune" and s.params["seed"] == 0]
        found[spec_] = {s.id for s in steps}
        assert len(steps) == 3 and {s.params["of_path"] for s in steps} == {1 / 3, 2 / 3, 1.0}
    assert len(set().union(*found.values())) == 9


@pytest.mark.parametrize("replacement", [False, True])
def test_turned_round_zeros_come_first_whatever_is_mixed_in(replacement: bool) -> None:
    scores = {"w": torch.cat([torch.zeros(100), torch.rand(900) + 0.1])}
    kept = select.sampled(scores, 100, alive_of(scores), 0, power=-1.0, mix=0.1, replacement=replacement)["w"]
    assert int(kept[:100].sum()) >= 50
    assert replacement or int(kept.sum()) == 100


@pytest.mark.parametrize("budget", ["global", "uniform", "erk"])
def test_with_replacement_in_rounds(budget: str) -> None:
    model = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 10))
    mask = ticketlab.prune(model, "magnitude+sampled", 0.5, budget=budget, replacement=True, rounds=3)
    assert 0 < mask.kept < round(0.5 * mask.total)
    with pytest.raises(InputError, match="which keep fewer"):
        ticketlab.prune(model, "magnitude,budget=ratios:magnitude+sampled/replacement=true", 0.5)


@pytest.mark.parametrize("options", ["temperature=0", "mix=1"])
def test_a_draw_that_ignores_scores_is_not_inverted(options: str, tmp_path: Path) -> None:
    planned = tiny.prepared(tmp_path, [f"snip+sampled,{options}", "snip+sampled"], checks=["invert", "corrupted"]).plan
    left_out = {(e["method"], e["check"]) for e in planned.not_applicable}
    assert (f"snip+sampled,{options}", "invert") in left_out and not any(m == "snip+sampled" for m, _ in left_out)


def test_temperatures_beyond_any_use() -> None:
    with pytest.raises(InputError, match="use select=top-k"):
        ticketlab.prune(nn.Linear(40, 30), "magnitude+sampled,temperature=1e30", 0.8)
    top = ticketlab.prune(nn.Linear(40, 30), "magnitude+sampled,temperature=1e6", 0.8)
    assert top.kept == 240


def test_every_method_with_a_score_has_a_twin() -> None:
    for name, method in METHODS.items():
        if name.endswith(SAMPLED):
            assert method.select == "sampled" and METHODS[name.removesuffix(SAMPLED)].score is method.score
        else:
            assert (name + SAMPLED in METHODS) == (method.score is not None)


def test_options_of_the_draw_step_aside_for_those_of_the_score() -> None:
    _, own = methods.configured(METHODS["grasp+sampled"], {"temperature": 5.0, "draw_temperature": 2.0})
    assert own["temperature"] == 5.0 and own["draw_temperature"] == 2.0
    assert methods.draw_of(METHODS["grasp+sampled"], own)["temperature"] == 2.0
    with pytest.raises(InputError, match="option of grasp"):
        methods.configured(METHODS["grasp"], {"draw_temperature": 2.0})


def test_selection_by_option_is_the_twin() -> None:
    model = nn.Linear(40, 30)
    assert ticketlab.prune(model, "magnitude", 0.8, select="sampled", mix=0.1) == ticketlab.prune(
        model, "magnitude+sampled,mix=0.1", 0.8
    )


def my_score(model: nn.Module, batches: object, loss: object) -> dict[str, Tensor]:
    return {name: p.detach().abs() for name, p in model.named_parameters()}


def test_a_score_of_ones_own_has_a_twin_too(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = spec.resolve(f"{__name__}:my_score{SAMPLED}")
    assert found.select == "sampled" and found.name.endswith(f":my_score{SAMPLED}")
    model = nn.Linear(40, 30)
    mask = ticketlab.prune(model, found, 0.8, data=[(torch.randn(2, 40), torch.zeros(2, dtype=torch.long))])
    assert mask == ticketlab.prune(model, "magnitude+sampled", 0.8)
    monkeypatch.setattr(methods, "METHODS", dict(METHODS))
    own = ticketlab.methods.Method("own-score", score=my_score)
    methods.register(own)
    assert methods.METHODS["own-score+sampled"].score is my_score
    methods.register(ticketlab.methods.Method("upside-down", score=my_score, select="inverted"))
    assert methods.METHODS["upside-down+sampled"].select == "sampled"
    with pytest.raises(InputError, match="taken: 'own-score'"):
        methods.register(own)


def test_no_twin_without_a_score() -> None:
    with pytest.raises(InputError, match="without a score"):
        methods.sampled(METHODS["random"])
    with pytest.raises(InputError, match="without a score"):
        ticketlab.prune(nn.Linear(40, 30), "random+sampled", 0.8)
    with pytest.raises(InputError, match="Did you mean 'magnitude\\+sampled'"):
        ticketlab.prune(nn.Linear(40, 30), "magnitud+sampled", 0.8)


def test_training_needs_an_exact_count(tmp_path: object) -> None:
    with pytest.raises(InputError, match="draws with replacement, which keep fewer"):
        ticketlab.find("conv", "magnitude+sampled,replacement=true", 0.9, data="digits")
