"""The time that is left, against sums done by hand."""

from __future__ import annotations

from typing import Any

import pytest

from ticketlab.experiment.claims import Claim
from ticketlab.experiment.step import Step
from ticketlab.watch.left import at_once, left

NOW = 1000.0


def record(kind: str, seconds: float, epochs: float = 0.0, engine: str = "tuned") -> dict[str, Any]:
    params = {"start": 0, "until": epochs, "numerics": {"engine": engine}} if kind == "train" else {}
    return {"kind": kind, "seconds": seconds, "params": params}


def running(step: str, kind: str = "train", since: float = 0.0, owner: str = "run") -> Claim:
    return Claim(step, step, kind, owner, NOW - since, NOW)


def planned(**steps: tuple[str, float]) -> dict[str, Step]:
    return {name: Step(kind, {"start": 0, "until": until}) for name, (kind, until) in steps.items()}


def test_by_kind_and_by_epochs() -> None:
    """A training of 10 epochs took 100 s, so one of 5 takes 50; prunes take 4 s; two workers share it."""
    done = {"a": record("train", 100.0, 10), "b": record("prune", 4.0)}
    steps = planned(c=("train", 5.0), d=("train", 10.0), e=("prune", 0.0))
    assert left(steps, steps, done, [running("c"), running("d")], NOW) == pytest.approx((50 + 100 + 4) / 2)
    # What runs has been done in part, and is never done by more than all.
    assert left(steps, steps, done, [running("c", since=30)], NOW) == pytest.approx(154 - 30)
    assert left(steps, steps, done, [running("c", since=900)], NOW) == 0.0


def test_without_a_plan_the_rest_is_like_what_was_seen() -> None:
    done = {"a": record("train", 90.0, 10), "b": record("prune", 10.0)}
    assert left(["c", "d", "e"], None, done, [running("c")], NOW) == pytest.approx(150)


def test_nothing_to_go_by() -> None:
    steps = planned(c=("train", 5.0))
    assert left(steps, steps, {"a": record("train", 9.0, 5)}, [], NOW) is None, "nobody works"
    assert left(steps, steps, {"b": record("prune", 4.0)}, [running("c")], NOW) is None, "no training was measured"
    assert left([], {}, {}, [], NOW) == 0.0


@pytest.mark.parametrize(
    ("engine", "claims", "workers"),
    [
        ("tuned", [running("a"), running("b"), running("c", "prune")], 3),
        ("stacked:8", [running(str(n)) for n in range(10)] + [running("c", "prune")], 3),
        ("graph:8", [running(f"{owner}{n}", owner=owner) for owner in "xy" for n in range(3)], 2),
    ],
)
def test_a_pack_is_one_workers_work(engine: str, claims: list[Claim], workers: int) -> None:
    assert at_once(claims, {"a": record("train", 9.0, 5, engine)}) == workers
