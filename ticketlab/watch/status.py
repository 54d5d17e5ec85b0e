"""How a study or a table stands at one moment, in plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ticketlab.experiment.claims import Claim


@dataclass(frozen=True)
class Finished:
    """A training that is finished.

    Attributes:
        accuracy: percent after the last epoch; None if the training diverged.
        seconds: how long it took; 0 where another one's result served.
        finished: seconds since 1970.
    """

    step: str
    label: str
    accuracy: float | None
    seconds: float
    finished: float


@dataclass(frozen=True)
class Failed:
    """A step that failed in the last run, and with what words."""

    step: str
    label: str
    kind: str
    error: str


@dataclass(frozen=True)
class Status:
    """How it stands. Times are seconds since 1970, durations seconds.

    Attributes:
        done, total: steps.
        blocked: steps that wait for one that failed.
        damaged: results that are not as they were written, and will be computed again.
        kinds: kind of step -> how many are done, and how many there will be if that is known.
        running: what is computed now; ``lost`` was, by a process that gives no sign of life any more.
        latest: the trainings that were finished last, latest first.
        seconds: computing time of all finished steps.
        left: until the end, if there is anything to go by.
        workers: processes that compute now.
        command: what starts or continues it, if that is written down.
        answer: what it says so far.
    """

    title: str
    at: float
    began: float | None
    done: int
    total: int
    blocked: int
    damaged: int
    kinds: dict[str, tuple[int, int | None]]
    running: tuple[Claim, ...]
    lost: tuple[Claim, ...]
    latest: tuple[Finished, ...]
    failed: tuple[Failed, ...]
    seconds: float
    left: float | None
    workers: int
    command: str
    answer: str

    @property
    def complete(self) -> bool:
        """Whether every step is finished."""
        return self.done >= self.total

    @property
    def over(self) -> bool:
        """Whether nothing more will come: all is finished, or all the rest waits for steps that failed."""
        return self.complete or (not self.running and self.done + self.blocked >= self.total)

    @property
    def idle(self) -> float:
        """Seconds since it began, or since the last training was finished."""
        return self.at - max([self.began or 0.0, *(found.finished for found in self.latest)])

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        kinds = {kind: {"done": done, "total": total} for kind, (done, total) in self.kinds.items()}
        return {**asdict(self), "kinds": kinds, "complete": self.complete}
