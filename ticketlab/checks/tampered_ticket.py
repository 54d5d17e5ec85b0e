"""Checks of the ticket itself: where its weights sit, and which values they start from."""

from __future__ import annotations

from ticketlab.checks import facts
from ticketlab.checks.check import Check, Control, Evidence
from ticketlab.methods import Method
from ticketlab.program import Edit, Program, Train, keeps_weights, last_training


def _rearranged(evidence: Evidence) -> Control:
    a, b = evidence.original, evidence.tampered
    moved, counts = facts.moved(a.mask, b.mask), facts.counts_equal(a.mask, b.mask)
    start = facts.weights_equal(a, b)
    found = {"positions_moved": moved, "counts_per_layer_equal": counts, "same_start_weights": start}
    text = f"{facts.share(moved)} of kept positions moved; per-layer counts {_unchanged(counts)}"
    return Control(moved > 0 and counts and start, found, text)


def _shuffled(evidence: Evidence) -> Control:
    a, b = evidence.original, evidence.tampered
    same_mask = a.mask == b.mask
    changed = facts.values_changed(a, b) if same_mask else 1.0
    multiset = same_mask and facts.multisets_equal(a, b)
    others = facts.others_equal(a, b)
    found = {"values_changed": changed, "mask_equal": same_mask, "values_per_layer_kept": multiset}
    text = f"{facts.share(changed)} of kept weights hold another value; mask {_unchanged(same_mask)}, " + (
        "each layer's values the same ones" if multiset else "values changed"
    )
    return Control(changed > 0 and same_mask and multiset and others, {**found, "others_equal": others}, text)


def _redrawn(evidence: Evidence) -> Control:
    a, b = evidence.original, evidence.tampered
    same_mask = a.mask == b.mask
    changed = facts.values_changed(a, b) if same_mask else 1.0
    found = {"values_changed": changed, "mask_equal": same_mask}
    text = f"{facts.share(changed)} of kept weights start from another draw; mask {_unchanged(same_mask)}"
    return Control(changed >= 0.5 and same_mask, found, text)


def _inverted(evidence: Evidence) -> Control:
    a, b = evidence.original, evidence.tampered
    moved, total = facts.moved(a.mask, b.mask), a.mask.kept == b.mask.kept
    found = {"positions_moved": moved, "kept_equal": total, "same_start_weights": facts.weights_equal(a, b)}
    text = f"{facts.share(moved)} of kept positions differ; the number kept {_unchanged(total)}"
    return Control(moved > 0 and total, found, text)


def _versus(evidence: Evidence) -> Control:
    a, b = evidence.original, evidence.tampered
    moved, total = facts.moved(a.mask, b.mask), a.mask.kept == b.mask.kept
    found = {"positions_moved": moved, "kept_equal": total, "overlap": a.mask.overlap(b.mask)}
    text = f"{facts.share(moved)} of kept positions differ; the number kept {_unchanged(total)}"
    return Control(total, found, text)


def _unchanged(same: bool) -> str:
    return "unchanged" if same else "CHANGED"


def _ranks_positions(method: Method, program: Program) -> str | None:
    if method.select == "random":
        return f"{method.name} draws its positions at random already"
    if method.uniform:
        return f"{method.name} draws its positions at random already, with these options"
    return None


def _can_move(method: Method, program: Program) -> str | None:
    trainings = sum(isinstance(stage, Train) for stage in program[: last_training(program)])
    if keeps_weights(program) and trainings > 1:
        return (
            f"{method.name} leaves zeros where it removed weights in earlier rounds: a weight moved there has no value"
        )
    return _ranks_positions(method, program)


def _reads_start_values(method: Method, program: Program) -> str | None:
    if not method.reads_weights and not method.reads_data:
        return f"{method.name} never looks at the weights: another draw is just another seed"
    return None


_SU, _FRANKLE = "Su et al., NeurIPS 2020", "Frankle et al., ICLR 2021"

REARRANGE = Check(
    "rearrange",
    Edit(transform="rearrange"),
    "which positions are kept inside each layer matters",
    "kept positions redrawn at random within each layer",
    _SU,
    _rearranged,
    _can_move,
)
WEIGHT_SHUFFLE = Check(
    "weight-shuffle",
    Edit(transform="weight-shuffle"),
    "which kept weight has which start value matters",
    "the kept start values permuted within each layer",
    _SU,
    _shuffled,
    _reads_start_values,
)
REINIT = Check(
    "reinit",
    Edit(transform="reinit"),
    "the start values that the mask was found for matter",
    "the same mask on freshly drawn weights",
    _FRANKLE,
    _redrawn,
    _reads_start_values,
)
INVERT = Check(
    "invert",
    Edit(invert=True),
    "high scores are better than low ones (the positive control)",
    "low scores preferred to high ones",
    _FRANKLE,
    _inverted,
    _ranks_positions,
)


def versus(other: str) -> Check:
    """The method against another one at the same sparsity, seeds and recipe."""
    return Check(
        f"versus:{other}",
        Edit(),
        f"the method beats {other}",
        f"the ticket of {other} instead",
        _SU,
        _versus,
        lambda method, program: None,
        versus=other,
    )
