"""Files with something wrong, in place after place."""

from __future__ import annotations

from collections.abc import Iterator


def cut_off(content: bytes) -> Iterator[bytes]:
    """The beginnings of a file, the longest of which lacks a byte; and the file with a byte more."""
    for length in [*range(0, len(content), 97), len(content) - 1]:
        yield content[:length]
    yield content + b"\0"


def flipped(content: bytes) -> Iterator[tuple[int, bytes]]:
    """One bit of every seventh byte the other way: where, and the file."""
    for at in range(0, len(content), 7):
        yield at, content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :]
