"""What is true of every engine: its step, what a seed fixes, what stays zero, and that packing changes nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from engine.engines import (
    ENGINES,
    LONG,
    WIDE,
    Dropped,
    equal,
    images,
    job,
    net,
    run,
    same,
    some_mask,
    ticket,
    together,
    weights,
)
from ticketlab import seeding
from ticketlab.data.batches import epoch_batches, prepare
from ticketlab.data.types import Split
from ticketlab.engine.feed import Feed
from ticketlab.engine.job import percent
from ticketlab.engine.loop import Training
from ticketlab.engine.recipe import Recipe
from ticketlab.engine.schedule import Schedule
from ticketlab.engine.train import Keeper, train_jobs
from ticketlab.errors import InputError
from ticketlab.seeding import generator

every = pytest.mark.parametrize("engine", list(ENGINES))


@every
@pytest.mark.parametrize("nesterov", [False, True])
def test_the_step_is_that_of_sgd_by_hand(engine: str, nesterov: bool) -> None:
    data = tiny.data()
    recipe = Recipe(epochs=2, batch_size=25, lr=0.1, weight_decay=0.01, augment=False, nesterov=nesterov, warmup=0.5)
    mask = some_mask(net())
    trained = run(net(), recipe, mask, data, engine)
    model = mask.apply_(net())
    velocity = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    step = 0
    for epoch in range(2):
        model.train()
        for index in epoch_batches(60, 25, generator(1, "order", epoch)):
            loss = functional.cross_entropy(model(prepare(data, data.train.inputs[index])), data.train.targets[index])
            grads = torch.autograd.grad(loss, list(model.parameters()))
            rate = recipe.lr_at(step / 3) * min(1.0, (step + 1) / 1.5)
            step += 1
            with torch.no_grad():
                for (name, p), grad in zip(model.named_parameters(), grads, strict=True):
                    alive = mask[name] if name in mask else torch.ones_like(p, dtype=torch.bool)
                    slope = grad * alive + 0.01 * p
                    velocity[name] = 0.9 * velocity[name] + slope
                    p -= rate * (slope + 0.9 * velocity[name] if nesterov else velocity[name])
                    p *= alive
    for name, p in model.named_parameters():
        torch.testing.assert_close(trained.weights[name], p.detach(), rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(trained.momentum[name], velocity[name], rtol=1e-3, atol=1e-4)
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(trained.weights[name], buffer, rtol=1e-3, atol=1e-5)


@every
@pytest.mark.parametrize("number", [1, 3])
def test_a_ticket_is_bit_equal_whatever_it_is_packed_with(engine: str, number: int) -> None:
    """Alone, among three and among eight, in the first place and in the last."""
    alone = together(engine, [ticket(number)])[0]
    others = [ticket(n) for n in range(10, 17)]
    packs = [([ticket(number), *others[:2]], 0), ([*others[2:4], ticket(number)], 2), ([*others, ticket(number)], 7)]
    for pack, place in packs:
        assert same(together(engine, pack)[place], alone)
    assert same(together(engine, [ticket(number) for _ in range(9)])[8], alone)


@every
@pytest.mark.parametrize("cut", [1, 2.5, 10 / 7, 3])
def test_cut_in_two_is_bit_equal(engine: str, cut: float) -> None:
    """With augmentation, a schedule, momentum, batch norm, and cuts within an epoch."""
    whole = together(engine, [ticket(1), ticket(2)])
    halves = together(engine, [ticket(1, until=cut), ticket(2, until=cut)])
    jobs = [
        replace(ticket(n), weights=half.weights, momentum=half.momentum, start=cut)
        for n, half in zip((1, 2), halves, strict=True)
    ]
    for half, rest, full in zip(halves, together(engine, jobs), whole, strict=True):
        assert equal(rest.weights, full.weights) and equal(rest.momentum, full.momentum)
        assert torch.equal(rest.correct, full.correct)
        whole_epochs = [e for e in half.history + rest.history if e["epoch"] == int(e["epoch"])]
        assert [e["accuracy"] for e in whole_epochs] == [e["accuracy"] for e in full.history]


@pytest.mark.parametrize("engine", ["plain", "tuned"])
def test_dropout_is_cut_in_two_bit_equal(engine: str) -> None:
    whole = run(net(kind=Dropped), engine=engine)
    half = run(net(kind=Dropped), engine=engine, until=1.5)
    torch.manual_seed(77)
    model = net(5, Dropped)
    model.load_state_dict(half.weights)
    rest = run(model, engine=engine, start=1.5, momentum=half.momentum)
    assert equal(rest.weights, whole.weights)


@pytest.mark.parametrize("spec", ["stacked:8", "graph:8"])
def test_wide_engines_refuse_models_that_draw_random_numbers(spec: str) -> None:
    from ticketlab.engine.kinds import open_engine

    with pytest.raises(InputError, match=r"dropout.*Use tuned|on cpu, got an engine for cuda"):
        open_engine(spec, net(kind=Dropped), images(), LONG)


@every
def test_momentum_is_needed_for_that(engine: str) -> None:
    half = run(net(), until=2, engine=engine)
    second = net()
    second.load_state_dict(half.weights)
    assert not equal(run(second, start=2, engine=engine).weights, run(net(), engine=engine).weights)


@every
@pytest.mark.parametrize("recipe", [LONG, replace(LONG, nesterov=True, weight_decay=0.1), replace(LONG, momentum=0.0)])
def test_pruned_weights_are_exactly_zero_and_kept_ones_may_be(engine: str, recipe: Recipe) -> None:
    """A live weight that starts at zero must move: the mask is not read off the weights."""
    model = net()
    mask = some_mask(model)
    with torch.no_grad():
        model.last.weight.zero_()
    stale = {n: torch.ones_like(p) for n, p in model.named_parameters()}
    trained = run(model, recipe, mask, engine=engine, momentum=stale if recipe.momentum else None)
    assert int(trained.weights["last.weight"].count_nonzero()) > 0.7 * int(mask["last.weight"].sum())
    for name, alive in mask.items():
        assert not trained.weights[name][~alive].any()
        if recipe.momentum:
            assert not trained.momentum[name][~alive].any()
    assert bool(trained.momentum) == bool(recipe.momentum)


@every
def test_a_stopped_training_goes_on_bit_equal(engine: str, tmp_path: Path) -> None:
    """Stopped after every step in turn, within epochs and between them."""
    data = images()
    whole = together(engine, [ticket(1), ticket(2)], data=data)
    for stop in (1, 7, 10, 27):
        trainer = ENGINES[engine](net(), data, LONG)
        stopped = []
        for first in range(0, 2, trainer.width):
            jobs = [ticket(1), ticket(2)][first : first + trainer.width]
            training = Training(trainer, jobs, data, LONG)
            training.advance(stop)
            stopped += [training.checkpoint(k) for k in range(len(jobs))]
        keeper = Keeper(tmp_path / str(stop))
        keeper.keep(zip(["one", "two"], stopped, strict=True))
        resumed = train_jobs(trainer, [ticket(1), ticket(2)], data, LONG, ["one", "two"], keeper)
        assert all(same(a, b) for a, b in zip(resumed, whole, strict=True))


@every
def test_a_training_writes_its_checkpoints_and_finds_its_end(engine: str, tmp_path: Path) -> None:
    data = images()
    keeper = Keeper(tmp_path / "kept", every=0.0, ends=True)
    trainer = ENGINES[engine](net(), data, LONG)
    first = train_jobs(trainer, [ticket(1)], data, LONG, ["one"], keeper)[0]
    held = keeper.found("one")
    assert held is not None and held.progress.step == 28
    again = train_jobs(trainer, [ticket(1)], data, LONG, ["one"], keeper)[0]
    assert same(first, again)
    keeper.forget(["one"])
    assert keeper.found("one") is None


@every
def test_divergence_is_told_with_its_step_and_the_others_go_on(engine: str) -> None:
    sick = ticket(2)
    sick.weights["last.weight"].fill_(1e30)
    alone = together(engine, [ticket(1)])[0]
    well, ill, also = together(engine, [ticket(1), sick, ticket(4)])
    assert same(well, alone) and also.diverged_at is None
    assert ill.diverged_at == 1 and ill.diverged_step is not None and 1 <= ill.diverged_step <= 7
    assert math.isnan(ill.accuracy) and not ill.history
    for name, alive in (sick.mask or {}).items():
        assert not ill.weights[name][~alive].any()


@every
def test_every_step_of_a_diverging_training_is_counted(engine: str) -> None:
    trained = run(net(), replace(LONG, lr=1e25), engine=engine)
    assert trained.diverged_step is not None and trained.diverged_at == (trained.diverged_step - 1) // 7 + 1
    assert len(trained.history) == trained.diverged_at - 1


@every
def test_a_last_batch_of_one_is_left_out_and_a_batch_size_of_one_is_not(engine: str) -> None:
    class Narrow(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))

    odd = tiny.data(train=61)
    trained = run(Narrow(), Recipe(epochs=1, batch_size=20, augment=False), data=odd, engine=engine)
    assert int(trained.weights["2.num_batches_tracked"]) == 3
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    before = plain[1].weight.detach().clone()
    trained = run(plain, Recipe(epochs=1, batch_size=1, lr=0.01, augment=False), data=tiny.data(20), engine=engine)
    assert not torch.equal(trained.weights["1.weight"], before) and trained.history[0]["loss"] > 0


@every
def test_the_loss_is_the_mean_over_the_images_seen(engine: str) -> None:
    for n in (60, 61):
        data = tiny.data(train=n)
        still = Recipe(epochs=1, batch_size=10, lr=0.0, augment=False)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3, bias=False))
        nn.init.zeros_(model[1].weight)
        assert run(model, still, data=data, engine=engine).history[0]["loss"] == pytest.approx(math.log(3), rel=1e-6)


@every
def test_batch_norm_is_trained_and_tested_as_it_should_be(engine: str) -> None:
    trained = run(net(), engine=engine)
    assert int(trained.weights["norm.num_batches_tracked"]) == 4 * 7
    model = net()
    model.load_state_dict(trained.weights)
    model.eval()
    data = images()
    with torch.no_grad():
        right = model(prepare(data, data.test.inputs)).argmax(1) == data.test.targets
    assert torch.equal(right, trained.correct) and trained.accuracy == percent(right)


@every
def test_the_test_set_is_that_of_the_data_not_of_the_split(engine: str) -> None:
    data = tiny.data()
    corrupt = Split(data.train.inputs.flip(0), data.train.targets.roll(1))
    trained = run(net(), data=data, split=corrupt, engine=engine)
    assert not equal(trained.weights, run(net(), data=data, engine=engine).weights)
    model = net().eval()
    model.load_state_dict(trained.weights)
    with torch.no_grad():
        right = model(prepare(data, data.test.inputs)).argmax(1) == data.test.targets
    assert torch.equal(right, trained.correct)


@every
def test_tickets_of_one_pack_may_train_on_different_data(engine: str) -> None:
    data = tiny.data()
    corrupt = Split(data.train.inputs.flip(0), data.train.targets.roll(1))
    one, other = together(engine, [ticket(1), replace(ticket(1), split=corrupt)], data=data)
    assert same(one, together(engine, [ticket(1)], data=data)[0])
    assert same(other, together(engine, [replace(ticket(1), split=corrupt)], data=data)[0])
    assert not equal(one.weights, other.weights)


@every
def test_no_epoch_at_all_is_an_evaluation(engine: str) -> None:
    model = net()
    trained = run(model, start=4, engine=engine)
    assert not trained.history and equal(trained.weights, weights(model))
    data = images()
    with torch.no_grad():
        right = model.eval()(prepare(data, data.test.inputs)).argmax(1) == data.test.targets
    assert trained.accuracy == percent(right)


@every
def test_a_training_leaves_model_and_global_randomness_alone(engine: str) -> None:
    model = net()
    before, state = weights(model), torch.random.get_rng_state()
    run(model, engine=engine)
    assert torch.equal(state, torch.random.get_rng_state()) and equal(before, weights(model))
    assert model.training and not any(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("kind", ["dropout", "order", "augment"])
def test_every_source_of_randomness_counts(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    derive = seeding.derive
    # All the other sources are pinned, so that two seeds differ by this one alone.
    monkeypatch.setattr(seeding, "derive", lambda seed, *what: derive(seed if what[0] == kind else 0, *what))
    one, two = (run(net(kind=Dropped), seed=seed).weights for seed in (1, 2))
    assert not equal(one, two)


class _Synchronisations(TorchDispatchMode):
    """Counts the operations that wait for a device: reading a number, or a shape that depends on numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = str(func)
        if any(word in name for word in ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "unique")):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@every
