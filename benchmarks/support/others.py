"""Was the machine ours? Other programs on the cores make a loop with several threads many times slower."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_STAT = Path("/proc/stat")


class Others:
    """Counts from now on how much of the cores is used by processes that are not ours (Linux)."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._busy = _busy()

    def cores(self, ours: float) -> float | None:
        """Cores kept busy by others since the start, given our seconds of processor time; None where not known."""
        if not _STAT.exists():
            return None
        return max(0.0, _busy() - self._busy - ours) / (time.perf_counter() - self._began)


def used(processes: Sequence[int]) -> float:
    """Seconds of processor time that these processes have used so far, all threads together."""
    total = 0
    for process in processes:
        path = Path(f"/proc/{process}/stat")
        if path.exists():
            # The name, in brackets, may hold spaces; user and system time are fields 14 and 15.
            fields = path.read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def _busy() -> float:
    """Seconds that all cores together were busy since the start of the machine, or taken away by its host."""
    if not _STAT.exists():
        return 0.0
    user, nice, system, _idle, _iowait, irq, softirq, stolen = map(int, _STAT.read_text().split()[1:9])
    return (user + nice + system + irq + softirq + stolen) / _TICKS
