"""Checkpoints: read back as they were written, or not at all."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from engine.engines import ENGINES, LONG, images, net, same, ticket, together
from ticketlab.engine.checkpoint import load, save
from ticketlab.engine.loop import Checkpoint, Training
from ticketlab.engine.train import Keeper, train_jobs


@pytest.fixture
def held(tmp_path: Path) -> tuple[Checkpoint, Path]:
    training = Training(ENGINES["tuned"](net(), images(), LONG), [ticket(1)], images(), LONG)
    training.advance(10)
    path = tmp_path / "one.safetensors"
    save(training.checkpoint(0), "key", path)
    return training.checkpoint(0), path


def test_a_checkpoint_is_read_back_whole(held: tuple[Checkpoint, Path]) -> None:
    written, path = held
    read = load("key", path)
    assert read is not None and read.progress.step == 10 and len(read.progress.losses) == 3
    assert read.progress.losses == written.progress.losses and read.progress.history == written.progress.history
    assert read.progress.correct is not None and written.progress.correct is not None
    assert torch.equal(read.progress.correct, written.progress.correct)
    for group in ("weights", "momentum"):
        one, other = getattr(read.state, group), getattr(written.state, group)
        assert one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_losses_that_are_no_numbers_survive(held: tuple[Checkpoint, Path]) -> None:
    written, path = held
    written.progress.losses[:] = [math.nan, math.inf, 0.1]
    save(written, "key", path)
    read = load("key", path)
    assert read is not None and math.isnan(read.progress.losses[0]) and read.progress.losses[1:] == [math.inf, 0.1]


def test_a_damaged_or_foreign_checkpoint_is_none(held: tuple[Checkpoint, Path], tmp_path: Path) -> None:
    _, path = held
    content = path.read_bytes()
    assert load("another", path) is None and load("key", tmp_path / "absent") is None
    for at in range(0, len(content), max(1, len(content) // 97)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        assert load("key", path) is None, f"a flipped bit at {at} of {len(content)} went unnoticed"
        path.write_bytes(content[:at])
        assert load("key", path) is None
    path.write_bytes(content)
    assert load("key", path) is not None


def test_a_pack_that_was_stopped_may_be_packed_in_any_way(tmp_path: Path) -> None:
    """Three tickets stopped in a pack of two and one alone at another step, then trained as four together."""
    data, keeper = images(), Keeper(tmp_path, every=0.0)
    for numbers, stop in (((1, 2), 12), ((4,), 5)):
        training = Training(ENGINES["stacked"](net(), data, LONG), [ticket(n) for n in numbers], data, LONG)
        training.advance(stop)
        keeper.keep((str(n), training.checkpoint(k)) for k, n in enumerate(numbers))
    jobs = [ticket(n) for n in (4, 2, 5, 1)]
    found = train_jobs(ENGINES["stacked"](net(), data, LONG), jobs, data, LONG, ["4", "2", "5", "1"], keeper)
    for trained, job in zip(found, jobs, strict=True):
        assert same(trained, together("stacked", [job], data=data)[0])


def test_a_diverged_ticket_of_a_stopped_pack_stays_as_it_was(tmp_path: Path) -> None:
    data, keeper = images(), Keeper(tmp_path, every=0.0)
    jobs = [ticket(1), ticket(2)]
    jobs[1].weights["last.weight"].fill_(1e30)
    whole = together("stacked", jobs, data=data)
    training = Training(ENGINES["stacked"](net(), data, LONG), jobs, data, LONG)
    training.advance(10)
    keeper.keep((str(k), training.checkpoint(k)) for k in range(2))
    resumed = train_jobs(ENGINES["stacked"](net(), data, LONG), jobs, data, LONG, ["0", "1"], keeper)
    assert same(resumed[0], whole[0])
    assert (resumed[1].diverged_at, resumed[1].diverged_step) == (whole[1].diverged_at, whole[1].diverged_step)
    for name, value in whole[1].weights.items():
        torch.testing.assert_close(resumed[1].weights[name], value, rtol=0, atol=0, equal_nan=True)
