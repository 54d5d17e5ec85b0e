"""The engines on a real GPU: they agree with the CPU, and packing, stopping and diverging change nothing there."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import tiny
import torch
from torch import nn

import ticketlab
from engine.engines import LONG, equal, images, job, net, same, some_mask, ticket
from ticketlab.data.types import Data
from ticketlab.engine.engine import Engine
from ticketlab.engine.feed import Feed
from ticketlab.engine.graph import Cuda, Graphs
from ticketlab.engine.job import Job, Trained
from ticketlab.engine.kinds import open_engine
from ticketlab.engine.loop import Training
from ticketlab.engine.memory import check_memory
from ticketlab.engine.precision import check_precision, numerics
from ticketlab.engine.recipe import Recipe
from ticketlab.engine.schedule import Schedule
from ticketlab.engine.train import Keeper, train_jobs
from ticketlab.errors import InputError
from ticketlab.program import Ticket

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SPECS = ("plain", "tuned", "tuned+im2col", "graph:3", "graph:8", "stacked:3")
every = pytest.mark.parametrize("spec", SPECS)


@cache
def opened(spec: str) -> Engine:
    """An engine for the tiny net: compiled and captured once, and what a test left in it must not matter to the next.

    The rate and the number of epochs are those of the loop, so that recipes that differ by them alone can share it.
    """
    if spec.startswith("stacked"):
        pytest.importorskip("triton", reason="the compiler needs triton on a GPU")
    return open_engine(spec, net(), images(), LONG, device="cuda")


@cache
def resident() -> Data:
    """The images on the GPU."""
    return images().to("cuda")


def trained(spec: str, jobs: list[Job], recipe: Recipe = LONG) -> list[Trained]:
    with numerics(1):
        return train_jobs(opened(spec), jobs, resident(), recipe)


@every
def test_it_agrees_with_the_cpu(spec: str) -> None:
    """The same mathematics: after one epoch they differ by rounding alone."""
    recipe = replace(LONG, epochs=1, lr=0.01)
    with numerics(1):
        plain = open_engine("plain", net(), images(), recipe)
        expected = train_jobs(plain, [ticket(1), ticket(3)], images(), recipe)
    for found, there in zip(trained(spec, [ticket(1), ticket(3)], recipe), expected, strict=True):
        assert list(found.weights) == list(there.weights)
        for name, value in found.weights.items():
            assert value.device.type == "cpu"
            torch.testing.assert_close(value, there.weights[name], rtol=1e-3, atol=1e-4, msg=f"{spec} {name}")
        assert found.history[0]["loss"] == pytest.approx(there.history[0]["loss"], rel=1e-3)


@every
def test_training_moves_the_weights(spec: str) -> None:
    """Or else agreement within a tolerance would say little."""
    (found,) = trained(spec, [ticket(1)])
    before = ticket(1).weights
    assert float((found.weights["last.weight"] - before["last.weight"]).abs().max()) > 0.01
    assert found.history[-1]["loss"] < found.history[0]["loss"]


@every
@pytest.mark.parametrize("number", [1, 3])
def test_a_ticket_is_bit_equal_whatever_it_is_packed_with(spec: str, number: int) -> None:
    """Alone, among three and among eight, in the first place and in the last."""
    alone = trained(spec, [ticket(number)])[0]
    others = [ticket(n) for n in range(10, 17)]
    assert same(trained(spec, [ticket(number), *others[:2]])[0], alone)
    assert same(trained(spec, [*others[:2], ticket(number)])[2], alone)
    assert same(trained(spec, [*others, ticket(number)])[7], alone)


@every
@pytest.mark.parametrize("cut", [1, 10 / 7])
def test_cut_in_two_is_bit_equal(spec: str, cut: float) -> None:
    """Between two epochs, and within one."""
    whole = trained(spec, [ticket(1), ticket(2)])
    halves = trained(spec, [ticket(1, until=cut), ticket(2, until=cut)])
    jobs = [
        replace(ticket(n), weights=half.weights, momentum=half.momentum, start=cut)
        for n, half in zip((1, 2), halves, strict=True)
    ]
    for rest, full in zip(trained(spec, jobs), whole, strict=True):
        assert equal(rest.weights, full.weights) and equal(rest.momentum, full.momentum)
        assert torch.equal(rest.correct, full.correct)


@every
def test_a_stopped_training_goes_on_bit_equal(spec: str, tmp_path: Path) -> None:
    """From checkpoints on disk, written in the middle of an epoch."""
    whole = trained(spec, [ticket(1), ticket(2)])
    trainer = opened(spec)
    stopped = []
    with numerics(1):
        for first in range(0, 2, min(trainer.width, 2)):
            jobs = [ticket(1), ticket(2)][first : first + trainer.width]
            training = Training(trainer, jobs, resident(), LONG)
            training.advance(10)
            stopped += [training.checkpoint(k) for k in range(len(jobs))]
        keeper = Keeper(tmp_path)
        keeper.keep(zip(["one", "two"], stopped, strict=True))
        assert keeper.found("one") is not None
        resumed = train_jobs(trainer, [ticket(1), ticket(2)], resident(), LONG, ["one", "two"], keeper)
    assert all(same(a, b) for a, b in zip(resumed, whole, strict=True))


@every
def test_pruned_weights_are_exactly_zero(spec: str) -> None:
    """Even where the momentum of before was not."""
    model = net()
    mask = some_mask(model)
    stale = {n: torch.ones_like(p) for n, p in model.named_parameters()}
    (found,) = trained(spec, [job(model, mask, momentum=stale)])
    for name, alive in mask.items():
        assert not found.weights[name][~alive].any() and not found.momentum[name][~alive].any()
        assert int(found.weights[name].count_nonzero()) > 0.7 * int(alive.sum())


@every
def test_divergence_of_one_leaves_the_others_bit_equal(spec: str) -> None:
    sick = ticket(2)
    sick.weights["last.weight"].fill_(1e30)
    well, ill, also = trained(spec, [ticket(1), sick, ticket(4)])
    assert same(well, trained(spec, [ticket(1)])[0]) and same(also, trained(spec, [ticket(4)])[0])
    assert ill.diverged_at == 1 and ill.diverged_step is not None and 1 <= ill.diverged_step <= 7
    assert math.isnan(ill.accuracy) and not ill.history
    assert sick.mask is not None
    for name, alive in sick.mask.items():
        assert not ill.weights[name][~alive].any()


@every
def test_the_smaller_last_batch_is_trained_on_too(spec: str) -> None:
    """60 images in batches of 9 leave 6. With a rate of 0 the mean loss is that of the images, whatever the order."""
    still = replace(LONG, epochs=1, lr=0.0)
    asked = ticket(3)
    asked.weights["last.weight"].zero_()
    asked.weights["last.bias"].zero_()
    (found,) = trained(spec, [asked], still)
    assert int(found.weights["norm.num_batches_tracked"]) == 7
    assert found.history[0]["loss"] == pytest.approx(math.log(3), rel=1e-6)
    assert equal({"": found.weights["first.weight"]}, {"": asked.weights["first.weight"]})


def test_graphs_are_captured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second pack in the same engine runs the graphs of the first, and comes out as from an engine of its own."""
    captured: Callable[..., Callable[[], None]] = Cuda.captured
    count = []

    def counted(place: Cuda, work: Callable[[], None]) -> Callable[[], None]:
        count.append(place)
        return captured(place, work)

    monkeypatch.setattr(Cuda, "captured", counted)
    with numerics(1):
        trainer = open_engine("graph:3", net(), images(), LONG, device="cuda")
        assert isinstance(trainer, Graphs)
        first = train_jobs(trainer, [ticket(1), ticket(2), ticket(3)], resident(), LONG)
        # Three slots, each with a graph for 9 images and one for 6.
        assert len(count) == 6
        where = [p.data_ptr() for slot in trainer._slots for p in slot._model.parameters()]
        second = train_jobs(trainer, [ticket(4), ticket(5)], resident(), LONG)
        again = train_jobs(trainer, [ticket(1), ticket(2), ticket(3)], resident(), LONG)
        assert len(count) == 6
        assert where == [p.data_ptr() for slot in trainer._slots for p in slot._model.parameters()]
        fresh = open_engine("graph:3", net(), images(), LONG, device="cuda")
        for found, expected in zip(second, train_jobs(fresh, [ticket(4), ticket(5)], resident(), LONG), strict=True):
            assert same(found, expected)
    assert all(same(a, b) for a, b in zip(first, again, strict=True))


