"""``ticketlab bench``: how fast this machine trains, beside what it could do at best."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

import torch
from rich.console import Console
from torch import nn

from ticketlab.budget import check_sparsity
from ticketlab.data.load import load
from ticketlab.data.types import Data
from ticketlab.engine.choose import Speed, Work, candidates, chosen, measure
from ticketlab.engine.limits import copy_bandwidth, matmul_peak, training_flops
from ticketlab.engine.precision import check_precision
from ticketlab.engine.recipe import Recipe, adjusted, default_for
from ticketlab.errors import InputError
from ticketlab.experiment.where import Where
from ticketlab.models.fit import check_fit
from ticketlab.models.registry import build
from ticketlab.report.engines import render
from ticketlab.seeding import isolated

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def run_bench(options: argparse.Namespace) -> int:
    """Measure limits and engines, and print them with an estimate for a plan."""
    found = document(options)
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        render(found, Console())
    return 0


def document(options: argparse.Namespace) -> dict[str, Any]:
    """All that was measured, as plain values: FLOP/s, bytes/s, images/s, seconds.

    Raises:
        InputError: options that no engine can serve; nothing was measured then.
    """
    device = torch.device(options.device)
    default = 1 if device.type == "cuda" else os.cpu_count() or 1
    jobs = Where(default if options.jobs is None else options.jobs).jobs
    if options.tickets < 1:
        raise InputError(f"asked for {options.tickets} tickets, got a plan that needs at least one.")
    check_sparsity(options.sparsity)
    check_precision(options.precision, device)
    recipe = adjusted(default_for(options.data), epochs=options.epochs, batch_size=options.batch_size)
    data = load(options.data, options.data_dir)
    with isolated(0, "bench"):
        template = build(options.model, data.classes, data.in_shape)
    check_fit(template, data)
    limits = [_limits(threads, options.device) for threads in _threads(device)]
    flops = training_flops(template, data.in_shape, data.classes)
    speeds, refused = _speeds(template, data, recipe, options)
    # What one of the workers has to do; the longest-running one decides when the plan ends.
    each = -(-options.tickets // jobs)
    work = Work(each * recipe.epochs * len(data.train), each * recipe.epochs * len(data.test), each)
    plain = next((s.train_images_s for s in speeds if s.spec == "plain"), None)
    peak = limits[0]["bf16_flops" if options.precision == "bf16" else "fp32_flops"]
    best = chosen(speeds, work)
    return {
        "machine": _machine(device),
        "limits": limits,
        "work": {
            "data": data.name,
            "model": options.model,
            "precision": options.precision,
            "batch_size": recipe.batch_size,
            "epochs": recipe.epochs,
            "sparsity": options.sparsity,
            "train_images": len(data.train),
            "test_images": len(data.test),
            "flops_per_image": flops,
        },
        "engines": [
            {
                "engine": speed.spec,
                "train_images_s": speed.train_images_s,
                "test_images_s": speed.test_images_s,
                "share_of_peak": speed.train_images_s * flops / peak,
                "ratio": speed.train_images_s / plain if plain else None,
                "setup_s": speed.setup_s,
                "plan_s": speed.plan(work),
            }
            for speed in speeds
        ],
        "unavailable": refused,
        "estimate": {
            "tickets": options.tickets,
            "jobs": jobs,
            "engine": best.spec,
            "seconds": best.plan(work),
        },
    }


def _speeds(
    template: nn.Module, data: Data, recipe: Recipe, options: argparse.Namespace
) -> tuple[list[Speed], list[dict[str, str]]]:
    """Every engine measured, and those that are not to be had, with the reason."""
    speeds: list[Speed] = []
    refused: list[dict[str, str]] = []
    for spec in candidates(template, data, options.device):
        print(f"measuring {spec}", file=sys.stderr, flush=True)
        try:
            how = {"precision": options.precision, "device": options.device, "sparsity": options.sparsity}
            speeds.append(measure(spec, template, data, recipe, **how))
        except InputError as error:
            refused.append({"engine": spec, "why": str(error)})
    if not speeds:
        raise InputError(f"asked for engines for {options.model}, got none: {refused[0]['why']}")
    return speeds, refused


def _threads(device: torch.device) -> list[int | None]:
    """The numbers of threads to measure with: one, as a worker has, and all. A GPU has no such number."""
    if device.type != "cpu":
        return [None]
    return [1, *([torch.get_num_threads()] if torch.get_num_threads() > 1 else [])]


def _limits(threads: int | None, device: str) -> dict[str, Any]:
    return {
        "threads": threads,
        **{f"{name}_flops": _peak(name, threads, device) for name in _DTYPES},
        "copy_bytes_s": copy_bandwidth(threads, device),
    }


def _peak(precision: str, threads: int | None, device: str) -> float | None:
    """FLOP/s, or None where the device would only imitate the precision."""
    try:
        check_precision(precision, torch.device(device))
    except InputError:
        return None
    return matmul_peak(_DTYPES[precision], threads, device)


def _machine(device: torch.device) -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }
