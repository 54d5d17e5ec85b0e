"""Scores: the hand cases of the papers, their invariances, their conservation laws, a finite difference."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import ticketlab
from ticketlab import InputError
from ticketlab.scores.grasp import grasp
from ticketlab.scores.magnitude import magnitude
from ticketlab.scores.snip import snip
from ticketlab.scores.synflow import synflow
from ticketlab.scoring import Batch, call_score, private_scoring

Loss = Callable[[Tensor, Tensor], Tensor]


def scores_of(
    score: Callable[..., dict[str, Tensor]],
    model: nn.Module,
    batches: list[Batch] | None = None,
    loss: Loss | None = None,
    mask: dict[str, Tensor] | None = None,
    mode: str = "eval",
    input_shape: tuple[int, ...] | None = None,
    **options: Any,
) -> dict[str, Tensor]:
    """The scores of the weights of a model, as ``prune`` would get them."""
    weights = ticketlab.prunable(model)
    with private_scoring(
        model,
        list(weights),
        mask=mask or {n: torch.ones(w.shape, dtype=torch.bool) for n, w in weights.items()},
        batches=batches or [],
        loss=loss,
        seed=0,
        mode=mode,
        input_shape=input_shape,
        options=options,
    ) as scoring:
        return call_score(score, scoring)


def linear(weight: list[list[float]], bias: list[float] | None = None) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight), bias=bias is not None, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        if bias is not None:
            layer.bias.copy_(torch.tensor(bias))
    return layer


def relu_net(*sizes: int, bias: bool = False, seed: int = 0) -> nn.Sequential:
    """Linear layers with ReLUs between, in float64."""
    draw = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        layer = nn.Linear(fan_in, fan_out, bias=bias, dtype=torch.float64)
        with torch.no_grad():
            for p in layer.parameters():
                p.copy_(torch.randn(p.shape, generator=draw, dtype=torch.float64))
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def a_batch(features: int, classes: int, size: int = 12, seed: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(seed + 50)
    return (
        torch.randn(size, features, generator=draw, dtype=torch.float64),
        torch.randint(classes, (size,), generator=draw),
    )


def half_square(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * (outputs**2).sum()


def test_magnitude_by_hand() -> None:
    model = nn.Sequential(linear([[0.1, -0.9, 0.5, -0.2]]))
    assert ticketlab.prune(model, "magnitude", 0.5)["0.weight"].tolist() == [[False, True, True, False]]


def test_magnitude_scales_with_the_layer() -> None:
    model, scaled = relu_net(8, 9, 4), relu_net(8, 9, 4)
    with torch.no_grad():
        scaled[2].weight.mul_(10)
    assert ticketlab.prune(model, "magnitude", 0.5) != ticketlab.prune(scaled, "magnitude", 0.5)
    local = {"budget": "uniform"}
    assert ticketlab.prune(model, "magnitude", 0.5, **local) == ticketlab.prune(scaled, "magnitude", 0.5, **local)


def test_magnitude_of_half_precision_ranks_as_it_is() -> None:
    model = nn.Sequential(linear([[1.0, 1.0078125, -1.015625, 0.5]])).to(torch.bfloat16)
    assert scores_of(magnitude, model)["0.weight"].dtype == torch.float32
    assert ticketlab.prune(model, "magnitude", 0.5)["0.weight"].tolist() == [[False, True, True, False]]


def snip_case() -> tuple[nn.Module, Batch]:
    """f = 3 relu(x) - relu(2x) with x = 1: f = 1 and L = f^2 / 2."""
    model = nn.Sequential(linear([[1.0], [2.0]]), nn.ReLU(), linear([[3.0, -1.0]]))
    return model, (torch.ones(1, 1, dtype=torch.float64), torch.zeros(1))


def test_snip_by_hand() -> None:
    model, batch = snip_case()
    found = scores_of(snip, model, [batch], half_square)
    assert found["0.weight"].tolist() == [[3.0], [2.0]] and found["2.weight"].tolist() == [[3.0, 2.0]]
    mask = ticketlab.prune(model, "snip", 0.5, data=[batch], loss=half_square)
    assert mask["0.weight"].tolist() == [[True], [False]] and mask["2.weight"].tolist() == [[True, False]]


def test_snip_accumulates_gradients_or_scores() -> None:
    """Opposite inputs of a linear model with loss = output: gradients cancel, scores add up."""
    model = nn.Sequential(linear([[2.0, 3.0]]))
    batches = [(torch.tensor([[1.0, 1.0]], dtype=torch.float64), 0), (torch.tensor([[-1.0, 2.0]]).double(), 0)]

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.sum()

    assert scores_of(snip, model, batches, loss)["0.weight"].tolist() == [[0.0, 9.0]]
    assert scores_of(snip, model, batches, loss, accumulate="score")["0.weight"].tolist() == [[4.0, 9.0]]


def test_snip_signed_sums_are_conserved_but_absolute_ones_are_not() -> None:
    model, batch = relu_net(5, 7, 6, 3), a_batch(5, 3)
    value = functional.cross_entropy(model(batch[0]), batch[1])
    weights = list(ticketlab.prunable(model).values())
    signed = [w.detach() * g for w, g in zip(weights, torch.autograd.grad(value, weights), strict=True)]
    found = list(scores_of(snip, model, [batch]).values())
    for s, f in zip(signed, found, strict=True):
        torch.testing.assert_close(s.abs(), f)
    for before, after in itertools.pairwise(signed):
        torch.testing.assert_close(before.sum(1), after.sum(0))
    assert not torch.allclose(found[0].sum(1), found[1].sum(0))


def test_snip_sums_to_zero_before_train_mode_batch_norm() -> None:
    """Rule R4: the loss does not see the scale of a unit whose norm follows at once."""
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6, eps=1e-12), nn.ReLU(), nn.Linear(6, 3)).double()
    signed: dict[str, Tensor] = {}

    def spy(scoring: ticketlab.Scoring) -> dict[str, Tensor]:
        grads = scoring.gradient(scoring.batches[0])
        signed.update({n: scoring.weights[n].detach() * g for n, g in grads.items()})
        return {n: g.abs() for n, g in grads.items()}

    for mode, zero in (("train", True), ("eval", False)):
        scores_of(spy, model, [a_batch(5, 3)], mode=mode)
        assert bool((signed["0.weight"].sum(1).abs() < 1e-8).all()) == zero


@pytest.mark.parametrize("factor", [0.01, 3.0, 1e4])
@pytest.mark.parametrize("score", [snip, synflow])
def test_invariant_to_moving_scale_between_layers(score: Any, factor: float) -> None:
    model, scaled, batch = relu_net(5, 7, 6, 3), relu_net(5, 7, 6, 3), a_batch(5, 3)
    with torch.no_grad():
        scaled[0].weight.mul_(factor)
        scaled[2].weight.div_(factor)
    found, moved = (scores_of(score, m, [batch], input_shape=(5,)) for m in (model, scaled))
    for name in found:
        torch.testing.assert_close(found[name], moved[name], rtol=1e-10, atol=1e-14)
    magnitudes, changed = (scores_of(magnitude, m) for m in (model, scaled))
    assert not torch.allclose(magnitudes["0.weight"], changed["0.weight"])


class Quadratic(nn.Module):
    """L = sum(h * w^2) / 2 as the output of a net with one linear weight."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = linear([[2.0, 1.0]])

    def forward(self, h: Tensor) -> Tensor:
        return 0.5 * (h * self.layer.weight**2).sum()


