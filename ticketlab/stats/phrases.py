"""What each check does, in words."""

from __future__ import annotations

from typing import NamedTuple

VERSUS = "versus:"


class Phrase(NamedTuple):
    """`act`: the subject of "... costs 1.7 points"; `tickets`: of "... are better"; `need`: of "depends on ..."."""

    act: str
    tickets: str
    need: str


PHRASES = {
    "corrupted": Phrase(
        "Pruning on corrupted data", "Tickets pruned on corrupted data", "the information in its pruning data"
    ),
    "random-labels": Phrase("Pruning on random labels", "Tickets pruned on random labels", "the labels"),
    "random-pixels": Phrase("Pruning on shuffled pixels", "Tickets pruned on shuffled pixels", "the pixels' order"),
    "half-data": Phrase(
        "Pruning on half of the data", "Tickets pruned on half of the data", "the other half of its pruning data"
    ),
    "half-data-su2020": Phrase(
        "Pruning on the unshuffled first half of the data",
        "Tickets pruned on the unshuffled first half of the data",
        "the other half of its pruning data or on their order",
    ),
    "rearrange": Phrase("Rearranging", "Rearranged tickets", "where its weights sit"),
    "weight-shuffle": Phrase(
        "Shuffling the weights", "Tickets with shuffled weights", "which kept weight has which value"
    ),
    "reinit": Phrase("Reinitialising", "Reinitialised tickets", "its initial weights"),
    "invert": Phrase("Inverting the scores", "Tickets with inverted scores", "the ranking of its scores"),
}


def phrase(check: str) -> Phrase:
    """The words for a check; unknown checks go by their name."""
    known = PHRASES.get(check)
    return known or Phrase(f"The check {check!r}", f"Tickets under the check {check!r}", f"what {check!r} changes")


def rival(check: str) -> str:
    """The other method of a check "versus:NAME"; empty for other checks."""
    return check.removeprefix(VERSUS) if check.startswith(VERSUS) else ""
