"""diagnose: empty layers, dead units, effective sparsity; silent where paths cannot be traced."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn
from zoo import ZOO

import ticketlab
from ticketlab import InputError, Mask
from ticketlab.diagnosis import Diagnosis


def chain(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def test_by_hand() -> None:
    """Unit 0 has no inputs and unit 2 no outputs; only the path through unit 1 is left."""
    model = chain(2, 3, 1)
    mask = Mask(
        {
            "0.weight": torch.tensor([[0, 0], [1, 0], [1, 1]]).bool(),
            "2.weight": torch.tensor([[1, 1, 0]]).bool(),
        }
    )
    found = ticketlab.diagnose(model, mask, (2,))
    assert found == Diagnosis(pytest.approx(4 / 9), (), 2, pytest.approx(7 / 9))
    assert "effective 0.7778, 2 dead units" in str(found)


def paths(masks: list[Tensor]) -> list[Tensor]:
    """Which weights of a chain lie on a path, by walking through it in both directions."""
    reached = [torch.ones(masks[0].shape[1], dtype=torch.bool)]
    for m in masks:
        reached.append((m & reached[-1]).any(1))
    leads = [torch.ones(masks[-1].shape[0], dtype=torch.bool)]
    for m in masks[::-1]:
        leads.append((m & leads[-1][:, None]).any(0))
    return [m & i & o[:, None] for m, i, o in zip(masks, reached[:-1], leads[::-1][1:], strict=True)]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("sparsity", [0.0, 0.6, 0.85, 0.95])
def test_agrees_with_walking_the_chain(seed: int, sparsity: float) -> None:
    model = chain(6, 9, 8, 7, 3)
    mask = ticketlab.prune(model, "random", sparsity, seed=seed)
    alive = paths(list(mask.values()))
    found = ticketlab.diagnose(model, mask, (6,))
    assert found.effective_sparsity == pytest.approx(1 - sum(int(a.sum()) for a in alive) / mask.total)
    assert found.dead_units == sum(int((~a.any(1)).sum()) for a in alive)
    assert found.sparsity == mask.sparsity <= found.effective_sparsity + 1e-12


@pytest.mark.parametrize(
    "name", ["mlp", "conv-norm", "depthwise", "grouped", "residual", "conv1d", "conv3d", "dropout"]
)
def test_dense_models_have_no_dead_units(name: str) -> None:
    exhibit = ZOO[name]
    model = exhibit.model()
    found = ticketlab.diagnose(model, Mask.dense(ticketlab.prunable(model)), exhibit.shape)
    assert found == Diagnosis(0.0, (), 0, 0.0)


@pytest.mark.parametrize("name", list(ZOO))
def test_every_model_gets_an_answer_and_stays_as_it_is(name: str) -> None:
    exhibit = ZOO[name]
    model = exhibit.model()
    state, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    kinds = [type(m) for m in model.modules()]
    random_state = torch.get_rng_state()
    mask = ticketlab.prune(model, "random", 0.6)
    found = ticketlab.diagnose(model, mask, exhibit.shape)
    with torch.inference_mode():
        assert ticketlab.diagnose(model, mask, exhibit.shape) == found
    assert found.sparsity == mask.sparsity and found.empty_layers == tuple(mask.empty_layers)
    untraced = {"attention", "attention-fast", "attention-dims", "tied-embedding"}
    assert (found.dead_units is None) == (found.effective_sparsity is None) == (name in untraced)
    if found.effective_sparsity is not None:
        assert mask.sparsity - 1e-12 <= found.effective_sparsity <= 1
    assert all(torch.equal(t, state[n]) for n, t in model.state_dict().items())
    assert modes == [m.training for m in model.modules()] and kinds == [type(m) for m in model.modules()]
    assert torch.equal(random_state, torch.get_rng_state())


def test_without_a_shape_only_what_can_be_counted() -> None:
    model = chain(2, 3, 1)
    mask = Mask({"0.weight": torch.zeros(3, 2).bool(), "2.weight": torch.ones(1, 3).bool()})
    found = ticketlab.diagnose(model, mask)
    assert found == Diagnosis(pytest.approx(2 / 3), ("0.weight",), None, None)
    assert str(found) == "sparsity 0.6667; empty layers: 0.weight"


def test_an_empty_layer_cuts_every_path() -> None:
    model = chain(2, 3, 1)
    mask = Mask({"0.weight": torch.zeros(3, 2).bool(), "2.weight": torch.ones(1, 3).bool()})
    assert ticketlab.diagnose(model, mask, (2,)) == Diagnosis(pytest.approx(2 / 3), ("0.weight",), 4, 1.0)


def test_a_residual_branch_may_be_empty_while_the_net_lives() -> None:
    exhibit = ZOO["residual"]
    model = exhibit.model()
    tensors = dict(Mask.dense(ticketlab.prunable(model)))
    tensors["conv2.weight"] = torch.zeros_like(tensors["conv2.weight"])
    found = ticketlab.diagnose(model, Mask(tensors), exhibit.shape)
    # All of conv1 (5 units) leads nowhere, conv2's 5 units have no inputs; the shortcut lives.
    assert found.empty_layers == ("conv2.weight",) and found.dead_units == 10
    assert found.effective_sparsity == pytest.approx((135 + 225) / Mask(tensors).total)


class Gate(nn.Module):
    """A net with something that gives a value for nothing."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(2, 3), middle, nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x)))


