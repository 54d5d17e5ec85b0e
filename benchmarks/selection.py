"""The exact k-th largest of many scores: ticketlab's radix selection against torch.topk, in one run.

Work `20m`: 20 million float32 scores, k = 2%, at least 4.3 times as fast, at most 100 MB of extra memory.
Work `1b` (--large): 1 billion, at least 15 times, at most 200 MB; needs 24 GB of memory and some minutes.
Interleaved A B A B, medians of n pairs. Extra memory, in a process of its own, is the peak
resident set minus what was resident before the selection (Linux).

    python benchmarks/selection.py [--json] [--large] [--pairs 5]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from ticketlab.threshold import kth_largest

WORK = {
    "20m": {"size": 20_000_000, "at_least": 4.3, "megabytes": 100},
    "1b": {"size": 1_000_000_000, "at_least": 15.0, "megabytes": 200},
}
SHARE = 0.02


def scores(size: int) -> torch.Tensor:
    """Magnitudes of Gaussian weights, made in place so that no second copy raises the peak."""
    return torch.empty(size).normal_(generator=torch.Generator().manual_seed(0)).abs_()


def measure(work: str, pairs: int) -> dict[str, Any]:
    """One row: the ratio of medians, and whether both agree on the value."""
    values = scores(WORK[work]["size"])
    k = round(SHARE * len(values))
    kth_largest([values[:1_000_000]], 1000)
    theirs, ours = [], []
    for _ in range(pairs):
        started = time.perf_counter()
        wanted = float(torch.topk(values, k).values[-1])
        theirs.append(time.perf_counter() - started)
        started = time.perf_counter()
        found = kth_largest([values], k)
        ours.append(time.perf_counter() - started)
        if found != wanted:
            raise SystemExit(f"{work}: torch.topk gives {wanted}, kth_largest gives {found}")
    del values
    return {
        "work": work,
        "ratio": round(statistics.median(theirs) / statistics.median(ours), 2),
        "at_least": WORK[work]["at_least"],
        "n": pairs,
        "topk_ms": round(1e3 * statistics.median(theirs), 1),
        "ours_ms": round(1e3 * statistics.median(ours), 1),
        "extra_mb": extra_memory(work),
        "extra_mb_at_most": WORK[work]["megabytes"],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }


def extra_memory(work: str) -> float:
    """Megabytes by which the peak of a fresh process rises during one selection."""
    done = subprocess.run([sys.executable, __file__, "--memory", work], capture_output=True, text=True, check=True)
    return float(done.stdout)


def memory(work: str) -> None:
    """Print how far the peak of this process ends above the memory that it held before the selection."""
    kth_largest([torch.rand(1000)], 10)
    values = scores(WORK[work]["size"])
    # Making the scores may have needed more: start the high-water mark anew.
    Path("/proc/self/clear_refs").write_text("5")
    before = kilobytes("VmRSS")
    kth_largest([values], round(SHARE * len(values)))
    print(round((kilobytes("VmHWM") - before) / 1024, 1))


def kilobytes(field: str) -> int:
    """A line of /proc/self/status: VmRSS is resident now, VmHWM its peak (unlike getrusage's, of this program only)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", action="store_true")
    options.add_argument("--large", action="store_true")
    options.add_argument("--pairs", type=int, default=5)
    options.add_argument("--memory", choices=list(WORK), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.memory:
        memory(chosen.memory)
        return
    rows = [measure("20m", chosen.pairs)]
    if chosen.large:
        rows.append(measure("1b", 1))
    if chosen.json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        print(
            f"{row['work']}: {row['ratio']}x (at least {row['at_least']}x, n={row['n']}), "
            f"{row['ours_ms']} ms against {row['topk_ms']} ms, {row['extra_mb']} MB extra "
            f"(at most {row['extra_mb_at_most']})"
        )


if __name__ == "__main__":
    main()
