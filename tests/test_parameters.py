"""Which weights may be pruned, under which names, and how they are found again."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from zoo import ZOO

import ticketlab
from ticketlab import InputError
from ticketlab.parameters import bare, find_parameters, unwrap

EXPECTED = {
    "mlp": ["0.weight", "2.weight", "4.weight"],
    "conv-norm": ["0.weight", "4.weight", "8.weight"],
    "depthwise": ["0.weight", "1.weight", "3.weight", "5.weight"],
    "grouped": ["0.weight", "3.weight", "5.weight"],
    "residual": ["stem.weight", "conv1.weight", "conv2.weight", "downsample.0.weight", "head.weight"],
    "tied-linears": ["first.weight", "head.weight"],
    "tied-embedding": ["embed.weight", "mix.weight"],
    "conv1d": ["0.weight", "2.weight", "4.weight"],
    "conv3d": ["0.weight", "3.weight", "5.weight"],
    "transposed": ["0.weight", "2.weight", "5.weight"],
    "attention": ["attend.in_proj_weight", "attend.out_proj.weight", "head.weight"],
    "attention-fast": ["attend.in_proj_weight", "attend.out_proj.weight", "head.weight"],
    "attention-dims": [
        "attend.q_proj_weight",
        "attend.k_proj_weight",
        "attend.v_proj_weight",
        "attend.out_proj.weight",
        "head.weight",
    ],
    "no-bias": ["0.weight", "2.weight"],
    "float64": ["0.weight", "4.weight", "8.weight"],
    "bfloat16": ["0.weight", "4.weight", "8.weight"],
    "half": ["0.weight", "2.weight", "4.weight"],
    "subclassed": ["0.weight", "2.weight", "4.weight"],
    "dropout": ["0.weight", "3.weight", "6.weight"],
}


@pytest.mark.parametrize("name", list(ZOO))
def test_names_and_order(name: str) -> None:
    model = ZOO[name].model()
    found = ticketlab.prunable(model)
    assert list(found) == EXPECTED[name]
    parameters = dict(model.named_parameters())
    assert all(found[n] is parameters[n] for n in found)


def test_every_kind_of_layer() -> None:
    kinds = [nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d]
    model = nn.Sequential(nn.Linear(2, 2), *(kind(2, 2, 1) for kind in kinds))
    assert len(ticketlab.prunable(model)) == 7
    others = [nn.Embedding(3, 2), nn.EmbeddingBag(3, 2), nn.BatchNorm1d(2), nn.LayerNorm(2), nn.GroupNorm(1, 2)]
    assert len(ticketlab.prunable(nn.Sequential(nn.Linear(2, 2), *others, nn.PReLU(), nn.LSTM(2, 2)))) == 1


def test_one_module_used_twice() -> None:
    layer = nn.Linear(3, 3)
    assert list(ticketlab.prunable(nn.Sequential(layer, nn.ReLU(), layer))) == ["0.weight"]


def test_frozen_weights_count_too() -> None:
    assert list(ticketlab.prunable(nn.Sequential(nn.Linear(2, 2).requires_grad_(False)))) == ["0.weight"]


def test_a_layer_that_computes_its_weight_is_left_out() -> None:
    normed = torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    assert list(ticketlab.prunable(nn.Sequential(normed, nn.Linear(3, 2)))) == ["1.weight"]
    with pytest.raises(InputError, match="no prunable weights"):
        ticketlab.prunable(nn.Sequential(normed))


def test_filter() -> None:
    model = ZOO["conv-norm"].model()
    seen: list[str] = []

    def convolutions(name: str, weight: nn.Parameter) -> bool:
        seen.append(name)
        return weight.dim() == 4

    assert list(ticketlab.prunable(model, convolutions)) == ["0.weight", "4.weight"]
    assert seen == ["0.weight", "4.weight", "8.weight"]
    with pytest.raises(InputError, match=r"got 0 of 3 weights: 0\.weight, 4\.weight, 8\.weight"):
        ticketlab.prunable(model, lambda name, weight: False)


@pytest.mark.parametrize("model", [nn.ReLU(), nn.BatchNorm2d(3), nn.Sequential(), nn.Embedding(3, 3)])
def test_nothing_to_prune(model: nn.Module) -> None:
    with pytest.raises(InputError, match="no prunable weights"):
        ticketlab.prunable(model)


@pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")
def test_lazy_layers_have_no_shape_yet() -> None:
    model = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2))
    for method in ("random", "magnitude"):
        with pytest.raises(InputError, match=r"'0\.weight', got a lazy layer"):
            ticketlab.prune(model, method, 0.5)
    model(torch.ones(1, 4))
    assert ticketlab.prune(model, "random", 0.5).total == 18


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fc.weight", "fc.weight"),
        ("module.fc.weight", "fc.weight"),
        ("_orig_mod.fc.weight", "fc.weight"),
        ("_orig_mod.module.fc.weight", "fc.weight"),
        ("module._orig_mod.fc.weight", "fc.weight"),
        ("modules.fc.weight", "modules.fc.weight"),
        ("encoder.module.weight", "encoder.module.weight"),
    ],
)
def test_bare(name: str, expected: str) -> None:
    assert bare(name) == expected


def test_unwrap() -> None:
    model = nn.Linear(2, 2)
    assert unwrap(model) is model
    assert unwrap(nn.DataParallel(torch.compile(model, backend="eager"))) is model
    assert unwrap(torch.compile(nn.DataParallel(model), backend="eager")) is model

    class Own(nn.Module):
        """A user's module with an attribute called ``module`` is no wrapper."""

        def __init__(self) -> None:
            super().__init__()
            self.module = model

    own = Own()
    assert unwrap(own) is own


def test_find() -> None:
    model = ZOO["tied-linears"].model()
    found = find_parameters(model, ["again.weight", "first.weight"])
    assert list(found) == ["again.weight", "first.weight"]
    assert found["again.weight"] is found["first.weight"] is model.first.weight
    wrapped = nn.DataParallel(model)
    assert find_parameters(wrapped, ["first.weight"])["first.weight"] is model.first.weight
    assert find_parameters(model, ["module.first.weight"])["module.first.weight"] is model.first.weight
    with pytest.raises(InputError, match=r"covers 'second\.weight'.*first\.weight"):
        find_parameters(model, ["second.weight"])
