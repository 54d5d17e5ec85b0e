"""Files with something wrong, in place after place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ticketlab.ticket_file import METADATA, checksum, dumps


def cut_off(content: bytes) -> Iterator[bytes]:
    """The beginnings of a file, the longest of which lacks a byte; and the file with a byte more."""
    for length in [*range(0, len(content), 97), len(content) - 1]:
        yield content[:length]
    yield content + b"\0"


def flipped(content: bytes) -> Iterator[tuple[int, bytes]]:
    """One bit of every seventh byte the other way: where, and the file."""
    for at in range(0, len(content), 7):
        yield at, content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :]


def signed_again(path: Path, forge: Callable[[dict[str, Any], dict[str, Tensor]], Any]) -> None:
    """Change the header and the tensors of a ticket file, as someone would who knows how checksums are made."""
    with safe_open(str(path), framework="pt") as file:
        header = json.loads(file.metadata()[METADATA])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    del header["checksum"]
    forge(header, tensors)
    header["checksum"] = checksum(header, tensors)
    save_file(tensors, path, {METADATA: dumps(header)})
