"""Numerics and statistics of a study, decided when it is made."""

from __future__ import annotations

from typing import Any

import torch

from ticketlab import stats
from ticketlab.errors import InputError


def numerics(device: str) -> dict[str, Any]:
    """What decides the last bits of every result: kept for the life of a study, the same for all of its workers."""
    found = _device(device)
    return {
        "device": str(device),
        "precision": "fp32",
        "threads_per_ticket": 1,
        "engine": "plain",
        "torch": torch.__version__,
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        **(_gpu(found) if found.type == "cuda" else {}),
    }


def _device(asked: str) -> torch.device:
    """The device, after trying it out."""
    refused = f"asked for device {str(asked)!r}, got"
    use = "Use --device cpu, cuda or cuda:N."
    try:
        device = torch.device(asked)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"{refused} no such device. {use}") from error
    if device.type not in ("cpu", "cuda") or (device.type == "cpu" and device.index):
        raise InputError(f"{refused} a device that studies do not run on. {use}")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise InputError(f"{refused} a machine or a torch without CUDA. Use --device cpu.")
        count = torch.cuda.device_count()
        if device.index is not None and device.index >= count:
            raise InputError(f"{refused} a machine with {count} (cuda:0 to cuda:{count - 1}). {use}")
    try:
        torch.ones(1, device=device).sum().item()
    except RuntimeError as error:
        raise InputError(f"{refused} a device that fails: {str(error).splitlines()[0]} Use --device cpu.") from error
    return device


def _gpu(device: torch.device) -> dict[str, Any]:
    """What decides the last bits on a GPU beside the version of torch."""
    return {"gpu": torch.cuda.get_device_name(device), "cudnn": torch.backends.cudnn.version()}


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