@pytest.mark.parametrize("middle", [nn.Sigmoid(), nn.Softmax(1), nn.Softplus()])
def test_silent_where_a_unit_without_inputs_still_speaks(middle: nn.Module) -> None:
    mask = Mask({"first.weight": torch.zeros(3, 2).bool(), "last.weight": torch.ones(1, 3).bool()})
    found = ticketlab.diagnose(Gate(middle), mask, (2,))
    assert found.dead_units is None and found.effective_sparsity is None


@pytest.mark.parametrize("middle", [nn.Tanh(), nn.GELU(), nn.SiLU(), nn.LeakyReLU(), nn.ELU(), nn.LayerNorm(3)])
def test_other_activations_are_traced(middle: nn.Module) -> None:
    mask = Mask({"first.weight": torch.zeros(3, 2).bool(), "last.weight": torch.ones(1, 3).bool()})
    assert ticketlab.diagnose(Gate(middle), mask, (2,)).effective_sparsity == 1.0


def test_one_norm_used_twice() -> None:
    norm = nn.BatchNorm1d(3)
    norm.running_mean.fill_(100.0)
    model = nn.Sequential(nn.Linear(2, 3), norm, nn.Linear(3, 3), norm, nn.ReLU(), nn.Linear(3, 1))
    found = ticketlab.diagnose(model, Mask.dense(ticketlab.prunable(model)), (2,))
    assert found.dead_units == 0 and found.effective_sparsity == 0.0


class Tuple(nn.Module):
    """A model that returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return self.layer(x), None


@pytest.mark.parametrize("shape", [(2,), (5,), (1, 2, 3, 4, 5, 6)])
def test_models_that_cannot_be_traced(shape: tuple[int, ...]) -> None:
    model = Tuple()
    found = ticketlab.diagnose(model, Mask.dense(ticketlab.prunable(model)), shape)
    assert found.dead_units is None and found.sparsity == 0


def test_deep_nets_neither_over_nor_underflow() -> None:
    model = chain(*[16] * 300)
    found = ticketlab.diagnose(model, Mask.dense(ticketlab.prunable(model)), (16,))
    assert found.dead_units == 0


def test_wrapped_models() -> None:
    model = chain(4, 6, 3)
    mask = ticketlab.prune(model, "random", 0.6)
    assert ticketlab.diagnose(nn.DataParallel(model), mask, (4,)) == ticketlab.diagnose(model, mask, (4,))


def test_a_mask_of_another_model() -> None:
    with pytest.raises(InputError, match="no such parameter"):
        ticketlab.diagnose(chain(4, 3), ticketlab.prune(chain(4, 6, 3), "random", 0.5), (4,))