def test_nothing_in_a_step_waits_for_the_device(engine: str) -> None:
    data = images()
    trainer = ENGINES[engine](net(), data, LONG)
    jobs = [ticket(n) for n in range(1, 1 + min(trainer.width, 3))]
    trainer.load(jobs)
    feed = Feed(data, [data.train] * len(jobs), [1, 2, 3][: len(jobs)], Schedule(LONG, 60))
    trainer.step(*feed.batch(0), 0.1, 0)
    with _Synchronisations() as counted:
        for step in range(1, 6):
            inputs, targets = feed.batch(step)
            trainer.step(inputs, targets, 0.1, step)
    assert not counted.found
    with _Synchronisations() as counted:
        torch.ones(1).item()
    assert counted.found, "the counter must see what it is there for"


@every
def test_jobs_that_do_not_fit_are_refused(engine: str) -> None:
    class Wider(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, 5, 3, stride=2, padding=1)

    with pytest.raises(InputError, match=r"asked to train the weights of ticket .* got .* one architecture"):
        together(engine, [ticket(1), job(Wider())] if engine in WIDE else [job(Wider())])
    wrong = replace(ticket(1), momentum={"elsewhere": Tensor([1.0])})
    with pytest.raises(InputError, match=r"momentum of ticket 0 .*elsewhere"):
        together(engine, [wrong])


