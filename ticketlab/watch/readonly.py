"""A store that is only looked at: what is damaged stays where it is, for whoever computes it again."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from ticketlab.experiment.store import LookingStore


class ReadOnly(LookingStore):
    """A store as it was at the last ``look``. Nothing in it is ever written, moved or removed.

    Records of finished steps never change: each is read once, and all are kept, without their histories, which may be
    long.
    """

    def __init__(self, place: Path | str) -> None:
        super().__init__(place)
        self._there: set[str] = set()
        self._seen: dict[str, dict[str, Any]] = {}

    def look(self) -> None:
        """See which steps are there by now: one listing, however many are missing.

        Raises:
            OSError: the store cannot be reached.
        """
        self._there = set(self.ids())
        gone = [i for i, record in self._seen.items() if not {i, record.get("linked", i)} <= self._there]
        for step_id in gone:
            del self._seen[step_id]

    def __contains__(self, step_id: object) -> bool:
        return isinstance(step_id, str) and self._record(step_id) is not None

    def damaged(self, step_id: str) -> bool:
        """Whether there is something of a step that is no whole result."""
        return step_id in self._there and step_id not in self

    def _record(self, step_id: str) -> dict[str, Any] | None:
        if step_id in self._there and step_id not in self._seen:
            # A chain of shared results that never ends is no result.
            with suppress(RecursionError):
                record = self.peek(step_id)
                if record is not None and ("linked" not in record or record["linked"] in self):
                    record["facts"].pop("history", None)
                    self._seen[step_id] = record
        return self._seen.get(step_id)
