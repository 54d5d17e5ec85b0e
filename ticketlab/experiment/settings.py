"""Numerics and statistics of a study, decided when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ticketlab import stats
from ticketlab.engine.kinds import parse
from ticketlab.engine.precision import check_precision
from ticketlab.errors import InputError, unknown
from ticketlab.sparse.library import level
from ticketlab.sparse.revision import revision

USUAL_ENGINE = "tuned"
SPARSE = ("auto", "on", "off")


def numerics(device: str, precision: str = "fp32", engine: str = USUAL_ENGINE) -> dict[str, Any]:
    """What decides the last bits of every result: kept for the life of a study, the same for all of its workers.

    Raises:
        InputError: no such device, precision or engine, a device that lacks the precision, or no sparse kernels for
            an engine that needs them.
    """
    found = checked_device(device)
    check_precision(precision, found)
    parse(engine)
    return {
        "device": str(device),
        "precision": precision,
        "threads_per_ticket": 1,
        "engine": engine,
        "torch": str(torch.__version__),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        **(_gpu(found) if found.type == "cuda" else {}),
        # Named only where they decide anything: studies of other engines are what they were.
        **kernels(engine),
    }


# What scores and masks do not depend on.
OF_TRAINING = ("engine", "precision", "kernels", "kernels_level")


def kernels(engine: str) -> dict[str, str]:
    """What decides the last bits of an engine of native kernels; nothing for others.

    Raises:
        InputError: the kernels cannot be had.
    """
    return {"kernels": revision(), "kernels_level": level()} if engine == "sparse" else {}


def asked_engine(engine: str | None, sparse: str) -> str | None:
    """The engine that is asked for by name, or by ``sparse`` "on"; None leaves it open.

    Raises:
        InputError: ``sparse`` is none of "auto", "on" and "off", or says something else than ``engine``.
    """
    if sparse not in SPARSE:
        raise unknown("sparse training", sparse, SPARSE)
    if (sparse == "on" and engine not in (None, "sparse")) or (sparse == "off" and engine == "sparse"):
        raise InputError(f"asked for sparse training {sparse}, got engine {engine!r}: choose one of the two.")
    return "sparse" if sparse == "on" else engine


def checked_device(asked: str) -> torch.device:
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
    until_decided: bool = False,
    alpha: float,
    margin: str | None,
    multiplicity: str,
    family: str,
    test: str,
    test_size: int,
    chance: float,
) -> dict[str, Any]:
    """How verdicts will be reached. A margin that the test set cannot resolve is refused here, before any run."""
    looks, weights = stats.plan_looks(seeds, final=final, until_decided=until_decided)
    wanted = {
        "alpha": alpha,
        "margin": margin,
        "looks": list(looks),
        "weights": list(weights),
        "multiplicity": multiplicity,
        "family": family,
        "test": test,
        # Named only where it holds: studies that were written down before there was a choice are others.
        **({"until_decided": True} if until_decided else {}),
    }
    before_any_run(wanted, test_size, chance)
    return wanted


def before_any_run(wanted: Mapping[str, Any], test_size: int, chance: float) -> stats.Settings:
    """The settings with the widest margin that is possible: a share of what a perfect net would gain over chance."""
    margin = stats.resolve_margin(wanted["margin"], test_size, chance, [100.0])
    return judging(wanted, test_size, chance, margin)


def judging(
    wanted: Mapping[str, Any], test_size: int, chance: float, margin: float, dense: tuple[float, ...] | None = None
) -> stats.Settings:
    """The settings for verdicts from a study's plain ``statistics``; ``margin`` is resolved, in points."""
    return stats.Settings(
        test_size=test_size,
        chance=chance,
        dense=dense,
        margin=margin,
        looks=tuple(wanted["looks"]),
        weights=tuple(wanted["weights"]),
        **{name: wanted[name] for name in ("alpha", "multiplicity", "family", "test")},
    )