@pytest.mark.parametrize("engine", WIDE)
def test_schedules_that_differ_do_not_go_into_one_pack_but_are_trained(engine: str) -> None:
    data = images()
    trainer = ENGINES[engine](net(), data, LONG)
    jobs = [ticket(1), ticket(2, until=2), ticket(4, start=1)]
    with pytest.raises(InputError, match="schedules that differ"):
        Training(trainer, jobs, data, LONG)
    for trained, asked in zip(train_jobs(trainer, jobs, data, LONG), jobs, strict=True):
        assert same(trained, together(engine, [asked])[0])


def test_engines_agree_with_each_other() -> None:
    """The same mathematics: after one epoch they differ by rounding alone."""
    recipe = replace(LONG, epochs=1, lr=0.01)
    model = net()
    mask = some_mask(model)
    found = {engine: run(net(), recipe, mask, engine=engine).weights for engine in ENGINES}
    for engine, values in found.items():
        for name, value in values.items():
            torch.testing.assert_close(value, found["plain"][name], rtol=1e-3, atol=1e-5, msg=f"{engine} {name}")


@every
def test_frozen_parameters_stay_and_are_pruned(engine: str) -> None:
    class Frozen(tiny.Net):
        def __init__(self) -> None:
            super().__init__()
            self.second.weight.requires_grad_(False)
            self.norm.bias.requires_grad_(False)

    torch.manual_seed(0)
    model, data = Frozen(), images()
    mask = some_mask(model)
    if engine == "sparse":
        with pytest.raises(InputError, match=r"engine 'sparse', got 'norm.bias' frozen .* Use tuned"):
            ENGINES[engine](Frozen(), data, LONG)
        return
    (trained,) = train_jobs(ENGINES[engine](Frozen(), data, LONG), [job(model, mask)], data, LONG)
    assert torch.equal(trained.weights["second.weight"], model.second.weight * mask["second.weight"])
    assert torch.equal(trained.weights["norm.bias"], model.norm.bias)
    assert not torch.equal(trained.weights["norm.weight"], model.norm.weight)


@every
def test_a_model_without_batch_norm_and_with_tied_weights(engine: str) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(64, 64)
            self.two = nn.Linear(64, 64)
            self.two.weight = self.one.weight
            self.last = nn.Linear(64, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.relu(self.two(torch.relu(self.one(x.flatten(1))))))

    torch.manual_seed(0)
    model, data = Tied(), images()
    if engine == "sparse":
        with pytest.raises(InputError, match=r"engine 'sparse', got 'two.weight' tied to 'one.weight'.* Use tuned"):
            ENGINES[engine](Tied(), data, LONG)
        return
    (trained,) = train_jobs(ENGINES[engine](Tied(), data, LONG), [job(model, some_mask(model))], data, LONG)
    assert torch.equal(trained.weights["one.weight"], trained.weights["two.weight"])
    assert not torch.equal(trained.weights["one.weight"], model.one.weight)
