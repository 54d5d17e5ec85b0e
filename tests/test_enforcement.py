"""Pruned weights stay exactly 0.0 whatever the optimizer does, and the others train."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ranks
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from zoo import ZOO

import ticketlab
from ticketlab import InputError, Mask
from ticketlab.enforcement import Enforcement

EXHIBIT = ZOO["conv-norm"]

# Name -> how to make it; several carry weight decay so that a pruned weight would move without any gradient.
OPTIMIZERS: dict[str, tuple[type[Optimizer], dict[str, Any]]] = {
    "sgd": (SGD, {"lr": 0.1}),
    "sgd momentum": (SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-2}),
    "sgd nesterov": (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-2}),
    "sgd foreach": (SGD, {"lr": 0.1, "momentum": 0.9, "foreach": True}),
    "sgd fused": (SGD, {"lr": 0.1, "momentum": 0.9, "fused": True}),
    "adam": (Adam, {"lr": 0.01, "weight_decay": 1e-2}),
    "adam amsgrad": (Adam, {"lr": 0.01, "amsgrad": True}),
    "adam foreach": (Adam, {"lr": 0.01, "foreach": True}),
    "adam fused": (Adam, {"lr": 0.01, "fused": True}),
    "adamw": (AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    "adamw foreach": (AdamW, {"lr": 0.01, "foreach": True}),
    "adamw fused": (AdamW, {"lr": 0.01, "fused": True}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 0.01, "centered": True, "momentum": 0.9}),
    "rmsprop foreach": (torch.optim.RMSprop, {"lr": 0.01, "centered": True, "momentum": 0.9, "foreach": True}),
    "adagrad": (torch.optim.Adagrad, {"lr": 0.01, "weight_decay": 1e-2}),
    "adagrad fused": (torch.optim.Adagrad, {"lr": 0.01, "fused": True}),
    "adadelta": (torch.optim.Adadelta, {"lr": 1.0, "weight_decay": 1e-2}),
    "adamax": (torch.optim.Adamax, {"lr": 0.01}),
    "nadam": (torch.optim.NAdam, {"lr": 0.01, "decoupled_weight_decay": True, "weight_decay": 1e-2}),
    "radam": (torch.optim.RAdam, {"lr": 0.01}),
    "rprop": (torch.optim.Rprop, {"lr": 0.01}),
    "asgd": (torch.optim.ASGD, {"lr": 0.01, "lambd": 1e-2}),
    "lbfgs": (torch.optim.LBFGS, {"lr": 0.1, "max_iter": 4}),
    "lbfgs search": (torch.optim.LBFGS, {"max_iter": 4, "line_search_fn": "strong_wolfe"}),
}
optimizers = pytest.mark.parametrize("name", list(OPTIMIZERS))


def make(name: str, model: nn.Module) -> Optimizer:
    kind, options = OPTIMIZERS[name]
    return kind(model.parameters(), **options)


def mask_of(model: nn.Module, sparsity: float = 0.5) -> Mask:
    return ticketlab.prune(model, "random", sparsity)


def step(model: nn.Module, optimizer: Optimizer, seed: int = 0) -> None:
    """One step on a batch of its own; by a closure where the optimizer needs one."""
    x, y = EXHIBIT.batch(seed)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    if isinstance(optimizer, torch.optim.LBFGS):
        optimizer.step(closure)
    else:
        closure()
        optimizer.step()


def nonzero_pruned(model: nn.Module, mask: Mask) -> int:
    """Counted here, not by the enforcement itself."""
    return sum(int(torch.count_nonzero(p.detach()[~mask[n]])) for n, p in mask.match(model).items())


def state_at_pruned(optimizer: Optimizer, model: nn.Module, mask: Mask) -> int:
    """How many entries of the optimizer's state at pruned weights are not zero."""
    found = 0
    for name, parameter in mask.match(model).items():
        for key, value in optimizer.state.get(parameter, {}).items():
            # Rprop's step sizes are no momentum; Adamax puts its epsilon into the norm.
            if isinstance(value, Tensor) and value.shape == parameter.shape and key not in ("step_size", "exp_inf"):
                found += int(torch.count_nonzero(value[~mask[name]]))
    return found


