"""ticketlab.train: packs of tickets from Python."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

import ticketlab
from engine.engines import LONG, images, net, same
from ticketlab.engine.eager import Eager
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


def test_it_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ticketlab.train(tickets(3), **ASKED)
    step, calls = Eager.step, []

    def stopped(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 28 + 20:
            raise KeyboardInterrupt
        return step(*arguments)

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
        ({"until": 9}, "got a recipe of 4 epochs"),
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
