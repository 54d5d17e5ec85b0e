"""How long the rest takes: what finished steps took, and how many run at once."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ticketlab.experiment.claims import Claim
from ticketlab.experiment.step import Step

Records = Mapping[str, Mapping[str, Any]]


def at_once(live: Sequence[Claim], done: Records) -> int:
    """How many processes compute: the trainings of a pack are one process's work."""
    engines = (str(r["params"].get("numerics", {}).get("engine")) for r in done.values() if r["kind"] == "train")
    width = _width(next(engines, ""))
    packed = Counter(claim.owner for claim in live if claim.kind == "train")
    return sum(math.ceil(n / width) for n in packed.values()) + sum(claim.kind != "train" for claim in live)


def _width(engine: str) -> int:
    """How many tickets an engine trains side by side, by its name: "stacked:8"."""
    end = engine.rpartition(":")[2]
    return max(1, int(end)) if end.isdecimal() else 1


def left(
    todo: Iterable[str], planned: Mapping[str, Step] | None, done: Records, live: Sequence[Claim], now: float
) -> float | None:
    """Seconds until all is finished, or None while there is nothing to go by.

    Args:
        todo: the ids of the steps that are missing.
        planned: what they are; None if that is not known: then the rest is taken to be like what was seen.
        live: what runs now.
        now: seconds since 1970.
    """
    missing, workers = list(todo), at_once(live, done)
    if not missing:
        return 0.0
    if not workers or not any(r["kind"] == "train" for r in done.values()):
        # Trainings are what takes long: before the first one is finished, nothing can be said.
        return None
    work: dict[str, float] = defaultdict(float)
    seconds: dict[str, float] = defaultdict(float)
    for record in done.values():
        work[record["kind"]] += _work(record["kind"], record["params"])
        seconds[record["kind"]] += float(record["seconds"])
    if planned is None:
        expected = len(missing) * sum(seconds.values()) / len(done)
    else:
        steps = [planned[step_id] for step_id in missing]
        expected = sum(_work(s.kind, s.params) * seconds[s.kind] / work[s.kind] for s in steps if work[s.kind])
    share = max(1.0, len(live) / workers)
    under_way = sum(max(0.0, now - claim.began) / share for claim in live)
    return max(0.0, expected - under_way) / workers


def _work(kind: str, params: Mapping[str, Any]) -> float:
    """A measure of a step's work by which those of one kind can be compared: the epochs of a training."""
    # A training of no epochs is an evaluation.
    return max(0.1, float(params["until"]) - float(params["start"])) if kind == "train" else 1.0