@optimizers
def test_zero_after_every_step_and_the_rest_trains(name: str) -> None:
    model = EXHIBIT.model()
    mask, optimizer = mask_of(model), make(name, model)
    handle = ticketlab.enforce(model, mask, optimizer)
    assert nonzero_pruned(model, mask) == 0
    before = {n: p.detach().clone() for n, p in mask.match(model).items()}
    for index in range(5):
        step(model, optimizer, index)
        assert nonzero_pruned(model, mask) == 0 == handle.violations()
        if "lbfgs" not in name:
            assert state_at_pruned(optimizer, model, mask) == 0
    for n, p in mask.match(model).items():
        moved = (p.detach() != before[n])[mask[n]]
        assert moved.float().mean() > 0.9, f"{n} does not train"


@optimizers
def test_momentum_from_before_the_mask(name: str) -> None:
    model = EXHIBIT.model()
    mask, optimizer = mask_of(model), make(name, model)
    for index in range(3):
        step(model, optimizer, index)
    assert nonzero_pruned(model, mask) > 0
    with ticketlab.enforce(model, mask, optimizer):
        assert nonzero_pruned(model, mask) == 0 == state_at_pruned(optimizer, model, mask)
        for index in range(3):
            step(model, optimizer, index)
            assert nonzero_pruned(model, mask) == 0


@optimizers
def test_load_state_dict_of_a_dense_optimizer(name: str) -> None:
    model = EXHIBIT.model()
    dense, optimizer = make(name, model), make(name, model)
    for index in range(3):
        step(model, dense, index)
    mask = mask_of(model)
    with ticketlab.enforce(model, mask, optimizer):
        optimizer.load_state_dict(copy.deepcopy(dense.state_dict()))
        assert state_at_pruned(optimizer, model, mask) == 0
        for index in range(3):
            step(model, optimizer, index)
            assert nonzero_pruned(model, mask) == 0


@optimizers
def test_masked_training_is_training_of_the_masked_net(name: str) -> None:
    """The kept weights move as in a net whose forward pass multiplies by the mask."""
    model = EXHIBIT.model().double()
    mask, optimizer = mask_of(model), make(name, model)
    reference = mask.apply_(EXHIBIT.model().double())
    twin_optimizer = make(name, reference)
    for n, p in mask.match(reference).items():
        p.register_hook(lambda grad, kept=mask[n]: grad * kept)
    with ticketlab.enforce(model, mask, optimizer):
        for index in range(4):
            step_double(model, optimizer, index)
            step_double(reference, twin_optimizer, index)
    for one, other in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def step_double(model: nn.Module, optimizer: Optimizer, seed: int) -> None:
    """A step by a closure, for every optimizer: the gradients come to be inside ``step``."""
    x, y = EXHIBIT.batch(seed)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x.double()), y)
        loss.backward()
        return loss

    optimizer.step(closure)


@pytest.mark.parametrize("keyword", [False, True])
def test_closures_reach_no_momentum(keyword: bool) -> None:
    model = EXHIBIT.model()
    mask, optimizer = mask_of(model), make("sgd momentum", model)
    x, y = EXHIBIT.batch()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    with ticketlab.enforce(model, mask, optimizer):
        returned = optimizer.step(closure=closure) if keyword else optimizer.step(closure)
        assert returned is not None and returned.item() > 0
        assert state_at_pruned(optimizer, model, mask) == 0 == nonzero_pruned(model, mask)


def test_gradients_that_are_not_finite() -> None:
    """Infinite gradients at pruned weights must not turn into NaN, as multiplying by zero would make them."""
    model = EXHIBIT.model()
    mask, optimizer = mask_of(model), make("sgd momentum", model)
    with ticketlab.enforce(model, mask, optimizer):
        for n, p in mask.match(model).items():
            p.grad = torch.where(mask[n], torch.ones_like(p), torch.full_like(p, float("inf")))
        optimizer.step()
        assert nonzero_pruned(model, mask) == 0 == state_at_pruned(optimizer, model, mask)
        assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_some_gradients_missing() -> None:
    model = EXHIBIT.model()
    mask, optimizer = mask_of(model), make("adamw", model)
    with ticketlab.enforce(model, mask, optimizer):
        step(model, optimizer)
        optimizer.zero_grad()
        optimizer.step()
        assert nonzero_pruned(model, mask) == 0


