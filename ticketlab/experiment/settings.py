"""Numerics and statistics of a study, decided when it is made."""

from __future__ import annotations

from typing import Any

import torch

from ticketlab import stats
from ticketlab.errors import InputError


def numerics(device: str) -> dict[str, Any]:
    """What decides the last bits of every result: kept for the life of a study, the same for all of its workers."""
    if device.split(":")[0] == "cuda" and not torch.cuda.is_available():
        raise InputError(f"asked for device {device!r}, got a machine or a torch without CUDA. Use --device cpu.")
    return {
        "device": device,
        "precision": "fp32",
        "threads_per_ticket": 1,
        "engine": "plain",
        "torch": torch.__version__,
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
    }


def statistics(
    *,
    seeds: int,
    final: bool,
    alpha: float,
    margin: str | None,
    multiplicity: str,
    family: str,
    test: str,
    test_size: int,
    chance: float,
) -> dict[str, Any]:
    """How verdicts will be reached. A margin that the test set cannot resolve is refused here, before any run."""
    looks, weights = stats.plan_looks(seeds, final=final)
    # The best that a dense net can do bounds a margin given as a share of what it gains over chance.
    bound = stats.resolve_margin(margin, test_size, chance, [100.0])
    stats.Settings(
        test_size=test_size,
        chance=chance,
        dense=None,
        margin=bound,
        alpha=alpha,
        looks=looks,
        weights=weights,
        multiplicity=multiplicity,  # type: ignore[arg-type]
        family=family,  # type: ignore[arg-type]
        test=test,  # type: ignore[arg-type]
    )
    return {
        "alpha": alpha,
        "margin": margin,
        "looks": list(looks),
        "weights": list(weights),
        "multiplicity": multiplicity,
        "family": family,
        "test": test,
    }
