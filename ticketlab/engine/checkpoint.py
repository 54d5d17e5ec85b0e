"""A training that was stopped goes on: checkpoints on disk, one file a ticket."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ticketlab.contents import tensors_digest
from ticketlab.engine.engine import State
from ticketlab.engine.loop import Checkpoint, Progress
from ticketlab.packing import write_atomically

FORMAT = "ticketlab-checkpoint-1"


def save(checkpoint: Checkpoint, key: str, path: Path) -> None:
    """Write a checkpoint; the file appears whole or not at all. ``key`` names the training that it belongs to."""
    from safetensors.torch import save as to_bytes

    progress = checkpoint.progress
    tensors = {f"weights/{n}": t for n, t in checkpoint.state.weights.items()}
    tensors |= {f"momentum/{n}": t for n, t in checkpoint.state.momentum.items()}
    if progress.correct is not None:
        tensors["correct"] = progress.correct
    facts = {
        "step": progress.step,
        # As text: JSON has no NaN, and a float's repr is read back bit-equal.
        "losses": [repr(loss) for loss in progress.losses],
        "history": progress.history,
        "diverged_step": progress.diverged_step,
    }
    written = json.dumps(facts)
    header = {"format": FORMAT, "key": key, "facts": written, "digest": _digest(key, written, tensors)}
    write_atomically(path, to_bytes({n: t.contiguous() for n, t in tensors.items()}, header))


def load(key: str, path: Path) -> Checkpoint | None:
    """The checkpoint of that training, or None: there is none, it is another's, or it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
        if (header["format"], header["key"]) != (FORMAT, key):
            return None
        if header["digest"] != _digest(key, header["facts"], tensors):
            return None
        return _checkpoint(json.loads(header["facts"]), tensors)
    except (SafetensorError, KeyError, ValueError, TypeError, OverflowError, OSError, RecursionError):
        # A training that starts again loses time, never a result.
        return None


def _digest(key: str, facts: str, tensors: dict[str, Tensor]) -> str:
    said = torch.tensor(list(f"{key}\n{facts}".encode()), dtype=torch.uint8)
    return tensors_digest({**tensors, "\0facts": said})


def _checkpoint(facts: dict[str, Any], tensors: dict[str, Tensor]) -> Checkpoint:
    groups: dict[str, dict[str, Tensor]] = {"weights": {}, "momentum": {}}
    for name, tensor in tensors.items():
        group, slash, inner = name.partition("/")
        if slash:
            groups[group][inner] = tensor
    losses = [float(loss) for loss in facts["losses"]]
    progress = Progress(facts["step"], losses, facts["history"], tensors.get("correct"), facts["diverged_step"])
    # A digest says that nothing changed since, not that a training wrote it.
    if not (
        _is_step(progress.step)
        and (progress.diverged_step is None or _is_step(progress.diverged_step))
        and isinstance(progress.history, list)
        and all(isinstance(row, dict) for row in progress.history)
        and (progress.correct is None or (progress.correct.dtype == torch.bool and progress.correct.ndim == 1))
    ):
        raise ValueError("no training writes such facts")
    return Checkpoint(State(groups["weights"], groups["momentum"]), progress)


def _is_step(value: Any) -> bool:
    return type(value) is int and value >= 0