@pytest.mark.parametrize("name", ["sgd momentum", "adamw", "adamw fused"])
def test_grad_scaler_that_skips(name: str) -> None:
    model = EXHIBIT.model()
    mask, optimizer = mask_of(model), make(name, model)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1)
    x, y = EXHIBIT.batch()
    with ticketlab.enforce(model, mask, optimizer):
        for overflow in (False, True, False, True, False):
            before = [p.detach().clone() for p in model.parameters()]
            optimizer.zero_grad()
            scaler.scale(functional.cross_entropy(model(x), y)).backward()
            if overflow:
                model[0].weight.grad.fill_(float("inf"))
            scaler.step(optimizer)
            scaler.update()
            moved = any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
            assert moved != overflow and nonzero_pruned(model, mask) == 0


@pytest.mark.parametrize("name", ["sgd momentum", "adamw"])
def test_autocast(name: str) -> None:
    model = EXHIBIT.model()
    mask, optimizer = mask_of(model), make(name, model)
    x, y = EXHIBIT.batch()
    with ticketlab.enforce(model, mask, optimizer):
        for _ in range(4):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            assert nonzero_pruned(model, mask) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes(dtype: torch.dtype) -> None:
    model = EXHIBIT.model().to(dtype)
    mask, optimizer = mask_of(model), make("adamw", model)
    x, y = EXHIBIT.batch()
    with ticketlab.enforce(model, mask, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            functional.cross_entropy(model(x.to(dtype)), y).backward()
            optimizer.step()
            assert nonzero_pruned(model, mask) == 0


@pytest.mark.parametrize("whose", ["model", "compiled"])
def test_compiled(whose: str) -> None:
    """The mask may be enforced through the wrapper or on the model inside, and may come from either."""
    model = EXHIBIT.model()
    compiled = torch.compile(model, backend="eager")
    mask = mask_of(compiled if whose == "model" else model)
    optimizer = make("adamw", model)
    with ticketlab.enforce(model if whose == "model" else compiled, mask, optimizer):
        for index in range(3):
            step(compiled, optimizer, index)
            assert nonzero_pruned(model, mask) == 0 == nonzero_pruned(compiled, mask)


@pytest.mark.parametrize("name", ["sgd momentum", "adam"])
def test_deep_copies(name: str) -> None:
    model = EXHIBIT.model()
    mask, optimizer = mask_of(model), make(name, model)
    ticketlab.enforce(model, mask, optimizer)
    step(model, optimizer)
    alone = copy.deepcopy(model)
    assert nonzero_pruned(alone, mask) == 0
    twin, twin_optimizer = copy.deepcopy((model, optimizer))
    for someone, its_optimizer in ((alone, make(name, alone)), (twin, twin_optimizer)):
        with ticketlab.enforce(someone, mask, its_optimizer):
            for index in range(3):
                step(someone, its_optimizer, index)
                assert nonzero_pruned(someone, mask) == 0
    step(model, optimizer)
    assert nonzero_pruned(model, mask) == 0
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_nothing_is_put_into_the_model(tmp_path: Path) -> None:
    model = EXHIBIT.model()
    mask, optimizer = mask_of(model), make("adam", model)
    ticketlab.enforce(model, mask, optimizer)
    step(model, optimizer)
    assert list(model.state_dict()) == list(EXHIBIT.model().state_dict())
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "checkpoint")
    saved = torch.load(tmp_path / "checkpoint", weights_only=True)
    fresh = EXHIBIT.model(seed=8)
    fresh.load_state_dict(saved["model"])
    assert nonzero_pruned(fresh, mask) == 0
    fresh_optimizer = make("adam", fresh)
    fresh_optimizer.load_state_dict(saved["optimizer"])
    with ticketlab.enforce(fresh, mask, fresh_optimizer):
        step(fresh, fresh_optimizer, 1)
        step(model, optimizer, 1)
        for one, other in zip(model.state_dict().values(), fresh.state_dict().values(), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("ema", [False, True])
def test_averaged_model(ema: bool) -> None:
    model = EXHIBIT.model()
    mask, optimizer = mask_of(model), make("sgd momentum", model)
    early = AveragedModel(model)
    with ticketlab.enforce(model, mask, optimizer):
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9) if ema else None)
        for index in range(3):
            step(model, optimizer, index)
            average.update_parameters(model)
        assert nonzero_pruned(average, mask) == 0
        # One that started from the dense model needs one apply_, as the documentation says.
        mask.apply_(early)
        early.update_parameters(model)
        assert nonzero_pruned(early, mask) == 0


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    with ranks.one_rank(tmp_path):
        yield


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("from_wrapper", [False, True])
def test_distributed(one_rank: None, from_wrapper: bool) -> None:
    model = EXHIBIT.model()
    parallel = nn.parallel.DistributedDataParallel(model)
    mask = mask_of(parallel if from_wrapper else model)
    assert next(iter(mask.values())).equal(next(iter(mask_of(model).values())))
    optimizer = make("adamw", parallel)
    with ticketlab.enforce(parallel, mask, optimizer):
        for index in range(3):
            step(parallel, optimizer, index)
            assert nonzero_pruned(model, mask) == 0 == nonzero_pruned(parallel, mask)


