"""The C library's memory: kept for the next step instead of being given back to the system after every one."""

from __future__ import annotations

import ctypes
import sys

# Parameters of glibc's mallopt, and the largest values that it takes.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MOST = 2**31 - 1
_LARGEST_MAPPING = 32 * 2**20


def keep_freed_memory() -> bool:
    """Let this process keep up to 2 GB that it frees; whether the C library can do that.

    A training step frees and takes the same tensors again. By default glibc returns them to the system in between, and
    the system clears every page anew. For processes of our own only: a library has no say in how its user's process
    holds memory.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _MOST)) and bool(mallopt(_MMAP_THRESHOLD, _LARGEST_MAPPING))
