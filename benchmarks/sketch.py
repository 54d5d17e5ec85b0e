"""Sketching: many masks at once, and weighted draws from very many weights, side by side with the plain ways.

Work `masks`: the squared error of 10^6 sampled masks of d = 1,000, s = 100 draws, n = 16 rows, by `measured_error`;
against a Python loop that draws, counts, rescales and multiplies one mask after the other (timed on `--loop` of them
and scaled up). At least 20 times as fast. The two means must agree within 5 standard errors.
Work `draw`: 10^8 coordinates, 10% of them drawn in proportion to float32 scores without replacement, by
`select.sampled`; against `torch.topk` of the same scores and the same number. At most 3 times the time, and at most
twice the extra memory (the peak of a process of its own above what it held before; Linux). Needs 6 GB.
Interleaved A B A B, medians of n pairs.

    python benchmarks/sketch.py [--json] [--pairs 3] [--loop 20000] [--size 100000000]
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
from torch import Tensor

from ticketlab import select, sketch

MASKS, WEIGHTS, ROWS, DRAWS = 1_000_000, 1_000, 16, 100
SHARE = 0.1


def many_masks(pairs: int, loop: int) -> dict[str, Any]:
    """Errors of many masks: a Python loop over them, and all at once."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(ROWS, WEIGHTS, generator=generator, dtype=torch.float64)
    w = torch.randn(WEIGHTS, generator=generator, dtype=torch.float64)
    p = sketch.probabilities(X, w, "optimal")
    sketch.measured_error(X, w, p, DRAWS, 1000, generator)
    theirs, ours = [], []
    for _ in range(pairs):
        started = time.perf_counter()
        errors = one_by_one(X, w, p, loop, generator)
        theirs.append((time.perf_counter() - started) * MASKS / loop)
        started = time.perf_counter()
        found = sketch.measured_error(X, w, p, DRAWS, MASKS, generator)
        ours.append(time.perf_counter() - started)
        off = abs(found.mean - float(errors.mean()))
        exact = float(sketch.expected_error(X, w, p, DRAWS))
        spread = (float(errors.var()) / loop + found.standard_error**2) ** 0.5
        if off > 5 * spread or abs(found.mean - exact) > 5 * found.standard_error:
            raise SystemExit(f"masks: the loop gives {float(errors.mean())}, measured_error {found}, formula {exact}")
    return row("masks", theirs, ours, pairs, at_least=20.0, masks=MASKS, loop_masks=loop)


def one_by_one(X: Tensor, w: Tensor, p: Tensor, masks: int, generator: torch.Generator) -> Tensor:
    """What one would write down first."""
    target, errors = X @ w, []
    for _ in range(masks):
        drawn = torch.multinomial(p, DRAWS, replacement=True, generator=generator)
        mask = torch.bincount(drawn, minlength=WEIGHTS) / (DRAWS * p)
        errors.append((X @ (mask * w) - target).square().sum())
    return torch.stack(errors)


def large_draw(pairs: int, size: int) -> dict[str, Any]:
    """A weighted draw without replacement beside the top-k."""
    given, alive = scores(size)
    theirs, ours = [], []
    for seed in range(pairs):
        started = time.perf_counter()
        torch.topk(given["w"], round(SHARE * size))
        theirs.append(time.perf_counter() - started)
        started = time.perf_counter()
        kept = select.sampled(given, round(SHARE * size), alive, seed)
        ours.append(time.perf_counter() - started)
        if int(kept["w"].sum()) != round(SHARE * size):
            raise SystemExit(f"draw: asked for {round(SHARE * size)} coordinates, got {int(kept['w'].sum())}")
        del kept
    del given, alive
    return row("draw", theirs, ours, pairs, at_least=0.33, size=size) | {
        "extra_mb": extra_memory("ours", size),
        "topk_extra_mb": extra_memory("topk", size),
        "extra_at_most": 2.0,
    }


def row(work: str, theirs: list[float], ours: list[float], pairs: int, **more: Any) -> dict[str, Any]:
    """The ratio of medians, and what it is of."""
    return {
        "work": work,
        "ratio": round(statistics.median(theirs) / statistics.median(ours), 2),
        "n": pairs,
        "plain_s": round(statistics.median(theirs), 2),
        "ours_s": round(statistics.median(ours), 2),
        **more,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }


def scores(size: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Magnitudes of Gaussian weights, made in place so that no second copy raises the peak."""
    values = torch.empty(size).normal_(generator=torch.Generator().manual_seed(0)).abs_()
    return {"w": values}, {"w": torch.ones(size, dtype=torch.bool)}


def extra_memory(way: str, size: int) -> float:
    """Megabytes by which the peak of a fresh process rises during one draw or top-k."""
    command = [sys.executable, __file__, "--memory", way, "--size", str(size)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def memory(way: str, size: int) -> None:
    """Print how far the peak of this process ends above the memory that it held before."""
    small, alive = scores(1000)
    select.sampled(small, 10, alive, 0)
    given, alive = scores(size)
    # Making the scores may have needed more: start the high-water mark anew.
    Path("/proc/self/clear_refs").write_text("5")
    before = kilobytes("VmRSS")
    if way == "ours":
        select.sampled(given, round(SHARE * size), alive, 0)
    else:
        torch.topk(given["w"], round(SHARE * size))
    print(round((kilobytes("VmHWM") - before) / 1024, 1))


def kilobytes(field: str) -> int:
    """A line of /proc/self/status: VmRSS is resident now, VmHWM its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", action="store_true")
    options.add_argument("--pairs", type=int, default=3)
    options.add_argument("--loop", type=int, default=20_000, help="masks that the Python loop is timed on")
    options.add_argument("--size", type=int, default=100_000_000, help="coordinates to draw from")
    options.add_argument("--memory", choices=["ours", "topk"], help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.memory:
        memory(chosen.memory, chosen.size)
        return
    masks, draw = many_masks(chosen.pairs, chosen.loop), large_draw(chosen.pairs, chosen.size)
    if chosen.json:
        print(json.dumps([masks, draw], indent=1))
        return
    print(
        f"masks: {masks['ratio']}x (at least {masks['at_least']:g}x, n={masks['n']}), {masks['ours_s']} s against "
        f"{masks['plain_s']} s in a loop"
    )
    print(
        f"draw: {1 / draw['ratio']:.2f} times the time of torch.topk (at most 3, n={draw['n']}), {draw['ours_s']} s "
        f"against {draw['plain_s']} s; {draw['extra_mb']} MB extra against {draw['topk_extra_mb']} MB (at most twice)"
    )


if __name__ == "__main__":
    main()
