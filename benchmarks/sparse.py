"""Tickets on the sparse kernels against dense training and inference, in one run; and the size of their files.

`train-NET-RATIOS-SPARSITY`: a training step of a random ticket (batch 64, fp32, SGD with momentum) by engine "sparse",
against the plain dense masked fp32 step (engine "plain"); `-vs-best-fp32` against the best dense fp32 engine without a
compiler, `-vs-bf16` against channels-last bf16 autocast (engine "tuned"), `-vs-best-bf16` also with im2col.
`infer-...`: answers to a batch of 64 by `ticketlab.compile_ticket`, against the faster of torch's fp32 NCHW and
channels-last, batch norm folded; `-vs-best-fp32` and `-vs-best-bf16` against the fastest dense engine of the speed
report. `latency-...`: the same for a single image.
`file-...`: bytes of the dense safetensors file over those of the compact one.
RATIOS are the keep ratios of the layers: uniform, smart (Su et al. 2020: the first layers nearly dense) or erk. Rows
that end in `-1t` ran on one thread. All sides of a net take turns, A B C A B C; a ratio is the median over the rounds.

`of_floor` is the share of the least time that the kept weights allow: their arithmetic at the best fp32 matrix product
of this machine, or each layer's activations moved once a pass at its copying speed, whichever takes longer.

    python benchmarks/sparse.py [--json] [--nets resnet32] [--kinds train infer latency file] [--threads 2 1]
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from support import sparse_sides as sides
from support.duel import say
from support.machine import facts
from support.sparse_targets import BATCH, MODELS, RATIOS, SHAPE, SPARSITIES, targets
from support.table import render

from ticketlab.engine.limits import copy_bandwidth, matmul_peak
from ticketlab.engine.precision import numerics
from ticketlab.export import compact
from ticketlab.export.sizes import entropy_bytes
from ticketlab.mask import Mask
from ticketlab.speed.runners import RUNNERS
from ticketlab.speed.turns import Times, in_turns
from ticketlab.speed.work import work_of
from ticketlab.ticket_file import TicketFile

TRAINED = {
    "": ["plain"],
    "-vs-best-fp32": ["plain", "tuned", "tuned+im2col"],
    "-vs-bf16": ["tuned bf16"],
    "-vs-best-bf16": ["tuned bf16", "tuned+im2col bf16"],
}
# Forward, input gradient and weight gradient are as much arithmetic and read as much each (but for the first layer,
# which has no input gradient: less than a percent).
PASSES = {"train": 3, "infer": 1, "latency": 1}
KINDS = (*PASSES, "file")


@dataclass(frozen=True)
class Machine:
    """Threads that everything runs on, and what they can do: FLOP/s of fp32 products, bytes/s of copying."""

    threads: int
    peak: float
    bandwidth: float

    def floor(self, kind: str, net: str, mask: Mask) -> tuple[float, str]:
        """The least seconds for a batch, and what sets it."""
        work = work_of(sides.network(net), mask, SHAPE)
        batch = batch_of(kind)
        arithmetic, traffic = work.arithmetic_s(batch, self.peak), work.traffic_s(batch, self.bandwidth)
        return PASSES[kind] * max(arithmetic, traffic), "arithmetic" if arithmetic > traffic else "traffic"


def batch_of(kind: str) -> int:
    """Images of a step or an answer."""
    return 1 if kind == "latency" else BATCH


def train(net: str, machine: Machine, rounds: int) -> Iterator[dict[str, Any]]:
    """Rows of training steps."""
    masks = {key: subject.mask for key, subject in sides.subjects(net).items()}
    calls: dict[str, sides.Call] = {}
    for name, (spec, precision) in sides.DENSE_TRAINING.items():
        make = partial(sides.training, net, spec, precision, masks["uniform", 90])
        sides.available(calls, name, make, say)
    for (ratios, sparsity), mask in masks.items():
        make = partial(sides.training, net, "sparse", "fp32", mask)
        sides.available(calls, f"{ratios}-{sparsity}", make, say)
    say(f"train {net}, {machine.threads} threads: {len(calls)} sides, {rounds} rounds")
    times = in_turns(calls, rounds, 1.0)
    del calls
    for (ratios, sparsity), mask in masks.items():
        if f"{ratios}-{sparsity}" not in times:
            continue
        ours = times[f"{ratios}-{sparsity}"]
        spent = sides.parts(net, mask)
        rest = max(0.0, 1 - sum(spent.values()) / ours.low)
        where = ", ".join(f"{name.replace('_', ' ')} {1e3 * s:.0f} ms" for name, s in spent.items())
        for ending, sides_of in TRAINED.items():
            if dense := best(times, sides_of):
                said = f"{where}, {rest:.0%} is batch norm, residuals and the rest" if not ending else None
                yield row("train", net, ratios, sparsity, ending, machine, mask, ours, times[dense], dense, said)


def infer(net: str, machine: Machine, rounds: int, kind: str = "infer") -> Iterator[dict[str, Any]]:
    """Rows of answers."""
    batch = batch_of(kind)
    subjects = sides.subjects(net)
    calls: dict[str, sides.Call] = {}
    for name in sides.DENSE_ANSWERS:
        sides.available(calls, name, partial(sides.answers, name, subjects["uniform", 90], machine.threads, batch), say)
    for (ratios, sparsity), subject in subjects.items():
        make = partial(sides.answers, "ticketlab", subject, machine.threads, batch)
        sides.available(calls, f"{ratios}-{sparsity}", make, say)
    say(f"{kind} {net}, {machine.threads} threads: {len(calls)} sides, {rounds} rounds")
    times = in_turns(calls, rounds, 0.4)
    dense = {p: [n for n in times if n in RUNNERS and RUNNERS[n].precision == p] for p in ("fp32", "bf16")}
    against = {"": ["torch", "torch-channels-last"], "-vs-best-fp32": dense["fp32"], "-vs-best-bf16": dense["bf16"]}
    for (ratios, sparsity), subject in subjects.items():
        ours = times[f"{ratios}-{sparsity}"]
        for ending, names in against.items():
            if rival := best(times, names):
                yield row(kind, net, ratios, sparsity, ending, machine, subject.mask, ours, times[rival], rival)


def best(times: dict[str, Times], names: list[str]) -> str | None:
    """The fastest of those that could be had."""
    return min((name for name in names if name in times), key=lambda name: times[name].median, default=None)


def row(
    kind: str,
    net: str,
    ratios: str,
    sparsity: int,
    ending: str,
    machine: Machine,
    mask: Mask,
    ours: Times,
    theirs: Times,
    dense: str,
    said: str | None = None,
) -> dict[str, Any]:
    """One ticket against one dense side. Targets are for two threads."""
    floor, by = machine.floor(kind, net, mask)
    ratio = ours.ratios(theirs)
    note = [f"{1e3 * ours.median:.3g} ms against {1e3 * theirs.median:.3g} ms ({dense})"]
    note += [f"{floor / ours.median:.0%} of the floor ({by})", *([said] if said else [])]
    return {
        "work": f"{kind}-{net}-{ratios}{ending}-{sparsity}" + ("-1t" if machine.threads == 1 else ""),
        "ratio": round(ratio.median, 2),
        **(targets(f"{kind}-{net}-{ratios}{ending}", sparsity) if machine.threads == 2 else {}),
        "n": len(ours.turns),
        "low": round(ratio.low, 2),
        "high": round(ratio.high, 2),
        "ours_ms": round(1e3 * ours.median, 3),
        "dense_ms": round(1e3 * theirs.median, 3),
        "dense": dense,
        "threads": machine.threads,
        "of_floor": round(floor / ours.median, 3),
        "floor_by": by,
        "note": "; ".join(note),
    }


def file(net: str) -> Iterator[dict[str, Any]]:
    """Rows of file sizes."""
    from safetensors.torch import save

    for ratios in RATIOS:
        for sparsity in SPARSITIES:
            held = sides.subject(net, ratios, sparsity).ticket
            dense = len(save({name: tensor.contiguous() for name, tensor in held.weights.items()}))
            small, bound = len(compact.to_bytes(TicketFile(held, {}))), entropy_bytes(held)
            yield {
                "work": f"file-{net}-{ratios}-{sparsity}",
                "ratio": round(dense / small, 2),
                **targets(f"file-{net}-{ratios}", sparsity),
                "n": 1,
                "of_entropy_bound": round(small / bound, 3),
                "note": f"{small / 1e6:.2f} MB against {dense / 1e6:.2f} MB; {small / bound:.3f} of the entropy bound",
            }


def measure(nets: list[str], kinds: list[str], threads: list[int], rounds: int) -> list[dict[str, Any]]:
    """All rows."""
    machine, rows = facts(), []
    if {"infer", "latency"} & {*kinds}:
        for net in nets:
            # Here, since torch's exporter fails under the numerics below.
            sides.exported(net)
    for count in threads:
        with numerics(count):
            here = Machine(count, matmul_peak(torch.float32, count), copy_bandwidth(count))
            for net in nets:
                for kind, measured in (("train", train), ("infer", infer), ("latency", partial(infer, kind="latency"))):
                    rows += measured(net, here, rounds) if kind in kinds else []
    for net in nets:
        rows += file(net) if "file" in kinds else []
    return [{**row, "machine": machine} for row in rows]


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", action="store_true")
    options.add_argument("--nets", nargs="+", choices=list(MODELS), default=list(MODELS))
    options.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    options.add_argument("--threads", nargs="+", type=int, default=[2, 1])
    options.add_argument("--rounds", type=int, default=5)
    chosen = options.parse_args()
    warnings.simplefilter("ignore")
    rows = measure(chosen.nets, chosen.kinds, chosen.threads, chosen.rounds)
    if chosen.json:
        print(json.dumps(rows, indent=1))
    else:
        render(rows)


if __name__ == "__main__":
    main()
