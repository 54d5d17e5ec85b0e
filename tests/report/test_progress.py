"""Progress: plain lines now and then, a live bar on a terminal, and no exception whatever stderr is."""

from __future__ import annotations

import io
import sys

import pytest

from ticketlab.report.eta import Eta
from ticketlab.report.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError

    def isatty(self) -> bool:
        return True


def test_plain_lines_at_most_every_ten_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(stream, clock=clock) as progress:
        progress.start(100)
        for step in range(100):
            clock.time += 1.0
            progress.advance("train", f"snip · seed {step}", 1.0, linked=step % 10 == 0)
    lines = stream.getvalue().splitlines()
    assert 10 <= len(lines) <= 12
    assert lines[0] == "0 of 100 steps, 0s elapsed, time left not known yet"
    assert lines[3] == "30 of 100 steps, 30s elapsed, about 1m 10s left, 3 linked, snip ? seed 29"
    assert lines[-1].startswith("100 of 100 steps, 1m 40s elapsed")


def test_resumed_study_and_given_counts() -> None:
    stream = io.StringIO()
    with Progress(stream, clock=Clock()) as progress:
        progress.start(10, 4)
        progress.advance("train", "a", 2.0)
        assert progress.line().startswith("5 of 10 steps")
        progress.advance("train", "b", 2.0, done=8, total=12, linked=True)
        progress.now("c")
        assert progress.line().startswith("8 of 12 steps") and progress.line().endswith("c")


def test_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Progress(stream) as progress:
        progress.start(4)
        progress.advance("prune", "grasp · prune", 0.1)
    assert "━" * 6 in stream.getvalue() and "━" * 7 not in stream.getvalue() and "1 of 4 steps" in stream.getvalue()


@pytest.mark.parametrize("kind", ["closed", "broken", "none"])
def test_never_raises(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Broken() if kind == "broken" else Terminal()
    if kind == "closed":
        stream.close()
    monkeypatch.setattr(sys, "stderr", None if kind == "none" else stream)
    with Progress() as progress:
        progress.start(3)
        progress.advance("train", "x", 1.0)
        progress.finish()
        progress.finish()


def test_closed_while_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Progress(stream) as progress:
        progress.start(3)
        stream.close()
        progress.advance("train", "x", 1.0)


def test_an_error_passes_through() -> None:
    with pytest.raises(KeyError), Progress(io.StringIO()) as progress:
        progress.start(3)
        raise KeyError


def test_eta_by_kind() -> None:
    eta = Eta({"train": 10, "prune": 2})
    assert eta.left(12, 0.0) is None
    eta.add("prune", 1.0, 1.0)
    assert eta.left(11, 1.0) is None, "no training was measured yet"
    eta.add("train", 10.0, 11.0)
    assert eta.left(10, 11.0) == pytest.approx(91.0)
    assert eta.left(10, 16.0) == pytest.approx(86.0), "time goes on while a step runs"
    assert eta.left(0, 16.0) == 0.0


def test_eta_counts_what_runs_at_once() -> None:
    eta = Eta()
    for step in range(4):
        eta.add("train", 10.0, 10.0 + step * 0.0)
    assert eta.left(8, 10.0) == pytest.approx(20.0)
