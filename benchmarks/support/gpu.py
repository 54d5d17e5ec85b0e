"""The row of a GPU: seconds for one of eight tickets that train side by side."""

from __future__ import annotations

import statistics
import time
from typing import Any

from support.sides import engine
from support.work import RECIPE, Work

EPOCHS, IMAGES = 160, 50_000


def seconds_per_ticket(name: str, work: Work, rounds: int, steps: int = 100) -> dict[str, Any]:
    """The row, extrapolated from `rounds` times `steps` steps to all steps of the papers' recipe."""
    (spec,) = work.engines
    images, advance = engine(work, spec, "bf16", 0, "cuda")
    advance(20)  # captures the graphs
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        advance(steps)
        times.append((time.perf_counter() - started) / steps)
    step, tickets = statistics.median(times), images // RECIPE.batch_size
    return {
        "work": name,
        "ratio": round(EPOCHS * IMAGES / RECIPE.batch_size * step / tickets, 1),
        "at_least": work.at_least,
        "better": "lower",
        "unit": "s per ticket",
        "n": rounds,
        "engine": f"{spec} bf16",
        "engine_images_s": round(images / step, 1),
        "note": f"extrapolated from {rounds * steps} steps to {EPOCHS} epochs; set-up and evaluation are not in it",
    }
