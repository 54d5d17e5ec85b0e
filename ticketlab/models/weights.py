"""A model with weights from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from ticketlab import seeding
from ticketlab.errors import InputError
from ticketlab.models.registry import build
from ticketlab.ticket_file import is_ticket, load_ticket


def with_weights(model: str, classes: int, in_shape: tuple[int, ...], path: Path) -> nn.Module:
    """The model with the weights and buffers of a safetensors file, a state dict or a ticket.

    Raises:
        InputError: the file cannot be read, or its names, shapes or kinds of numbers are not the model's.
    """
    found = _read(path)
    with seeding.isolated(0, "shape"):
        built = build(model, classes, in_shape)
    mine = {name: value for name, value in built.state_dict().items() if isinstance(value, Tensor)}
    asked = f"asked to start {model!r} from the weights in {path}, got"
    if missing := [name for name in mine if name not in found]:
        raise InputError(f"{asked} a file without {_few(missing)}; it has {_few(list(found))}.")
    if extra := [name for name in found if name not in mine]:
        raise InputError(f"{asked} a file with {_few(extra)}, which the model lacks; it has {_few(list(mine))}.")
    for name, value in mine.items():
        if found[name].shape != value.shape:
            shapes = f"{tuple(found[name].shape)}; the model's is {tuple(value.shape)}"
            raise InputError(f"{asked} {name!r} of shape {shapes}.")
        if found[name].is_floating_point() != value.is_floating_point():
            raise InputError(f"{asked} {name!r} of type {found[name].dtype}; the model's is {value.dtype}.")
    # Not strict: a module's extra state, which is no tensor, stays as it was built.
    built.load_state_dict(dict(found), strict=False)
    return built


def _read(path: Path) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"asked for the weights in {path}, got no such file.")
    try:
        with safe_open(str(path), framework="pt") as file:
            if is_ticket(file.metadata()):
                return load_ticket(path).ticket.weights
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"asked for the weights in {path}, got a file that is no safetensors state dict: {error}."
        ) from error


def _few(names: Sequence[str], limit: int = 3) -> str:
    shown = ", ".join(map(repr, names[:limit])) or "nothing"
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")
