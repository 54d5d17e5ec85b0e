"""What the ranks of a process group tell each other: texts, tensors, and that one of them failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ticketlab.errors import InputError

Result = TypeVar("Result")


def world() -> int:
    """The number of ranks; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's rank; 0 without a process group."""
    return dist.get_rank() if world() > 1 else 0


def exchange(step: str, text: str) -> list[str]:
    """Every rank's text, by rank.

    Args:
        step: what this is about. Ranks that are at different steps would wait for each other forever, or take one
            thing for another; here all of them raise.

    Raises:
        InputError: the ranks are at different steps.
    """
    if world() == 1:
        return [text]
    mine = _bytes_of(f"{step}\0{text}")
    lengths = [torch.zeros_like(_length(mine)) for _ in range(world())]
    dist.all_gather(lengths, _length(mine))
    longest = max(int(length) for length in lengths)
    padded = torch.zeros(longest, dtype=torch.uint8, device=mine.device)
    padded[: len(mine)] = mine
    found = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(found, padded)
    said = [_text_of(f[: int(n)]).split("\0", 1) for f, n in zip(found, lengths, strict=True)]
    other = next((r for r, (where, _) in enumerate(said) if where != said[0][0]), None)
    if other is not None:
        raise InputError(
            f"asked all {world()} ranks for the same calls in the same order, got {said[0][0]!r} on rank 0 and "
            f"{said[other][0]!r} on rank {other}."
        )
    return [words for _, words in said]


def together(step: str, work: Callable[[], Result]) -> Result:
    """What ``work`` returns on this rank; if it fails on any rank, all of them raise instead of waiting for that one.

    The work must not talk to other ranks.

    Raises:
        InputError: it failed on another rank. Where it failed, its own exception is raised.
    """
    if world() == 1:
        return work()
    result: list[Result] = []
    error: Exception | None = None
    try:
        result.append(work())
    except Exception as caught:
        error = caught
    said = exchange(step, "" if error is None else _words(error))
    if error is not None:
        raise error
    failed = {r: words for r, words in enumerate(said) if words}
    if failed:
        errors = "; ".join(f"rank {r}: {words}" for r, words in failed.items())
        raise InputError(f"asked all {world()} ranks for {step}, got an error on {errors}")
    return result[0]


def agree(step: str, mine: str) -> None:
    """Compare a text with that of rank 0; ranks that have none ("") are left out.

    Raises:
        InputError: on all ranks, if any differs; it names those that do.
    """
    said = exchange(step, mine)
    differ = [r for r, text in enumerate(said) if text and text != said[0]]
    if differ:
        others = ", ".join(map(str, differ))
        raise InputError(
            f"asked for the same {step} on all {world()} ranks, got others on rank {others} than on rank 0: "
            f"{_short(said[differ[0]])} against {_short(said[0])}."
        )


def broadcast_text(text: str | None, source: int) -> str:
    """The text of rank ``source``."""
    sent = _bytes_of(text or "")
    length = _length(sent)
    dist.broadcast(length, source)
    buffer = sent if rank() == source else torch.empty(int(length), dtype=torch.uint8, device=sent.device)
    if int(length):
        dist.broadcast(buffer, source)
    return _text_of(buffer)


def broadcast_bytes(content: Tensor | None, size: int, source: int) -> Tensor:
    """The ``size`` bytes of rank ``source``, as uint8 on the CPU."""
    if content is None or rank() != source:
        content = torch.empty(size, dtype=torch.uint8)
    moved = content.to(_device())
    if size:
        dist.broadcast(moved, source)
    return moved.cpu()


def _device() -> torch.device:
    """Where the group's messages must lie: NCCL takes none from the CPU."""
    if "cpu:" in dist.get_backend_config():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def _bytes_of(text: str) -> Tensor:
    content = bytearray(text.encode())
    found = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
    return found.to(_device())


def _text_of(content: Tensor) -> str:
    return content.cpu().numpy().tobytes().decode()


def _length(content: Tensor) -> Tensor:
    return torch.tensor([len(content)], dtype=torch.int64, device=content.device)


def _words(error: Exception) -> str:
    said = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
    return next((line for line in said.splitlines() if line.strip()), type(error).__name__)


def _short(text: str) -> str:
    return (text if len(text) <= 300 else f"{text[:300]}...") or "none"
