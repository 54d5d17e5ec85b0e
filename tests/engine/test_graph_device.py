"""Graphs without a GPU: which stream does what, in which order, and what a slot keeps, counts and gives back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

from engine.engines import CPU, LONG, equal, images, job, net, some_mask, ticket, weights
from ticketlab.engine.engine import Probe, Setting
from ticketlab.engine.graph import Cuda, Direct, Graphs
from ticketlab.engine.job import Job
from ticketlab.engine.kinds import example
from ticketlab.errors import InputError


class _Streams:
    """Stands in for torch.cuda: writes down what happens, with the stream that is current at the time."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.current = self.usual = _Stream(self, "usual")
        self.asked: list[object] = []
        patch.setattr(torch.cuda, "Stream", lambda device: _Stream(self, "own", device))
        patch.setattr(torch.cuda, "current_stream", self._current)
        patch.setattr(torch.cuda, "stream", self._switched)
        patch.setattr(torch.cuda, "synchronize", lambda device=None: self.note("synchronize"))
        patch.setattr(torch.cuda, "CUDAGraph", lambda: _Graph(self))
        patch.setattr(torch.cuda, "graph", self._capturing)

    def note(self, what: str, *more: str) -> None:
        self.events.append((what, *more, self.current.name))

    def _current(self, device: object = None) -> _Stream:
        self.asked.append(device)
        return self.current

    @contextlib.contextmanager
    def _switched(self, stream: _Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextlib.contextmanager
    def _capturing(self, graph: _Graph, stream: _Stream) -> Iterator[None]:
        with self._switched(stream):
            self.note("begin")
            yield
            self.note("end")


class _Stream:
    def __init__(self, streams: _Streams, name: str, device: object = None) -> None:
        self.name, self.device, self._streams = name, device, streams

    def wait_stream(self, other: _Stream) -> None:
        self._streams.events.append(("wait", self.name, other.name))


class _Graph:
    def __init__(self, streams: _Streams) -> None:
        self._streams = streams

    def replay(self) -> None:
        self._streams.note("replay")


GPU = torch.device("cuda:1")


def test_warm_ups_and_capture_are_on_the_tickets_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream first waits for what the ticket was loaded by, and all is done before anything is captured."""
    streams = _Streams(monkeypatch)
    place = Cuda(GPU)
    replay = place.captured(lambda: streams.note("work"))
    before, at, after = streams.events[:-4], streams.events[-4], streams.events[-3:]
    assert before[0] == ("wait", "own", "usual")
    assert len(before) > 1 and set(before[1:]) == {("work", "own")}
    assert at[0] == "synchronize"
    assert after == [("begin", "own"), ("work", "own"), ("end", "own")]
    assert streams.current is streams.usual and set(streams.asked) == {GPU}
    streams.events.clear()
    with place.stream():
        replay()
    assert streams.events == [("wait", "own", "usual"), ("replay", "own")], "a replay must not run the work itself"


def test_joining_makes_the_current_stream_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = _Streams(monkeypatch)
    Cuda(GPU).join()
    assert streams.events == [("wait", "usual", "own")] and streams.asked == [GPU]


def test_the_stream_is_one_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    _Streams(monkeypatch)
    with Cuda(GPU).stream():
        assert torch.cuda.current_stream(GPU).device == GPU  # type: ignore[comparison-overlap]


class _Place(Direct):
    """A stand-in that counts captures and replays, and can look at its slot right after a capture."""

    def __init__(self) -> None:
        self.captures = 0
        self.replays = 0
        self.joins = 0

    def stream(self) -> AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        replay = super().captured(work)
        self.captures += 1

        def counted() -> None:
            self.replays += 1
            replay()

        return counted

    def join(self) -> None:
        self.joins += 1


def opened(width: int = 3, model: nn.Module | None = None, place: type[Any] = _Place) -> tuple[Graphs, list[Any]]:
    places: list[Any] = []

    def made(device: torch.device) -> Any:
        places.append(place())
        return places[-1]

    setting = Setting(model or net(), LONG, "fp32", CPU)
    inputs = example(images(), CPU)
    return Graphs(setting, width, inputs, Probe(False, frozenset()), made), places


def batch(tickets: int, size: int = 9, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.rand(tickets, size, 1, 8, 8, generator=draw)
    return inputs, torch.randint(3, (tickets, size), generator=draw)


def everything(slot: Any) -> dict[str, Tensor]:
    """What a step changes."""
    held = {**slot._model.state_dict(), **{f"buffer {n}": b for n, b in slot._model.named_buffers()}}
    return {n: t.clone() for n, t in {**held, **{f"momentum {n}": m for n, m in slot._momentum.items()}}.items()}


class _Counting(tiny.Net):
    """Counts its passes in a buffer that no state dict has."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.passes.add_(1)
        return super().forward(x)


def test_warming_up_leaves_no_trace() -> None:
    """Weights, batch norm's statistics, momentum, and buffers that are not saved are as before the capture."""
    model = net(kind=_Counting)
    momentum = {n: torch.full_like(p, 0.01) for n, p in model.named_parameters()}
    trainer, _ = opened(1, model)
    trainer.load([job(model, some_mask(model), momentum=momentum)])
    (slot,) = trainer._slots
    before = everything(slot)
    inputs, targets = batch(1)
    _, _, replay = slot._capture(inputs[0], targets[0])
    assert equal(everything(slot), before)
    slot._rate.fill_(0.1)
    replay()
    after = everything(slot)
    assert {n for n in before if torch.equal(before[n], after[n])} == set(), "the replay must change all of it"


def test_the_first_step_is_one_step() -> None:
    """With its capture, it does what a step does whose graph is there already."""
    trainer, _ = opened(1)
    inputs, targets = batch(1)
    found = []
    for _ in range(2):
        trainer.load([ticket(1)])
        loss = trainer.step(inputs, targets, 0.1, 0)
        found.append((loss, trainer.state(0)))
    (one, first), (two, second) = found
    assert torch.equal(one, two) and equal(first.weights, second.weights) and equal(first.momentum, second.momentum)
    assert int(first.weights["norm.num_batches_tracked"]) == 1


def test_memory_never_moves() -> None:
    """What a graph reads and writes stays where it is, through steps, evaluations and other packs."""
    trainer, _ = opened(2)

    def places() -> list[int]:
        return [
            tensor.data_ptr()
            for slot in trainer._slots
            for tensor in (
                *slot._model.parameters(),
                *slot._model.buffers(),
                *slot._momentum.values(),
                *slot._alive.values(),
                *(own for inputs, targets, _ in slot._steps.values() for own in (inputs, targets)),
                slot._rate,
                slot.loss,
            )
        ]

    trainer.load([ticket(1), ticket(2)])
    trainer.step(*batch(2), 0.1, 0)
    before = places()
    for step in range(1, 3):
        trainer.step(*batch(2, seed=step), 0.05, step)
    trainer.answers(batch(1)[0][0])
    trainer.state(1)
    dense = ticket(3, momentum={n: torch.ones_like(p) for n, p in net().named_parameters()})
    trainer.load([dense, ticket(4)])
    trainer.step(*batch(2), 0.1, 0)
    assert places() == before


def test_each_size_of_batch_has_one_graph() -> None:
    trainer, places = opened(1)
    (place,) = places
    trainer.load([ticket(1)])
    for captures, size in [(1, 9), (1, 9), (2, 6), (2, 9), (2, 6)]:
        trainer.step(*batch(1, size), 0.1, 0)
        assert place.captures == captures
    trainer.load([ticket(2)])
    trainer.step(*batch(1, 9), 0.1, 0)
    trainer.step(*batch(1, 6), 0.1, 1)
    assert place.captures == 2 and place.replays == 7


def test_an_unused_slot_costs_no_step() -> None:
    trainer, places = opened(3)
    trainer.load([ticket(1), ticket(2), ticket(3)])
    trainer.step(*batch(3), 0.1, 0)
    idle = everything(trainer._slots[2])
    trainer.load([ticket(4), ticket(5)])
    losses = trainer.step(*batch(2), 0.1, 0)
    assert losses.shape == (2,) and trainer.answers(batch(1)[0][0]).shape == (2, 9)
    assert [p.replays for p in places] == [2, 2, 1] and [p.joins for p in places] == [2, 2, 1]
    assert equal(everything(trainer._slots[2]), idle)


def test_losses_are_those_before_the_step_and_stay_as_they_were() -> None:
    trainer, _ = opened(2)
    jobs = [ticket(1), ticket(2)]
    trainer.load(jobs)
    inputs, targets = batch(2)
    expected = []
    for k, asked in enumerate(jobs):
        model = _holding(asked)
        expected.append(nn.functional.cross_entropy(model(inputs[k]), targets[k]).detach())
    first = trainer.step(inputs, targets, 0.1, 0)
    torch.testing.assert_close(first, torch.stack(expected), rtol=1e-5, atol=1e-6)
    kept = first.clone()
    second = trainer.step(inputs, targets, 0.1, 1)
    assert torch.equal(first, kept) and not torch.equal(first, second)
    assert not {first.data_ptr(), second.data_ptr()} & {slot.loss.data_ptr() for slot in trainer._slots}


def _holding(asked: Job) -> nn.Module:
    model = net()
    model.load_state_dict(dict(asked.weights))
    return model if asked.mask is None else asked.mask.apply_(model)


def test_a_frozen_parameter_stays_as_it_is() -> None:
    model = net()
    model.first.weight.requires_grad_(False)
    trainer, _ = opened(1, model)
    before = weights(model)
    trainer.load([job(model)])
    trainer.step(*batch(1), 0.1, 0)
    after = trainer.state(0).weights
    assert torch.equal(after["first.weight"], before["first.weight"])
    assert not torch.equal(after["last.weight"], before["last.weight"])


class _Broken(Direct):
    """As a GPU does it: what a capture forbids is told first, and then that the capture is of no use."""

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        try:
            raise RuntimeError("reading a number is not permitted\nwhen stream is capturing")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")


def test_a_step_that_cannot_be_captured_is_refused_with_the_reason() -> None:
    """As an InputError, so that planning a study passes over the engine."""
    trainer, _ = opened(1, place=_Broken)
    trainer.load([ticket(1)])
    with pytest.raises(InputError, match=r"cannot be captured.*: reading a number is not permitted Use tuned"):
        trainer.step(*batch(1), 0.1, 0)


def test_running_out_of_memory_is_not_the_models_fault() -> None:
    class Full(Direct):
        def captured(self, work: Callable[[], None]) -> Callable[[], None]:
            raise torch.cuda.OutOfMemoryError("out of memory")

    trainer, _ = opened(1, place=Full)
    trainer.load([ticket(1)])
    with pytest.raises(torch.cuda.OutOfMemoryError):
        trainer.step(*batch(1), 0.1, 0)
