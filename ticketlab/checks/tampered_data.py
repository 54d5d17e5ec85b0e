"""Checks of whether the data matter: the ticket is found on tampered data and trained on clean data.

Random labels, random pixels and both together ("corrupted", as Su et al. 2020 do it), and half of the data, cleanly
or as Su et al. do it. The tampering reaches the stages before the last training only; the test set is never touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ticketlab.checks import facts
from ticketlab.checks.check import Check, Control, Evidence, Fact
from ticketlab.data.variants import FIRST_HALF
from ticketlab.methods import Method
from ticketlab.program import Edit, Program, Train, last_training

Proof = Callable[[Mapping[str, Fact]], tuple[bool, str]]


def _control(proof: Proof) -> Callable[[Evidence], Control]:
    def control(evidence: Evidence) -> Control:
        passed, what = proof(evidence.data_facts)
        moved = facts.moved(evidence.original.mask, evidence.tampered.mask)
        equal = evidence.original.mask == evidence.tampered.mask
        same_start = facts.weights_equal(evidence.original, evidence.tampered)
        found = {**evidence.data_facts, "mask_moved": moved, "mask_equal": equal, "same_start_weights": same_start}
        mask = "the mask is the same" if equal else f"{facts.share(moved)} of the kept positions differ"
        if evidence.read_other_data is not None:
            found["found_on_other_data"] = evidence.read_other_data
            if not evidence.read_other_data:
                return Control(False, found, f"{what}, but the ticket was found on the same data all the same")
        if evidence.keeps_weights:
            # They were trained on the tampered data, and must be other ones.
            found["start_weights_trained_on_it"] = True
            start = (
                "; the start weights were trained on it and ARE THE SAME"
                if same_start
                else ("; the start weights were trained on it too")
            )
            return Control(passed and not same_start, found, f"{what}; {mask}{start}")
        start = "" if same_start else "; THE START WEIGHTS DIFFER"
        return Control(passed and same_start, found, f"{what}; {mask}{start}")

    return control


# A uniform draw over two classes leaves half of the labels, and a picture of few grey values leaves most of its pixels:
# far less than that is no tampering.
_LEAST_LABELS, _LEAST_PIXELS = 0.25, 0.05


def _number(found: Mapping[str, Fact], name: str) -> float:
    return float(found.get(name, 0.0))


def _labels(found: Mapping[str, Fact]) -> tuple[bool, str]:
    changed = _number(found, "labels_changed")
    return changed >= _LEAST_LABELS, f"{facts.share(changed)} of labels changed"


def _pixels(found: Mapping[str, Fact]) -> tuple[bool, str]:
    moved = _number(found, "pixels_moved")
    ok = moved >= _LEAST_PIXELS and bool(found.get("values_kept"))
    return ok, f"{facts.share(moved)} of pixels changed, each image's values kept"


def _both(found: Mapping[str, Fact]) -> tuple[bool, str]:
    (labels, one), (pixels, two) = _labels(found), _pixels(found)
    return labels and pixels, f"{one}, {two}"


def _half(found: Mapping[str, Fact]) -> tuple[bool, str]:
    kept, before = _number(found, "count_after"), _number(found, "count_before")
    intact = bool(found.get("labels_kept")) and bool(found.get("values_kept"))
    return intact and kept == max(1, before // 2), f"{facts.share(kept / max(1, before))} of images used"


def _first_half(found: Mapping[str, Fact]) -> tuple[bool, str]:
    kept, before = _number(found, "count_after"), _number(found, "count_before")
    intact = bool(found.get("labels_kept")) and bool(found.get("values_kept")) and bool(found.get("order_fixed"))
    what = f"the first {facts.share(kept / max(1, before))} of images, never shuffled"
    if not found.get("every_class"):
        return False, f"{what}, WITHOUT SOME CLASSES: the data are stored class by class"
    return intact and 0 < kept == _number(found, "count_of_half_the_batches"), what


def _check(name: str, belief: str, phrase: str, paper: str, proof: Proof) -> Check:
    return Check(name, Edit(data=name), belief, phrase, paper, _control(proof))


def _trains_first(method: Method, program: Program) -> str | None:
    if not any(isinstance(stage, Train) for stage in program[: last_training(program)]):
        return f"{method.name} trains nothing to find its ticket, so that there is no order to fix"
    return None


_SU = "Su et al., NeurIPS 2020"

RANDOM_LABELS = _check(
    "random-labels", "the labels matter when the ticket is found", "every label drawn at random", _SU, _labels
)
RANDOM_PIXELS = _check(
    "random-pixels",
    "the images matter when the ticket is found",
    "the pixels of each image permuted",
    _SU,
    _pixels,
)
CORRUPTED = _check(
    "corrupted",
    "the data matter when the ticket is found",
    "every label drawn at random and the pixels of each image permuted",
    _SU,
    _both,
)
HALF_DATA = _check(
    "half-data",
    "all of the data matter when the ticket is found",
    "a random half of the training images",
    "after Su et al., NeurIPS 2020, without their fixed order",
    _half,
)
HALF_DATA_SU2020 = replace(
    _check(
        FIRST_HALF,
        "all of the data, and their being shuffled, matter when the ticket is found",
        "the first half of the training batches, in the same order in every epoch",
        "Su et al., NeurIPS 2020, as coded: it stops the shuffling too",
        _first_half,
    ),
    applies=_trains_first,
)