def test_grasp_by_hand() -> None:
    """h = (1, 4), w = (2, 1): Hg = (2, 16), -w Hg = (-4, -16); the higher one, weight 0, goes."""
    batch = (torch.tensor([[1.0, 4.0]], dtype=torch.float64), torch.zeros(1))

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs

    options = {"temperature": 1.0, "redraw_classifier": False}
    found = scores_of(grasp, Quadratic(), [batch], loss, **options)
    assert found["layer.weight"].tolist() == [[4.0, 16.0]]
    mask = ticketlab.prune(Quadratic(), "grasp", 0.5, data=[batch], loss=loss, **options)
    assert mask["layer.weight"].tolist() == [[False, True]]


@pytest.mark.parametrize("temperature", [1.0, 200.0])
def test_grasp_is_the_change_of_the_gradient_norm(temperature: float) -> None:
    """Removing a share e of weight q changes g'g by -2 e w_q (Hg)_q, the score being w_q (Hg)_q."""
    model, batches = relu_net(4, 6, 3, bias=True), [a_batch(4, 3), a_batch(4, 3, seed=1)]
    found = scores_of(grasp, model, batches, temperature=temperature, redraw_classifier=False)
    weights = ticketlab.prunable(model)

    def norm() -> float:
        value = sum(functional.cross_entropy(model(x) / temperature, y) for x, y in batches)
        return sum(float((g**2).sum()) for g in torch.autograd.grad(value, list(weights.values())))

    start, step = norm(), 1e-6
    for name, weight in weights.items():
        for q in range(0, weight.numel(), 3):
            flat = weight.detach().view(-1)
            old = float(flat[q])
            flat[q] = old * (1 - step)
            less = norm()
            flat[q] = old * (1 + step)
            more = norm()
            flat[q] = old
            slope = (less - more) / (2 * step)
            assert slope == pytest.approx(-2 * float(found[name].view(-1)[q]), rel=1e-4, abs=1e-6 * start)


