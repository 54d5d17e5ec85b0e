"""What is said about speed-ups, for measurements made up by hand."""

from __future__ import annotations

from typing import Any

from ticketlab.speed.words import NONE, sentences


def row(name: str, *turns: float, precision: str = "fp32", kind: str = "dense") -> dict[str, Any]:
    seconds = {"median": sorted(turns)[len(turns) // 2], "turns": list(turns)}
    return {"runner": name, "text": name.title(), "precision": precision, "kind": kind, "seconds": seconds}


def said(*rows: dict[str, Any], structure: str = "unstructured", limit: float = 1e-3, **changes: Any) -> list[str]:
    batch = {"batch": 64, "rows": list(rows), "limit": {"arithmetic_s": limit}}
    found = {"structure": structure, "machine": {"load_before": 0.1}, "how": {"device": "cpu"}, "batches": [batch]}
    return sentences({**found, **changes})


PLAIN = row("torch", 1.0, 1.1, 0.9)
SPARSE = {"kind": "sparse"}


def test_masks_gain_nothing_in_dense_engines() -> None:
    gpu, plain, _ = said(PLAIN, row("torch-unpruned", 1.02, 1.08, 0.9))
    assert gpu.startswith("Unstructured mask, on GPUs: no speed-up to expect") and "none was measured" in gpu
    assert "torch runs at 1.00 times its speed without the mask" in plain and plain.endswith(f"number: {NONE}.")


def test_a_sparse_runner_that_is_faster() -> None:
    found = said(PLAIN, row("fast", 0.8, 0.8, 0.8, precision="bf16"), row("ours", 0.5, 0.5, 0.5, **SPARSE))
    assert "Batch 64: Ours, runs at 2.00 times the speed of Torch (fp32)." in found
    assert "Batch 64: Ours, runs at 1.60 times the speed of Fast (bf16)." in found
    assert not any(NONE in sentence for sentence in found[1:])


def test_a_sparse_runner_that_gains_nothing() -> None:
    found = said(PLAIN, row("fast", 0.2, 0.2, 0.2, precision="bf16"), row("ours", 0.98, 1.08, 0.9, **SPARSE))
    assert f"Batch 64: Ours, runs at 1.02 times the speed of Torch (fp32): {NONE}." in found
    assert f"Batch 64: Ours, runs at 0.20 times the speed of Fast (bf16): {NONE}." in found


def test_a_speed_up_that_some_turns_do_not_show_is_open() -> None:
    found = said(PLAIN, row("ours", 0.5, 0.5, 1.2, **SPARSE))
    assert "Batch 64: Ours, runs at 2.00 times the speed of Torch (fp32) (turns: 0.75 to 2.20): open." in found


def test_a_limit_that_a_dense_engine_already_meets() -> None:
    fast = row("fast", 0.1, 0.1, 0.1, precision="bf16")
    assert said(PLAIN, fast, limit=0.2)[-1].endswith(
        f"0.5 times the speed of Fast (bf16), the fastest dense one here: {NONE}."
    )
    assert said(PLAIN, fast, limit=0.01)[-1].endswith("10 times the speed of Fast (bf16), the fastest dense one here.")


def test_structures_and_a_busy_machine() -> None:
    assert said(PLAIN, structure="none")[0] == f"Nothing is removed: {NONE}, anywhere."
    assert "smaller and faster in any engine" in said(PLAIN, structure="channels")[0]
    assert "NVIDIA" in said(PLAIN, structure="2:4")[0]
    assert "as these rows show" in said(PLAIN, how={"device": "cuda"})[0]
    assert "load 3.5" in said(PLAIN, machine={"load_before": 3.5})[1]
    assert not any("not idle" in sentence for sentence in said(PLAIN, machine={"load_before": None}))


def test_units_that_were_built_out() -> None:
    found = said(PLAIN, row("torch-removed", 0.5, 0.5, 0.5), structure="channels")
    assert "Batch 64: torch, built without the channels that change no answer, runs at 2.00 times its speed." in found
