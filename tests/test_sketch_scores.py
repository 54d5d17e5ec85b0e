"""Scores that make a layer's mask a sketch, beside dense Jacobians."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

import ticketlab
from ticketlab import InputError, methods, sketch
from ticketlab.methods import METHODS
from ticketlab.scores.sketch_jacobian import sketch_jacobian, sketch_ntk
from ticketlab.scores.synflow import synflow, synflow_l2
from ticketlab.scoring import Batch, call_score, private_scoring


def scores_of(
    score: Any, model: nn.Module, batches: list[Batch], mode: str = "eval", **given: Any
) -> dict[str, Tensor]:
    """The scores of all weights of a model."""
    weights = ticketlab.prunable(model)
    mask = given.pop("mask", {n: torch.ones(w.shape, dtype=torch.bool) for n, w in weights.items()})
    shape, seed = given.pop("input_shape", None), given.pop("seed", 0)
    with private_scoring(
        model,
        list(weights),
        mask=mask,
        batches=batches,
        loss=None,
        seed=seed,
        mode=mode,
        input_shape=shape,
        options=given,
    ) as scoring:
        return call_score(score, scoring)


def relu_net(bias: bool = False) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=bias), nn.ReLU(), nn.Flatten(), nn.Linear(36, 12, bias=bias), nn.ReLU(),
        nn.Linear(12, 3, bias=bias),
    ).double()  # fmt: skip


def images(count: int = 6) -> list[Batch]:
    x = torch.randn(count, 1, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return [(x, torch.arange(count) % 3)]


def jacobian_of(model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """(examples * outputs, weights of the layer), for every layer."""
    weights = {n: p.detach() for n, p in model.named_parameters()}
    found = jacrev(lambda given: functional_call(model, given, (inputs,)))(weights)
    return {n: j.reshape(-1, weights[n].numel()) for n, j in found.items() if weights[n].ndim > 1}


@pytest.mark.parametrize("bias", [False, True])
def test_exact_columns_are_those_of_the_dense_jacobian(bias: bool) -> None:
    model, batches = relu_net(bias), images()
    dense = jacobian_of(model, batches[0][0])
    outputs, kernel = scores_of(sketch_jacobian, model, batches), scores_of(sketch_ntk, model, batches)
    for name, weight in ticketlab.prunable(model).items():
        lengths = dense[name].norm(dim=0)
        assert torch.allclose(outputs[name].flatten(), lengths * weight.detach().flatten().abs(), rtol=1e-10)
        assert torch.allclose(kernel[name].flatten(), lengths**2, rtol=1e-10)


def test_they_are_the_best_probabilities_of_the_layers_sketch() -> None:
    """A ReLU net without biases is J_l w_l for every layer l, so a mask of the layer is a sketch of that product."""
    model, batches = relu_net(), images()
    dense = jacobian_of(model, batches[0][0])
    outputs = model(batches[0][0]).detach().flatten()
    scores, kernel = scores_of(sketch_jacobian, model, batches), scores_of(sketch_ntk, model, batches)
    for name, weight in ticketlab.prunable(model).items():
        j, w = dense[name], weight.detach().flatten()
        assert torch.allclose(j @ w, outputs, rtol=1e-10, atol=1e-12)
        p = scores[name].flatten() / scores[name].sum()
        assert torch.allclose(p, sketch.probabilities(j, w, "optimal"))
        assert torch.allclose(sketch.expected_error(j, w, p, 10), sketch.optimal_error(j, w, 10))
        q = kernel[name].flatten() / kernel[name].sum()
        assert torch.allclose(q, sketch.kernel_probabilities(j))


@pytest.mark.parametrize("score", [sketch_jacobian, sketch_ntk])
def test_batches_do_not_matter(score: Any) -> None:
    model, [(x, y)] = relu_net(), images()
    whole = scores_of(score, model, [(x, y)])
    parts = scores_of(score, model, [(x[:1], y[:1]), (x[1:4], y[1:4]), (x[4:], y[4:])])
    assert all(torch.allclose(whole[n], parts[n], rtol=1e-10) for n in whole)


def test_sketched_columns_are_unbiased() -> None:
    model, batches = relu_net(), images()
    exact = scores_of(sketch_ntk, model, batches)
    draws = [scores_of(sketch_ntk, model, batches, columns="sketched", draws=10, seed=s) for s in range(60)]
    for name, expected in exact.items():
        found = torch.stack([d[name] for d in draws])
        error = found.std(0) / len(draws) ** 0.5
        off = ((found.mean(0) - expected).abs() / error.clamp_min(1e-12)).flatten()[expected.flatten() > 0]
        assert (off < 3.5).double().mean() > 0.97


def test_sketched_columns_need_no_single_examples() -> None:
    """Outputs that are not per example, and a model that vmap cannot take."""

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.line(x).mean(0)  # type: ignore[no-any-return]

    batches = [(torch.randn(5, 4), torch.zeros(5, dtype=torch.long))]
    with pytest.raises(InputError, match="columns=sketched"):
        scores_of(sketch_jacobian, Pooled(), batches)
    assert scores_of(sketch_jacobian, Pooled(), batches, columns="sketched")["line.weight"].shape == (3, 4)


@pytest.mark.parametrize("name", ["sketch-jacobian", "sketch-ntk"])
def test_on_noise_no_data_are_read(name: str) -> None:
    model = relu_net()
    spec = f"{name},inputs=gaussian"
    found, own = methods.configured(METHODS[name], {"inputs": "gaussian"})
    assert METHODS[name].reads_data and not found.reads_data and own["inputs"] == "gaussian"
    mask = ticketlab.prune(model, spec, 0.5, input_shape=(1, 5, 5))
    assert mask == ticketlab.prune(model, spec, 0.5, data=images()) != ticketlab.prune(model, name, 0.5, data=images())
    with pytest.raises(InputError, match="shape of one input"):
        ticketlab.prune(model, spec, 0.5)
    with pytest.raises(InputError, match="reads data, got none"):
        ticketlab.prune(model, name, 0.5)


def test_removed_weights_are_not_drawn_for_the_kernel() -> None:
    model = relu_net()
    mask = {n: torch.rand(w.shape) < 0.5 for n, w in ticketlab.prunable(model).items()}
    scores = scores_of(sketch_ntk, model, images(), mask=mask)
    assert all(bool((scores[n][~mask[n]] == 0).all()) for n in mask)


def linear_net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 7, bias=False), nn.Linear(7, 6, bias=False), nn.Linear(6, 2, bias=False)).double()


@pytest.mark.parametrize("score", [synflow, synflow_l2])
def test_synflow_scores_by_lengths_of_paths(score: Any) -> None:
    """l1: the sum over paths of products of |w|. l2: the root of the sum of their squares."""
    model = linear_net()
    power = 1 if score is synflow else 2
    a, b, c = (p.detach().abs() ** power for p in model.parameters())
    found = scores_of(score, model, [], input_shape=(5,))
    into, out = a.sum(1), c.sum(0)
    expected = [(b.mT @ out)[:, None] * a, out[:, None] * b * into[None], (b @ into)[None] * c]
    for value, paths in zip(found.values(), expected, strict=True):
        assert torch.allclose(value, paths ** (1 / power), rtol=1e-10)
    # Conservation: the (squared) scores of every layer sum to the whole flow.
    totals = torch.stack([(v**power).sum() for v in found.values()])
    assert torch.allclose(totals, totals[0].expand(3), rtol=1e-10)


def test_synflow_is_a_sketch_of_its_flow_without_error() -> None:
    model = linear_net()
    scores = scores_of(synflow, model, [], input_shape=(5,))
    a, b, c = (p.detach().abs() for p in model.parameters())
    # The flow is linear in every layer: R = <dR/d|w|, |w|>.
    gradient = ((c.sum(0) @ b)[:, None] * torch.ones_like(a)).flatten()[None]
    p = scores["0.weight"].flatten() / scores["0.weight"].sum()
    error = sketch.expected_error(gradient, a.flatten(), p, 5)
    assert abs(float(error)) < 1e-12 * float((gradient @ a.flatten()) ** 2)


@pytest.mark.parametrize("name", ["sketch-jacobian+sampled", "sketch-ntk+sampled", "synflow-l2+sampled"])
def test_they_may_be_sampled(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ticketlab.errors.EmptyLayerWarning)
        mask = ticketlab.prune(relu_net(), name, 0.8, data=images())
    assert mask.kept == round(0.2 * mask.total)
