"""Masks on disk: safetensors with one bit per weight, the shapes and the fingerprint in the header."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ticketlab.errors import InputError

FORMAT = "ticketlab-mask-1"
_MAX_WEIGHTS = 2**40


def pack(mask: Tensor) -> Tensor:
    """The mask's bits, eight a byte, most significant first; the last byte is padded with zeros."""
    return torch.from_numpy(np.packbits(mask.numpy().reshape(-1)))


def unpack(bits: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The inverse of ``pack``."""
    flat = np.unpackbits(bits.numpy(), count=math.prod(shape))
    return torch.from_numpy(flat.astype(np.bool_)).reshape(shape)


def save(tensors: Mapping[str, Tensor], fingerprint: Mapping[str, Any], path: Path) -> None:
    """Write packed masks; the file appears whole or not at all."""
    write_atomically(path, to_bytes(tensors, fingerprint))


def to_bytes(tensors: Mapping[str, Tensor], fingerprint: Mapping[str, Any]) -> bytes:
    """Packed masks as the bytes of a safetensors file."""
    from safetensors.torch import save

    header = {
        "format": FORMAT,
        "shapes": json.dumps([[name, list(t.shape)] for name, t in tensors.items()]),
        "fingerprint": json.dumps(dict(fingerprint), sort_keys=True),
    }
    return save({name: pack(t) for name, t in tensors.items()}, header)


def write_atomically(path: Path, content: bytes) -> None:
    """Write next to the target, then rename: a reader never sees half a file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            # A temporary file is for its owner only; the finished one has what any new file here would have.
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f"asked to write {path}, got {error.strerror or error}.") from error


def _umask() -> int:
    """The process's mask for new files; the system tells it only by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read packed masks and their fingerprint, believing nothing that the file says without checking it."""
    if not path.is_file():
        raise InputError(f"asked for the mask file {path}, got no such file.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"asked for a mask in {path}, got a file that cannot be read: {error}.") from error
    return from_bytes(content, str(path))


def from_bytes(content: bytes, where: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Packed masks and their fingerprint from the bytes of a file; ``where`` names it in messages."""
    from safetensors import SafetensorError
    from safetensors.torch import load as tensors_of

    try:
        header = _header(content)
        if header.get("format") != FORMAT:
            raise InputError(
                f"asked for a mask in {where}, got format {header.get('format')!r}; masks say {FORMAT!r}. "
                "Write one with Mask.save."
            )
        shapes = read_shapes(header.get("shapes", ""))
        fingerprint = json.loads(header.get("fingerprint", "{}"))
        if not isinstance(fingerprint, dict):
            raise ValueError("the fingerprint is not an object")
        bits = tensors_of(content)
        if set(bits) != set(shapes):
            raise ValueError("the tensors and the list of shapes differ")
        return {name: unpack_checked(name, bits[name], s) for name, s in shapes.items()}, fingerprint
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError, RecursionError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"asked for a mask in {where}, got a file that cannot be read: {error}.") from error


def _header(content: bytes) -> dict[str, str]:
    """The metadata of a safetensors file; ValueError if it has none that can be read."""
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 + size:
        raise ValueError("the file is shorter than its header says")
    found = json.loads(content[8 : 8 + size]).get("__metadata__", {})
    if not isinstance(found, dict):
        raise ValueError("the header holds no metadata")
    return found


def read_shapes(text: str) -> dict[str, tuple[int, ...]]:
    """The shapes of masks by name, from JSON; ValueError or TypeError where it is damaged."""
    entries = json.loads(text)
    shapes = {}
    for name, shape in entries:
        if not isinstance(name, str) or not all(type(n) is int and 0 <= n < _MAX_WEIGHTS for n in shape):
            raise ValueError("the list of shapes is damaged")
        shapes[name] = tuple(shape)
    if len(shapes) != len(entries):
        raise ValueError("a layer is listed twice")
    return shapes


def unpack_checked(name: str, bits: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``unpack`` after checking that these are the bits of such a shape; ValueError if not."""
    count = math.prod(shape)
    if bits.dtype != torch.uint8 or bits.shape != ((count + 7) // 8,):
        raise ValueError(f"{name!r} holds {tuple(bits.shape)} {bits.dtype}, but its shape {shape} needs {count} bits")
    padding = -count % 8
    if padding and int(bits[-1]) & ((1 << padding) - 1):
        raise ValueError(f"{name!r} has bits beyond its last weight")
    return unpack(bits, shape)
