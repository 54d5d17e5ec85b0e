"""Studies of many steps: what scheduling, planning, coming back and verifying cost.

Work `overhead`: 10,000 steps that compute nothing (the facts of untampered data) with two worker processes; all of the
wall time, the start of the workers included, divided by the steps. At most 5 ms a step. `memory`: how much higher the
driver's peak is than with a tenth of the steps, per step more (the plan itself, about 2 KB a step, is in both).
Work `plan`: a study of 100,000 steps, planned. At most 10 s.
Work `again`: a finished study of 10,000 steps (prunings and trainings of a tiny net), opened and run again in a fresh
process, until its results are there. At most 5 s.
Work `verify`: a store of 2 GB read and hashed by `store verify`, against reading the same files from the disk and
throwing them away; the system's cache is dropped before either. At least half of the speed. Interleaved A B A B.

    python benchmarks/store.py [--json] [--only overhead plan again verify] [--steps 10000] [--pairs 3]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from ticketlab import Recipe
from ticketlab.data.types import Data
from ticketlab.data.user import from_user
from ticketlab.experiment.compute import compute
from ticketlab.experiment.context import Context
from ticketlab.experiment.factory import Factory
from ticketlab.experiment.plan import plan
from ticketlab.experiment.prepare import prepare
from ticketlab.experiment.prepared import Prepared
from ticketlab.experiment.step import Result, Step
from ticketlab.experiment.store import Store
from ticketlab.experiment.upkeep import verify
from ticketlab.experiment.where import Where, workers
from ticketlab.program import CLEAN

METHODS = ("snip", "grasp", "magnitude", "synflow", "random")
CHECKS = ("corrupted", "rearrange", "half-data")


def net(num_classes: int) -> torch.nn.Module:
    """A net that trains in no time."""
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(16, 12), torch.nn.ReLU(), torch.nn.Linear(12, num_classes)
    )


def data() -> Data:
    """Sixty images of four by four."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(256, (90, 1, 4, 4), generator=draw, dtype=torch.uint8)
    targets = torch.arange(90) % 3
    return from_user(((images[:60], targets[:60]), (images[60:], targets[60:])), "tiny")


def study(folder: Path, seeds: int) -> Prepared:
    """About 100 steps a seed."""
    return prepare(
        list(METHODS),
        model=net,
        data=data(),
        sparsity=[0.5, 0.8],
        seeds=seeds,
        checks=list(CHECKS),
        folder=folder,
        recipe=Recipe(epochs=1, batch_size=60, augment=False),
        margin=20,
        per_class=4,
        engine="tuned",
    )