def test_grasp_redraws_the_linear_layers_only() -> None:
    def net() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))

    data = [(torch.randn(8, 2, 6, 6), torch.arange(8) % 3)]
    other = net()
    with torch.no_grad():
        other[3].weight.mul_(-2)
    for redraw in (True, False):
        one, two = (scores_of(grasp, m, data, redraw_classifier=redraw) for m in (net(), other))
        assert torch.equal(one["0.weight"], two["0.weight"]) == redraw
    mask = {n: torch.ones(w.shape, dtype=torch.bool) for n, w in ticketlab.prunable(net()).items()}
    mask["3.weight"][:, ::2] = False
    # What was removed before stays removed in the weights that are drawn anew.
    assert not bool(scores_of(grasp, net(), data, mask=mask)["3.weight"][:, ::2].any())


def synflow_case() -> nn.Module:
    return nn.Sequential(linear([[1.0, -2.0], [0.0, 3.0]]), nn.ReLU(), linear([[1.0, 1.0]]))


def test_synflow_by_hand() -> None:
    found = scores_of(synflow, synflow_case(), input_shape=(2,))
    assert found["0.weight"].tolist() == [[1.0, 2.0], [0.0, 3.0]] and found["2.weight"].tolist() == [[3.0, 3.0]]
    assert float(found["0.weight"].sum()) == float(found["2.weight"].sum()) == 6.0


def test_synflow_conserves_units_and_layers() -> None:
    model = relu_net(6, 8, 7, 5, 3, bias=True)
    found = list(scores_of(synflow, model, input_shape=(6,), bias="drop").values())
    for before, after in itertools.pairwise(found):
        torch.testing.assert_close(before.sum(1), after.sum(0), rtol=1e-10, atol=0)
        torch.testing.assert_close(before.sum(), after.sum(), rtol=1e-10, atol=0)
    kept = list(scores_of(synflow, model, input_shape=(6,), bias="keep").values())
    assert float(kept[0].sum()) < float(kept[-1].sum()) * (1 - 1e-3)


def test_synflow_ignores_signs_and_labels() -> None:
    model, flipped = relu_net(6, 8, 3), relu_net(6, 8, 3)
    with torch.no_grad():
        flipped[0].weight.mul_(torch.randn(8, 6).sign())
    one, other = (scores_of(synflow, m, input_shape=(6,)) for m in (model, flipped))
    assert all(torch.equal(one[n], other[n]) for n in one)


