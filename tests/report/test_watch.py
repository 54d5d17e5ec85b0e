"""How a study stands in a terminal: every line fits, whatever the width, the height and the letters it has."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from ticketlab.experiment.claims import Claim
from ticketlab.report.watch import fitting, lines
from ticketlab.watch.status import Failed, Finished, Status

NOW = 1_700_000_000.0
LABEL = "lr-rewinding,epochs=50%,rewind=50% · weight-shuffle, 90%, seed {}"
STATUS = Status(
    title="snip, scores:[bold]mine[/oops] on cifar10 / resnet20",
    at=NOW,
    began=NOW - 12000,
    done=1234,
    total=9999,
    blocked=1,
    damaged=2,
    kinds={"init": (10, 10), "prune": (24, 989), "train": (1200, 9000)},
    running=tuple(
        Claim(str(n), LABEL.format(n), "train", "run", NOW - 600, NOW, {"epoch": 3.25, "epochs": 160.0, "accuracy": 91})
        for n in range(20)
    ),
    lost=(Claim("x", "dense, seed 3", "train", "gone", NOW - 600, NOW - 75),),
    latest=tuple(Finished(str(n), LABEL.format(n), None if n else 98.765, 61.0, NOW - 5) for n in range(10)),
    failed=(Failed("y", "grasp, 98%, seed 1", "prune", "scores are\x1b[31m NaN\nand more"),),
    seconds=40000.0,
    left=7300.0,
    workers=20,
    command="ticketlab check snip",
    answer="snip at 90%: undecided: rearrange.\ngrasp at 90%: its result depends on where its weights sit.",
)


def text(status: Status, width: int = 80, encoding: str = "utf-8") -> list[str]:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=stream, width=width, height=24)
    return [line.plain for line in lines(status, console)]


def test_it_says_everything() -> None:
    found = text(STATUS, 120)
    whole = "\n".join(found)
    rows = [" ".join(line.split()) for line in found]
    assert found[0] == STATUS.title
    assert found[1] == "━━" + "─" * 22 + "  1,234 of 9,999 steps, 12%"
    assert "init 10, prune 24 of 989, train 1,200 of 9,000" in whole
    assert "started 3h 20m ago, 11h 06m of computing, about 2h 01m left with 20 workers" in whole
    assert f"{LABEL.format(0)} epoch 3.2 of 160, 91.00%, for 10m 00s" in rows
    assert "and 9 more" in whole and f"{LABEL.format(0)} 98.77%, in 1m 01s, 5s ago" in rows
    assert "diverged, in 1m 01s" in whole and "grasp, 98%, seed 1 (prune): scores are [31m NaN" in whole
    assert "2 damaged" in whole and found[-1].endswith("where its weights sit.") and "So far" in found
    dead = replace(STATUS, running=())
    assert "  dense, seed 3  no sign of life for 1m 15s" in text(dead)


def test_the_bar_is_full_at_the_end_only() -> None:
    assert "99%" in text(replace(STATUS, done=9998))[1] and "─" in text(replace(STATUS, done=9998))[1]
    end = replace(STATUS, done=9999, running=(), lost=(), failed=(), damaged=0)
    assert text(end)[1] == "━" * 24 + "  9,999 of 9,999 steps, 100%"
    assert "The answer" in text(end) and not any("left" in line or "Nothing" in line for line in text(end))


def test_nothing_runs() -> None:
    idle = replace(STATUS, running=(), lost=(), latest=(), workers=0, left=None)
    assert "Nothing runs right now" in text(idle) and "  go on with: ticketlab check snip" in text(idle)
    # It may be reading its data.
    assert not any("go on with" in line for line in text(replace(idle, began=NOW - 10)))


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_every_line_fits(width: int, encoding: str) -> None:
    found = text(STATUS, width, encoding)
    assert max(map(len, found)) <= width
    assert encoding == "utf-8" or all(line.isascii() for line in found)
    # Nothing is cut: words that do not fit are wrapped.
    assert "".join(LABEL.format(0).replace("·", "-" if encoding == "ascii" else "·").split()) in "".join(
        "".join(found).split()
    )


@pytest.mark.parametrize("height", [1, 8, 16, 24, 60])
def test_it_fits_the_height(height: int) -> None:
    console = Console(file=io.StringIO(), width=80, height=height, force_terminal=True)
    found = fitting(STATUS, console).plain.splitlines()
    assert len(found) <= max(1, height - 1) and found[0] == STATUS.title
    assert height < 24 or "So far" in found