def overhead(steps: int) -> list[dict[str, Any]]:
    """No-op steps by two workers."""
    few, many = (json.loads(child("--run-idle", str(n))) for n in (max(1, steps // 10), steps))
    per_step = 1000 * many["seconds"] / steps
    grown = (many["peak_kb"] - few["peak_kb"]) / (steps - max(1, steps // 10))
    return [
        row("overhead", round(per_step, 2), "ms", 5, 1, "lower", steps=steps, seconds=round(many["seconds"], 1)),
        row("memory", round(grown, 2), "KB", None, 1, "lower", peak_mb=round(many["peak_kb"] / 1024)),
    ]


def run_idle(steps: int) -> None:
    """Prints the seconds and the driver's peak."""
    idle = [Step("data", {"variant": CLEAN, "seed": seed}, label=f"nothing, {seed}") for seed in range(steps)]
    found = data()
    context = Context(found, Factory(net, found.classes, found.in_shape))
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        started = time.perf_counter()
        with workers(Where(2)) as crew:
            compute(idle, context, store, lambda: None, workers=crew)
        seconds = time.perf_counter() - started
        if sum(1 for _ in store.ids()) != steps:
            raise SystemExit(f"overhead: asked for {steps} steps, got {sum(1 for _ in store.ids())}")
    print(json.dumps({"seconds": seconds, "peak_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))


def planning(steps: int = 100_000) -> list[dict[str, Any]]:
    """A plan of at least so many steps."""
    with tempfile.TemporaryDirectory() as folder:
        one = study(Path(folder) / "s", 3)
        seeds = -(-3 * steps // len(one.plan.steps))
        found = study(Path(folder) / "t", 3).study
        started = time.perf_counter()
        planned = plan(found, seeds=range(seeds))
        seconds = time.perf_counter() - started
    return [row("plan", round(seconds, 1), "s", 10, 1, "lower", steps=len(planned.steps))]


def again(steps: int) -> list[dict[str, Any]]:
    """A finished study, run once more."""
    with tempfile.TemporaryDirectory() as folder:
        per_seed = len(study(Path(folder) / "probe", 3).plan.steps) / 3
        seeds = str(round(steps / per_seed))
        made = json.loads(child("--run-study", folder, "--seeds", seeds))
        found = [json.loads(child("--run-study", folder, "--seeds", seeds)) for _ in range(3)]
    if any(f["computed"] for f in found):
        raise SystemExit("again: steps were computed again")
    seconds = statistics.median(f["seconds"] for f in found)
    first = round(made["seconds"])
    return [row("again", round(seconds, 2), "s", 5, 3, "lower", steps=found[0]["steps"], first_time_s=first)]


def run_study(folder: Path, seeds: int) -> None:
    """Prints the seconds from nothing to results."""
    before = sum(1 for _ in Store(folder / "s" / "store").ids())
    started = time.perf_counter()
    found = study(folder / "s", seeds)
    results = found.run(2)
    seconds = time.perf_counter() - started
    if not results["complete"]:
        raise SystemExit("again: the study is not complete")
    after = sum(1 for _ in found.store.ids())
    print(json.dumps({"seconds": seconds, "steps": len(found.plan.steps), "computed": after - before}))


def verifying(pairs: int, megabytes: int = 2048) -> list[dict[str, Any]]:
    """Verified, and only read."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        store = Store(folder)
        # As big as a ResNet-20's finished training with momentum, ten times: a mix of sizes would hide the disk.
        each = 32
        for k in range(megabytes // each):
            step = Step("train", {"seed": k})
            weights = torch.randn(each * 2**20 // 4, generator=torch.Generator().manual_seed(k))
            store.put(step, Result({"k": k}, tensors={"weights": {"w": weights}}), 1.0, f"{k:032x}")
        read, checked = [], []
        for _ in range(pairs):
            read.append(timed(lambda: read_all(Path(folder)), Path(folder)))
            checked.append(timed(lambda: clean(store), Path(folder)))
        size = sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())
    ratio = statistics.median(read) / statistics.median(checked)
    speed = {"read_mb_s": round(size / 2**20 / statistics.median(read))}
    return [row("verify", round(ratio, 2), None, 0.5, pairs, "higher", **speed, mb=round(size / 2**20))]


def clean(store: Store) -> None:
    if findings := verify(store).findings:
        raise SystemExit(f"verify: {findings[0]}")


def read_all(folder: Path) -> None:
    """Every byte of every file, in the order of the disk's names."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb", buffering=0) as file:
            while file.read(2**22):
                pass


def timed(work: Any, folder: Path) -> float:
    """Seconds, with nothing of the folder in the system's cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def row(
    work: str, ratio: float, unit: str | None, target: float | None, n: int, better: str, **more: Any
) -> dict[str, Any]:
    """What the table of `make bench` shows."""
    return {
        "work": work,
        "ratio": ratio,
        **({"unit": unit} if unit else {}),
        "at_least": target,
        "better": better,
        "n": n,
        **more,
        "machine": platform.machine(),
        "torch": torch.__version__,
    }


def child(*arguments: str) -> str:
    """What a fresh process prints."""
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1]


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", action="store_true")
    options.add_argument("--only", nargs="+", choices=["overhead", "plan", "again", "verify"])
    options.add_argument("--steps", type=int, default=10_000)
    options.add_argument("--pairs", type=int, default=3)
    options.add_argument("--run-idle", type=int, help=argparse.SUPPRESS)
    options.add_argument("--run-study", type=Path, help=argparse.SUPPRESS)
    options.add_argument("--seeds", type=int, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.run_idle:
        run_idle(chosen.run_idle)
        return
    if chosen.run_study:
        run_study(chosen.run_study, chosen.seeds)
        return
    works = {
        "overhead": lambda: overhead(chosen.steps),
        "plan": planning,
        "again": lambda: again(chosen.steps),
        "verify": lambda: verifying(chosen.pairs),
    }
    rows = [found for name, work in works.items() if name in (chosen.only or works) for found in work()]
    if chosen.json:
        print(json.dumps(rows, indent=1))
        return
    for found in rows:
        unit = found.get("unit", "x")
        word = "at most" if found["better"] == "lower" else "at least"
        target = "" if found["at_least"] is None else f" ({word} {found['at_least']} {unit})"
        rest = {k: v for k, v in found.items() if k not in ("work", "ratio", "unit", "at_least", "better", "machine")}
        print(f"{found['work']}: {found['ratio']} {unit}{target}; {rest}")


if __name__ == "__main__":
    main()
