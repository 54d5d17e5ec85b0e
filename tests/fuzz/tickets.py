"""Masks, tickets, weights and checkpoints: safetensors files with more inside."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from hypothesis import strategies as st
from safetensors.torch import load, save

from ticketlab import ticket_file
from ticketlab.engine import checkpoint
from ticketlab.engine.engine import State
from ticketlab.engine.loop import Checkpoint, Progress
from ticketlab.mask import Mask
from ticketlab.models.weights import with_weights
from ticketlab.program import Ticket
from ticketlab.ticket_file import load_ticket, save_ticket

from . import safetensors_files
from .damage import altered, as_json, in_bytes, plain
from .reader import Reader, file
from .safetensors_files import steady

NAME = "x.safetensors"


def _mask() -> Mask:
    kept = {"a.weight": torch.arange(15).reshape(3, 5) % 2 == 0, "b.weight": torch.ones(2, 2, 2, dtype=torch.bool)}
    return Mask(kept, {"method": "snip", "options": {"mode": "train"}, "seed": 1, "sparsity": 0.5})


@functools.cache
def _mask_file() -> bytes:
    return steady(_mask().to_bytes())


def _read_mask(folder: Path) -> None:
    mask = Mask.load(folder / NAME)
    assert 0 <= mask.sparsity <= 1 and mask.overlap(mask) <= 1 and len(mask.digest()) == 64 and repr(mask)
    assert all(kept.dtype == torch.bool for kept in mask.values())
    assert Mask.from_bytes(mask.to_bytes()) == mask


@functools.cache
def _ticket_file() -> bytes:
    weights = {n: torch.rand(kept.shape) for n, kept in _mask().items()} | {"norm.count": torch.tensor(3)}
    with TemporaryDirectory() as folder:
        save_ticket(
            Path(folder) / "t", Ticket(_mask(), weights, 3.0), {"accuracy": 90.5, "method": "snip", "layers": [1]}
        )
        return steady((Path(folder) / "t").read_bytes())


@st.composite
def _consistent_ticket(draw: st.DrawFn) -> bytes:
    """By someone who knows how the checksum is made."""
    header, _ = safetensors_files.parts(_ticket_file())
    said = json.loads(header["__metadata__"]["ticketlab"])
    said.pop("checksum")
    lie = plain(draw(altered(said, most=2)))
    tensors = load(_ticket_file())
    for name in sorted(tensors):
        if draw(st.integers(0, 9)) == 0:
            tensors[name] = draw(st.sampled_from(_tensors()))
        elif draw(st.integers(0, 19)) == 0:
            del tensors[name]
    return signed(lie, tensors)


def signed(lie: Any, tensors: dict[str, torch.Tensor]) -> bytes:
    """A ticket's file whose checksum is right, whatever it says; without one where none can be made."""
    if isinstance(lie, dict):
        try:
            lie["checksum"] = ticket_file.checksum(lie, tensors)
            return save(tensors, {"ticketlab": ticket_file.dumps(lie)})
        except (ValueError, RecursionError):
            pass
    return save(tensors, {"ticketlab": json.dumps(lie)})


def _tensors() -> list[torch.Tensor]:
    kinds = (torch.bool, torch.int64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.complex64, torch.uint16)
    return [torch.zeros(0), torch.tensor(1.0), torch.full((2,), torch.nan), *(torch.zeros(2, 3).to(k) for k in kinds)]


def read_ticket(folder: Path) -> None:
    """What is read is a ticket."""
    found = load_ticket(folder / NAME)
    json.dumps(found.facts, allow_nan=False)
    assert len(found.ticket.mask.digest()) == 64 and set(found.ticket.mask) <= set(found.ticket.weights)


@functools.cache
def _weights_file() -> bytes:
    from ticketlab.models.registry import build

    torch.manual_seed(0)
    return steady(save({n: t.contiguous() for n, t in build("conv", 3, (1, 4, 4)).state_dict().items()}))


def _read_weights(folder: Path) -> None:
    model = with_weights("conv", 3, (1, 4, 4), folder / NAME)
    assert not any(p.is_complex() for p in model.parameters())


_KEY = "a training"


@functools.cache
def _checkpoint_file() -> bytes:
    weights = {"a.weight": torch.rand(3, 5), "a.bias": torch.zeros(3)}
    momentum = {name: torch.ones_like(t) for name, t in weights.items()}
    history = [{"epoch": 1, "accuracy": 90.0, "loss": 0.5}]
    progress = Progress(7, [0.5, float("nan")], history, torch.tensor([True, False]), None)
    with TemporaryDirectory() as folder:
        checkpoint.save(Checkpoint(State(weights, momentum), progress), _KEY, Path(folder) / "c")
        return steady((Path(folder) / "c").read_bytes())


@st.composite
def _consistent_checkpoint(draw: st.DrawFn) -> bytes:
    """By someone who knows how the digest is made."""
    header, _ = safetensors_files.parts(_checkpoint_file())
    tensors = load(_checkpoint_file())
    for name in sorted(tensors):
        if draw(st.integers(0, 9)) == 0:
            tensors[name if draw(st.booleans()) else draw(st.sampled_from(["x", "x/y", "/", ""]))] = draw(
                st.sampled_from(_tensors())
            )
    facts = in_bytes(as_json(draw(altered(json.loads(header["__metadata__"]["facts"]), most=2)))).decode(
        errors="replace"
    )
    said = {
        "format": checkpoint.FORMAT,
        "key": _KEY,
        "facts": facts,
        "digest": checkpoint._digest(_KEY, facts, tensors),
    }
    return save({n: t.clone() for n, t in tensors.items()}, said)


def _read_checkpoint(folder: Path) -> bool:
    found = checkpoint.load(_KEY, folder / NAME)
    if found is None:
        return False
    progress: Any = found.progress
    assert type(progress.step) is int and progress.step >= 0
    assert type(progress.losses) is list and all(type(x) is float for x in progress.losses)
    assert type(progress.history) is list and all(type(row) is dict for row in progress.history)
    assert progress.diverged_step is None or type(progress.diverged_step) is int
    assert progress.correct is None or progress.correct.dtype == torch.bool
    return True


READERS = [
    Reader("mask", _mask_file, lambda: safetensors_files.any_of(_mask_file()), file(NAME), _read_mask, 25),
    Reader(
        "ticket",
        _ticket_file,
        lambda: st.one_of(safetensors_files.any_of(_ticket_file()), _consistent_ticket()),
        file(NAME),
        read_ticket,
        12,
    ),
    Reader(
        "weights",
        _weights_file,
        lambda: st.one_of(safetensors_files.any_of(_weights_file()), safetensors_files.any_of(_ticket_file())),
        file(NAME),
        _read_weights,
        4,
    ),
    Reader(
        "checkpoint",
        _checkpoint_file,
        lambda: st.one_of(safetensors_files.any_of(_checkpoint_file()), _consistent_checkpoint()),
        file(NAME),
        _read_checkpoint,
        8,
    ),
]
