"""What the measurements say about speed-ups, in sentences; where none is to be expected, exactly that."""

from __future__ import annotations

from typing import Any

from ticketlab.speed.turns import Times

NONE = "no speed-up to expect"
# A turn's median moves by a few percent by itself.
_EQUAL = 1.05
# The load average of the last minute below which nothing else of weight is running.
_QUIET = 0.3


def sentences(found: dict[str, Any]) -> list[str]:
    """For the whole document of ``measure.document``."""
    said = [_gpu(found["structure"], found["how"]["device"])]
    load = found["machine"]["load_before"]
    if load is not None and load > _QUIET:
        said.append(f"The machine was not idle before (load {load:g}): what else ran may have disturbed these figures.")
    for batch in found["batches"]:
        said += _batch(batch, found["structure"])
    return said


def _gpu(structure: str, device: str) -> str:
    seen = "as these rows show" if device != "cpu" else "none was measured here"
    return {
        "none": f"Nothing is removed: {NONE}, anywhere.",
        "channels": "Whole units are removed: a network built without them is smaller and faster in any engine, on "
        f"GPUs too; as zeros in the same network they gain nothing ({NONE}).",
        "2:4": "Two of every four weights are removed: NVIDIA GPUs since Ampere have units for that in fp16 and bf16, "
        "which large matrix products need to gain from; CPUs do not.",
        "unstructured": f"Unstructured mask, on GPUs: {NONE}. Dense engines multiply its zeros there too; {seen}.",
    }[structure]


def _batch(batch: dict[str, Any], structure: str) -> list[str]:
    rows = {row["runner"]: row for row in batch["rows"]}
    dense = [row for row in rows.values() if row["kind"] == "dense"]
    head = f"Batch {batch['batch']}:"
    said = []
    plain, unpruned = rows.get("torch"), rows.get("torch-unpruned")
    if plain and unpruned and structure != "none":
        ratio, end = _compared(plain, unpruned)
        said.append(
            f"{head} torch runs at {ratio} times its speed without the mask, zeros multiplied like any number{end}"
        )
    if plain and (removed := rows.get("torch-removed")):
        ratio, end = _compared(removed, plain)
        said.append(
            f"{head} torch, built without the channels that change no answer, runs at {ratio} times its speed{end}"
        )
    if not dense:
        return said
    best = min(dense, key=_median)
    best32 = min((row for row in dense if row["precision"] == "fp32"), key=_median, default=best)
    for row in rows.values():
        if row["kind"] == "sparse":
            for rival in [best32, *([best] if best is not best32 else [])]:
                ratio, end = _compared(row, rival)
                said.append(f"{head} {row['text']}, runs at {ratio} times the speed of {_called(rival)}{end}")
    at_most = _median(best) / batch["limit"]["arithmetic_s"]
    said.append(
        f"{head} an fp32 engine that did nothing but the kept arithmetic, at this machine's peak, would run at "
        f"{at_most:.3g} times the speed of {_called(best)}, the fastest dense one here"
        + ("." if at_most > _EQUAL else f": {NONE}.")
    )
    return said


def _compared(row: dict[str, Any], rival: dict[str, Any]) -> tuple[str, str]:
    """How many times as fast, the median over turns side by side, and the end of a sentence about it."""
    ratios = Times(tuple(row["seconds"]["turns"])).ratios(Times(tuple(rival["seconds"]["turns"])))
    if ratios.median <= _EQUAL:
        return f"{ratios.median:.2f}", f": {NONE}."
    # A speed-up that some turns do not show is none that can be relied on.
    return f"{ratios.median:.2f}", "." if ratios.low > 1 else f" (turns: {ratios.low:.2f} to {ratios.high:.2f}): open."


def _called(row: dict[str, Any]) -> str:
    return f"{row['text']} ({row['precision']})"


def _median(row: dict[str, Any]) -> float:
    return float(row["seconds"]["median"])
