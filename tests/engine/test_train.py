"""ticketlab.train: packs of tickets from Python."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

import ticketlab
from engine.engines import LONG, images, job, net, same, some_mask, stopping, together
from ticketlab.data.batches import normalised
from ticketlab.data.types import Augment
from ticketlab.engine.eager import Eager
from ticketlab.engine.feed import Feed
from ticketlab.engine.schedule import Schedule
from ticketlab.errors import InputError


def tickets(n: int, at: float = 0.0) -> list[ticketlab.Ticket]:
    return [ticketlab.Ticket(ticketlab.prune(net(k), "random", 0.5), net(k).state_dict(), at) for k in range(n)]


ASKED: dict[str, Any] = {"model": tiny.net, "data": images(), "recipe": LONG}


def test_tickets_are_trained_in_their_order() -> None:
    told: list[tuple[int, float]] = []
    found = ticketlab.train(tickets(3), **ASKED, tell=lambda k, trained: told.append((k, trained.accuracy)))
    assert told == [(k, trained.accuracy) for k, trained in enumerate(found)]
    for k, trained in enumerate(found):
        (alone,) = ticketlab.train(tickets(3)[k : k + 1], **ASKED, seeds=[k])
        assert same(trained, alone) and len(trained.history) == 4
    assert isinstance(found[0], ticketlab.Trained)


def test_a_ticket_starts_where_it_says() -> None:
    (late,) = ticketlab.train(tickets(1, at=2.5), **ASKED)
    assert [e["epoch"] for e in late.history] == [3, 4] and late.history[1]["lr"] == pytest.approx(0.0005)
    (short,) = ticketlab.train(tickets(1), **ASKED, until=0.5)
    assert [e["epoch"] for e in short.history] == [4 / 7]


def test_training_beyond_the_recipe_goes_on_at_its_last_rate() -> None:
    """On batches of its own: six epochs are as many different orders, and the first four are those of the recipe."""
    (whole,), (longer,) = (ticketlab.train(tickets(1), **ASKED, until=until) for until in (None, 6))
    assert longer.history[:4] == whole.history
    assert [e["epoch"] for e in longer.history] == [1, 2, 3, 4, 5, 6]
    assert [e["lr"] for e in longer.history[3:]] == [whole.history[3]["lr"]] * 3
    (late,) = ticketlab.train(tickets(1, at=4), **ASKED, until=6)
    assert [(e["epoch"], e["lr"]) for e in late.history] == [(e["epoch"], e["lr"]) for e in longer.history[4:]]
    (none,) = ticketlab.train(tickets(1, at=4), **ASKED)
    assert not none.history and none.correct.any()


def test_an_ordered_split_is_read_as_stored_beside_a_shuffled_one() -> None:
    """In every epoch and at every batch; being packed with the other changes neither."""
    data = replace(images(), augment=Augment())
    ordered, shuffled = (replace(data.train.take(torch.arange(40)), ordered=o) for o in (True, False))
    schedule = Schedule(LONG, 40)
    pack, alone = (Feed(data, s, [5] * len(s), schedule) for s in ([ordered, shuffled], [shuffled]))
    orders = []
    for epoch in range(3):
        batches = [pack.batch(epoch * pack.steps + step) for step in range(pack.steps)]
        inputs, targets = torch.cat([b[0] for b in batches], 1), torch.cat([b[1] for b in batches], 1)
        assert torch.equal(inputs[0], normalised(data, ordered.inputs)) and torch.equal(targets[0], ordered.targets)
        assert not torch.equal(targets[1], shuffled.targets)
        assert torch.equal(inputs[1].flatten().sort().values, inputs[0].flatten().sort().values)
        assert all(torch.equal(alone.batch(epoch * pack.steps + i)[0][0], b[0][1]) for i, b in enumerate(batches))
        orders.append(targets[1])
    assert not torch.equal(orders[0], orders[1]) and not torch.equal(orders[1], orders[2])


@pytest.mark.parametrize("engine", ["tuned", "stacked", "graph"])
def test_training_on_an_ordered_split(engine: str) -> None:
    """Another training than on the same examples shuffled, and the same one whatever it is packed with."""
    data = images(40)
    splits = [replace(data.train, ordered=o) for o in (True, False)]
    jobs = [job(net(1), some_mask(net(1)), seed=4, split=split) for split in splits]
    one, other = together(engine, jobs, data=data)
    assert same(one, together(engine, jobs[:1], data=data)[0])
    assert same(other, together(engine, [replace(jobs[1], split=None)], data=data)[0])
    assert not torch.equal(one.weights["first.weight"], other.weights["first.weight"])
    # The order is all that a seed decides here, but for augmentation.
    plain = replace(LONG, augment=False)
    seeds = [replace(j, seed=s) for j in jobs for s in (4, 5)]
    a, b, c, d = (r.weights["first.weight"] for r in together(engine, seeds, plain, data))
    assert torch.equal(a, b) and not torch.equal(c, d)


def test_it_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ticketlab.train(tickets(3), **ASKED)
    calls, stopped = stopping(Eager, 28 + 20)
    kept: dict[str, Any] = {"checkpoints": tmp_path, "every": 0.0}
    with monkeypatch.context() as patch:
        patch.setattr(Eager, "step", stopped)
        with pytest.raises(KeyboardInterrupt):
            ticketlab.train(tickets(3), **ASKED, **kept)
    calls.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Eager, "step", stopped)
        found = ticketlab.train(tickets(3), **ASKED, **kept)
    # The first ticket was finished, the second had its sixteen steps.
    assert len(calls) == 12 + 28 and all(same(a, b) for a, b in zip(found, whole, strict=True))
    assert not list(tmp_path.iterdir())
    # Another recipe, seed or mask is another training.
    with monkeypatch.context() as patch:
        patch.setattr(Eager, "step", stopped)
        calls.clear()
        with pytest.raises(KeyboardInterrupt):
            ticketlab.train(tickets(3), **ASKED, **kept)
    (other,) = ticketlab.train(tickets(1), **{**ASKED, **kept}, seeds=[7])
    assert same(other, ticketlab.train(tickets(1), **ASKED, seeds=[7])[0])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tickets": []}, "asked to train tickets, got none"),
        ({"seeds": [1]}, "asked to train 2 tickets, got 1 seeds"),
        ({"engine": "fast"}, "asked for engine 'fast'"),
        ({"precision": "tf32"}, "tf32"),
        ({"until": math.inf}, "got a recipe of 4 epochs"),
        ({"until": -1}, "got a recipe of 4 epochs"),
        ({"model": "conv"}, "one architecture"),
        ({"device": "cuda:77"}, "asked for device 'cuda:77'"),
        ({"every": -1.0}, "seconds"),
        ({"threads": 0}, "asked for 0 threads"),
        ({"recipe": ticketlab.Recipe(epochs=0.001)}, "asked for 0.001 epochs"),
    ],
)
def test_bad_input(changes: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: Any) -> Any:
        raise AssertionError("trained")

    monkeypatch.setattr(Eager, "step", never)
    asked = {"tickets": tickets(2), **ASKED, **changes}
    with pytest.raises(InputError, match=said):
        ticketlab.train(asked.pop("tickets"), **asked)


def test_a_ticket_that_does_not_fit_is_refused_before_any_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[int] = []
    other = ticketlab.Ticket(ticketlab.prune(net(1), "random", 0.5), {"first.weight": torch.zeros(1)})
    with pytest.raises(InputError, match="weights of ticket 1"):
        ticketlab.train([*tickets(1), other], **ASKED, tell=lambda k, _: trained.append(k))
    assert not trained


def test_a_diverged_ticket_is_told() -> None:
    lost, well = ticketlab.train(tickets(2), **{**ASKED, "recipe": ticketlab.Recipe(epochs=2, lr=1e25)})
    assert lost.diverged_step and math.isnan(lost.accuracy) and math.isnan(well.accuracy)
