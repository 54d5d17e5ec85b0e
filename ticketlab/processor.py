"""The processor's model, for provenance, and because it decides what is fast."""

from __future__ import annotations

import platform
from contextlib import suppress
from pathlib import Path


def processor() -> str:
    """As the system names it; where it does not, the kind of machine."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
