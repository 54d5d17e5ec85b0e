"""One row of `engine.py`: choose the fastest engine, then baseline and engine in turns, A B A B."""

from __future__ import annotations

import os
import statistics
import sys
from dataclasses import dataclass
from typing import Any

import torch

from support.others import Others
from support.sides import baseline, engine, flops
from support.work import Work
from support.workers import Team
from ticketlab.engine.limits import matmul_peak
from ticketlab.errors import InputError

# Others may use this much of one core before a ratio is called not valid.
_TOLERATED = 0.1


@dataclass(frozen=True)
class How:
    """How rows are measured.

    Attributes:
        rounds: pairs of a baseline chunk and an engine chunk.
        seconds: the least length of a chunk.
        compiled: whether engines that take a minute to compile are tried.
    """

    rounds: int = 5
    seconds: float = 2.0
    compiled: bool = False


def duel(name: str, work: Work, how: How) -> dict[str, Any]:
    """The row: the median of the rounds' ratios, and what is needed to judge it."""
    spec, precision = _fastest(name, work, how)
    peaks = {"fp32": matmul_peak(torch.float32, None), "bf16": matmul_peak(torch.bfloat16, None)}
    with _baseline(work) as slow, _engines(work, spec, precision) as fast:
        chunks = [(team, team.steps_for(1.2 * how.seconds)) for team in (slow, fast)]
        others, before = Others(), slow.processor_time() + fast.processor_time()
        pairs = []
        for turn in range(how.rounds):
            pairs.append([team.run(steps) for team, steps in chunks])
            say(f"{name}: round {turn + 1}: {pairs[-1][1] / pairs[-1][0]:.2f}")
        foreign = others.cores(slow.processor_time() + fast.processor_time() - before)
    theirs, ours = (statistics.median(rates) for rates in zip(*pairs, strict=True))
    ratios = [fast_rate / slow_rate for slow_rate, fast_rate in pairs]
    arithmetic = theirs * flops(work)
    row = {
        "work": name,
        "ratio": round(statistics.median(ratios), 2),
        "at_least": work.at_least,
        "n": how.rounds,
        "ratios": [round(ratio, 2) for ratio in ratios],
        "baseline_images_s": round(theirs, 1),
        "engine_images_s": round(ours, 1),
        "engine": f"{spec} {precision}",
        "ceiling": round(max(peaks[p] for p in work.precisions) / arithmetic, 2),
        "baseline_share_of_peak": round(arithmetic / peaks["fp32"], 3),
        "peak_fp32_flops": round(peaks["fp32"]),
        "peak_bf16_flops": round(peaks["bf16"]),
        "others_cores": None if foreign is None else round(foreign, 2),
    }
    if notes := _doubts(work, row):
        row["note"] = "; ".join(notes) + ": ratio not valid"
        say(f"{name}: {row['note']}")
    return row


def _doubts(work: Work, row: dict[str, Any]) -> list[str]:
    """Why the ratio says nothing, if so."""
    found = []
    share, foreign = row["baseline_share_of_peak"], row["others_cores"]
    if work.honest is not None and share < work.honest:
        found.append(f"the baseline is weak ({share:.0%} of the fp32 peak, below {work.honest:.0%})")
    if foreign is not None and foreign > _TOLERATED:
        found.append(f"other programs kept {foreign:.1f} cores busy")
    return found


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def _fastest(name: str, work: Work, how: How) -> tuple[str, str]:
    """The engine and precision with the most images per second in one short try each."""
    found: dict[tuple[str, str], float] = {}
    for spec in (*work.engines, *(work.compiled if how.compiled else ())):
        for precision in work.precisions:
            try:
                with _engines(work, spec, precision) as team:
                    found[spec, precision] = team.run(team.steps_for(how.seconds / 2))
            except InputError as error:
                say(f"{name}: {spec} {precision} left out: {error}")
            else:
                say(f"{name}: {spec} {precision}: {found[spec, precision]:,.0f} images/s")
    if not found:
        raise InputError(f"asked for {name}, got none of its engines: {', '.join(work.engines)}.")
    return max(found, key=lambda key: found[key])


def _baseline(work: Work) -> Team:
    """One process with every core's thread."""
    return Team([(baseline, (work,))], threads=None)


def _engines(work: Work, spec: str, precision: str) -> Team:
    """As ticketlab works: one process per core, one thread and one pack of tickets in each."""
    return Team([(engine, (work, spec, precision, 1000 * k)) for k in range(os.cpu_count() or 1)], threads=1)