@pytest.mark.filterwarnings("ignore::ticketlab.errors.EmptyLayerWarning")
def test_synflow_keeps_a_path_to_the_last_weight() -> None:
    """Maximal critical compression: with 4 weights for 4 layers, rounds leave one each, one shot leaves a collapse."""
    torch.manual_seed(0)
    layers = [nn.Linear(a, b, bias=False) for a, b in ((100, 100), (100, 100), (100, 100), (100, 10))]
    model = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2], nn.ReLU(), layers[3])
    for rounds, counts in ((100, [1, 1, 1, 1]), (10, [1, 1, 1, 1]), (1, [0, 0, 0, 4])):
        mask = ticketlab.prune(model, "synflow", 1 - 4 / 31000, input_shape=(100,), rounds=rounds)
        assert [kept for kept, _ in mask.counts().values()] == counts


def test_synflow_in_deep_nets_neither_over_nor_underflows() -> None:
    for scale in (1e-3, 1e3):
        model = nn.Sequential(*(nn.Linear(16, 16, bias=False) for _ in range(40)))
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(scale)
        found = scores_of(synflow, model, input_shape=(16,))
        assert all(bool((f.isfinite() & (f > 0)).all()) for f in found.values())


def test_synflow_needs_a_shape() -> None:
    with pytest.raises(InputError, match="synflow needs the shape of one input"):
        ticketlab.prune(synflow_case(), "synflow", 0.5)


@pytest.mark.parametrize("shape", [(3,), (5, 2, 2)])
def test_synflow_with_a_shape_that_does_not_fit(shape: tuple[int, ...]) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(3, 2))
    with pytest.raises(InputError, match=r"synflow feeds ones of shape \(1, "):
        ticketlab.prune(model, "synflow", 0.5, input_shape=shape)


class TwoOutputs(nn.Module):
    """A model that returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer(x), x


def test_models_of_several_outputs() -> None:
    data = [(torch.randn(5, 4), torch.arange(5) % 3)]
    with pytest.raises(InputError, match="synflow feeds"):
        ticketlab.prune(TwoOutputs(), "synflow", 0.5, input_shape=(4,))

    def loss(outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs[0], targets)

    assert ticketlab.prune(TwoOutputs(), "snip", 0.5, data=data, loss=loss).kept == 6


def test_scores_of_removed_weights_are_zero() -> None:
    """Rule R3: what an earlier round removed does not come back."""
    model, batch = relu_net(5, 7, 3), a_batch(5, 3)
    mask = {n: torch.arange(w.numel()).view(w.shape) % 2 == 0 for n, w in ticketlab.prunable(model).items()}
    for score in (magnitude, snip, synflow):
        found = scores_of(score, model, [batch], mask=mask, input_shape=(5,))
        assert not any(bool(found[n][~mask[n]].any()) for n in mask)


def plain(model: nn.Module, batches: list[Batch], loss: Loss, power: float = 1.0) -> dict[str, Tensor]:
    """A user's own score, without our types."""
    return {n: p.detach().abs() ** power for n, p in model.named_parameters()}


def test_a_plain_function_as_score() -> None:
    model = relu_net(5, 7, 3)
    assert ticketlab.prune(model, plain, 0.7) == ticketlab.prune(model, "magnitude", 0.7)
    wrapped = ticketlab.prune(nn.DataParallel(model), plain, 0.7)
    bare = ticketlab.prune(model, plain, 0.7)
    assert [t.tolist() for t in wrapped.values()] == [t.tolist() for t in bare.values()]
    # A negative power turns the order round.
    assert ticketlab.prune(model, plain, 0.5, power=-1.0).overlap(ticketlab.prune(model, plain, 0.5)) == 0
    with pytest.raises(InputError, match="option of plain"):
        ticketlab.prune(model, plain, 0.5, powr=2)


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (lambda scoring: None, "NoneType"),
        (lambda scoring: {}, r"none for 0\.weight, 2\.weight"),
        (lambda scoring: dict.fromkeys(scoring.weights, 1.0), "not a tensor"),
        (lambda scoring: {n: w[0] for n, w in scoring.weights.items()}, "shape"),
        (lambda one, two: {}, r"takes \(scoring\) or \(model, batches, loss\)"),
        (3, "not a function"),
    ],
)
def test_scores_that_are_none(score: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        ticketlab.prune(relu_net(5, 7, 3), score, 0.5)