class Wide(nn.Sequential):
    """Products large enough that a GPU takes its units for them, where sizes of a few numbers go another way."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 3))


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
@pytest.mark.parametrize("spec", ["tuned", "graph:3"])
def test_other_precisions_train_and_are_others(spec: str, precision: str) -> None:
    try:
        check_precision(precision, torch.device("cuda"))
    except InputError as error:
        pytest.skip(str(error))
    data = tiny.data(train=128)
    recipe = Recipe(epochs=2, batch_size=64, lr=0.01, augment=False)
    torch.manual_seed(0)
    model = Wide()
    jobs = [job(model, seed=1), job(model, seed=2)]
    found = {}
    for name in ("fp32", precision):
        with numerics(1, name):
            trainer = open_engine(spec, model, data, recipe, precision=name, device="cuda")
            found[name] = train_jobs(trainer, jobs, data.to("cuda"), recipe)
    for full, rounded in zip(found["fp32"], found[precision], strict=True):
        assert full.diverged_at is None and rounded.diverged_at is None
        assert all(math.isfinite(e["loss"]) for e in rounded.history) and len(rounded.history) == 2
        assert all(t.dtype == torch.float32 for t in rounded.weights.values())
        assert not equal(full.weights, rounded.weights)
        for name, value in rounded.weights.items():
            torch.testing.assert_close(value, full.weights[name], rtol=0.1, atol=0.02)


@contextmanager
def refusing_to_wait() -> Iterator[None]:
    """An error where work waits for the GPU, as far as torch knows."""
    with warnings.catch_warnings():
        # That this is a prototype.
        warnings.simplefilter("ignore")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("spec", ["tuned", "graph:3"])
def test_nothing_in_a_step_waits_for_the_gpu(spec: str) -> None:
    trainer, data = opened(spec), resident()
    jobs = [ticket(1), ticket(2), ticket(4)][: trainer.width]
    with numerics(1):
        trainer.load(jobs)
        feed = Feed(data, [data.train] * len(jobs), [1, 2, 4][: len(jobs)], Schedule(LONG, 60))
        # The first step of an epoch brings its order to the GPU; seven make an epoch.
        for step in range(2):
            trainer.step(*feed.batch(step), 0.1, step)
        torch.cuda.synchronize()
        with refusing_to_wait():
            for step in range(2, 6):
                inputs, targets = feed.batch(step)
                trainer.step(inputs, targets, 0.1, step)
        probe = torch.ones(1, device="cuda")
        with refusing_to_wait(), pytest.raises(RuntimeError, match="synchroniz"):
            probe.item()


def test_train_on_the_gpu() -> None:
    """By the public call: more tickets than the engine is wide, each the same as alone."""
    models = [net(n) for n in range(9)]
    tickets = [Ticket(some_mask(m, n), {k: t.clone() for k, t in m.state_dict().items()}) for n, m in enumerate(models)]

    def found(asked: list[Ticket], seeds: list[int]) -> list[Trained]:
        return ticketlab.train(
            asked, model=tiny.net, data=tiny.data(), recipe=tiny.RECIPE, seeds=seeds, device="cuda", engine="graph:8"
        )

    all_of_them = found(tickets, list(range(9)))
    assert len(all_of_them) == 9
    for k in (0, 7, 8):
        assert same(found([tickets[k]], [k])[0], all_of_them[k])
        assert all_of_them[k].diverged_at is None and all_of_them[k].accuracy > 0
        for name, alive in tickets[k].mask.items():
            assert not all_of_them[k].weights[name][~alive].any()


def test_a_study_on_the_gpu_comes_out_the_same_twice() -> None:
    def verdicts() -> str:
        report = ticketlab.check(
            "snip",
            model=tiny.net,
            data=tiny.data(),
            sparsity=0.8,
            seeds=3,
            recipe=tiny.RECIPE,
            margin=10,
            per_class=4,
            device="cuda",
            engine="graph:4",
        )
        assert report.verdicts
        # As text, in which a NaN equals itself.
        return json.dumps(report.verdicts, sort_keys=True, default=str)

    assert verdicts() == verdicts()


def test_memory_is_that_of_the_gpu() -> None:
    where = torch.device("cuda")
    memory = check_memory(net(), images(), LONG, width=8, device=where)
    assert 0 < memory.total(8) < torch.cuda.get_device_properties(0).total_memory
    with pytest.raises(InputError, match=r"tickets side by side, about .* of free memory on cuda: at most \d+ would"):
        check_memory(net(), images(), LONG, width=10**9, device=where)