def test_remove_stops_it() -> None:
    model = EXHIBIT.model()
    mask, optimizer = mask_of(model), make("sgd", model)
    handle = ticketlab.enforce(model, mask, optimizer)
    assert isinstance(handle, Enforcement)
    handle.remove()
    handle.remove()
    assert nonzero_pruned(model, mask) == 0
    step(model, optimizer)
    assert nonzero_pruned(model, mask) == handle.violations() > 0


def test_the_context_manager_removes_even_after_an_error() -> None:
    model = EXHIBIT.model()
    mask, optimizer = mask_of(model), make("sgd", model)
    with pytest.raises(ZeroDivisionError), ticketlab.enforce(model, mask, optimizer):
        _ = 1 / 0
    step(model, optimizer)
    assert nonzero_pruned(model, mask) > 0


def test_violations_sees_what_someone_else_wrote() -> None:
    model = EXHIBIT.model()
    mask, optimizer = mask_of(model), make("sgd", model)
    handle = ticketlab.enforce(model, mask, optimizer)
    with torch.no_grad():
        model[0].weight.fill_(1.0)
    assert handle.violations() == int((~mask["0.weight"]).sum())
    step(model, optimizer)
    assert handle.violations() == 0


def test_weights_that_are_zero_but_kept_may_grow() -> None:
    """The mask is not ``weight != 0``: a layer that starts at zero trains."""
    model = EXHIBIT.model()
    with torch.no_grad():
        model[8].weight.zero_()
    mask, optimizer = mask_of(model), make("sgd", model)
    with ticketlab.enforce(model, mask, optimizer):
        step(model, optimizer)
    weight = model[8].weight.detach()
    assert int(torch.count_nonzero(weight[mask["8.weight"]])) > 0 and nonzero_pruned(model, mask) == 0


def test_a_tied_weight_is_masked_once() -> None:
    exhibit = ZOO["tied-linears"]
    model = exhibit.model()
    mask, optimizer = mask_of(model), make("adamw", model)
    x, y = exhibit.batch()
    with ticketlab.enforce(model, mask, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            assert nonzero_pruned(model, mask) == 0
    assert model.again.weight is model.first.weight


def test_a_second_sparser_mask() -> None:
    model = EXHIBIT.model()
    optimizer = make("adam", model)
    first = ticketlab.prune(model, "magnitude", 0.5)
    ticketlab.enforce(model, first, optimizer)
    step(model, optimizer)
    second = ticketlab.prune(model, "magnitude", 0.8)
    ticketlab.enforce(model, second, optimizer)
    step(model, optimizer)
    assert nonzero_pruned(model, second) == 0 == nonzero_pruned(model, first)


def _other_shape() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 5, 3), *EXHIBIT.model()[1:])


@pytest.mark.parametrize(("other", "words"), [(_other_shape, "shape"), (lambda: nn.Linear(2, 2), "no such parameter")])
def test_a_mask_of_another_model(other: Callable[[], nn.Module], words: str) -> None:
    model = other()
    before = copy.deepcopy(model.state_dict())
    optimizer = SGD(model.parameters(), lr=0.1)
    with pytest.raises(InputError, match=words):
        ticketlab.enforce(model, mask_of(EXHIBIT.model()), optimizer)
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks
