"""find: the ticket of a method, with the training that it needs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import tiny
import torch

import ticketlab
from ticketlab.data.types import Data
from ticketlab.errors import InputError
from ticketlab.experiment import execute
from ticketlab.experiment.factory import Factory
from ticketlab.seeding import isolated

ASKED: dict[str, Any] = {"data": tiny.data(), "recipe": tiny.RECIPE, "per_class": 4}


@pytest.mark.parametrize("method", ["lottery", "imp,rounds=2", "snip"])
def test_start_weights_are_the_initialisation(method: str) -> None:
    model = tiny.Net()
    ticket = ticketlab.find(model, method, 0.7, **ASKED)
    assert ticket.at == 0 and ticket.mask.kept == round(0.3 * ticket.mask.total)
    for name, value in model.state_dict().items():
        assert torch.equal(ticket.weights[name], value), name


def test_seeds_draw_the_weights() -> None:
    tickets = [ticketlab.find(tiny.net, "magnitude", 0.7, seed=s, **ASKED) for s in (0, 1, 1)]
    assert tickets[1].mask == tickets[2].mask != tickets[0].mask
    with isolated(1, "init"):
        wanted = Factory(tiny.net, 3, (1, 8, 8))().state_dict()
    assert all(torch.equal(tickets[1].weights[n], w) for n, w in wanted.items())


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_imp_removes_an_equal_share_of_the_rest_each_round(rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    masks = []
    find_mask = execute.find_mask

    def kept(*arguments: Any, **options: Any) -> Any:
        masks.append(find_mask(*arguments, **options))
        return masks[-1]

    monkeypatch.setattr(execute, "find_mask", kept)
    sparsity = 1 - 0.8**rounds
    ticket = ticketlab.find(tiny.net, "imp", sparsity, **ASKED)
    assert [m.kept for m in masks] == [round(0.8**r * 420) for r in range(1, rounds + 1)] and masks[-1] == ticket.mask
    for outer, inner in pairwise(masks):
        assert all(bool((outer[n] | ~inner[n]).all()) for n in inner)


def test_imp_ranks_trained_weights_rewound_in_every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = []
    train_jobs = execute.train_jobs

    def seen(engine: Any, jobs: Any, *arguments: Any, **options: Any) -> Any:
        starts.extend(dict(job.weights) for job in jobs)
        return train_jobs(engine, jobs, *arguments, **options)

    monkeypatch.setattr(execute, "train_jobs", seen)
    model = tiny.Net()
    ticketlab.find(model, "imp,rounds=3", 0.7, **ASKED)
    assert len(starts) == 3
    assert all(torch.equal(s[n], v) for s in starts for n, v in model.state_dict().items())


def test_only_the_method_asked_for_must_meet_its_budget() -> None:
    """At 97% the random ticket cannot be had for this net; nobody asked for one."""
    assert ticketlab.find(tiny.net, "magnitude", 0.97, **ASKED).mask.kept == round(0.03 * 420)


def test_any_test_set_will_do() -> None:
    data = tiny.data()
    two = Data("two", data.train, data.test.take(torch.arange(2)), 3, data.mean, data.std)
    assert ticketlab.find(tiny.net, "snip", 0.5, **{**ASKED, "data": two}).mask.kept == 210


def test_a_ticket_from_a_diverged_training_is_refused() -> None:
    recipe = replace(tiny.RECIPE, lr=1e25)
    with pytest.raises(InputError, match=r"asked for a ticket of lottery, got a training that diverged in epoch"):
        ticketlab.find(tiny.net, "lottery", 0.5, **{**ASKED, "recipe": recipe})


def test_rewinding_to_an_epoch() -> None:
    model = tiny.Net()
    ticket = ticketlab.find(model, "lottery,rewind=1", 0.5, **ASKED)
    assert ticket.at == 1
    assert not torch.equal(ticket.weights["first.weight"], model.first.weight)
    # Batch norm is taken back together with the weights: six batches in one epoch.
    assert int(ticket.weights["norm.num_batches_tracked"]) == 6
