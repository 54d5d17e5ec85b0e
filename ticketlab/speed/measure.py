"""The speed report: every runner prepared, checked against fp32, and measured in turns."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import Any

import torch

from ticketlab.engine.limits import copy_bandwidth, matmul_peak
from ticketlab.engine.precision import numerics
from ticketlab.errors import InputError, unknown
from ticketlab.export import compact
from ticketlab.export.sizes import dense_bytes, entropy_bytes
from ticketlab.speed.outputs import TOLERANCES, deviation
from ticketlab.speed.runner import Call, Case, Choosing, Runner
from ticketlab.speed.runners import RUNNERS
from ticketlab.speed.structure import structure_of
from ticketlab.speed.subject import Subject
from ticketlab.speed.turns import Times, in_turns
from ticketlab.speed.words import sentences
from ticketlab.speed.work import Work, work_of
from ticketlab.ticket_file import TicketFile

_PACKAGES = ("torch", "onnxruntime", "openvino")
_LEAST = 3  # rounds, for a median and a spread


@dataclass(frozen=True)
class How:
    """How a subject is measured.

    Attributes:
        batches: the batch sizes: one for latency, one for throughput.
        rounds: turns of every runner.
        seconds: the length of a turn.
        runners: the names of those that take part; None: all.
        threads: of every runner; None: as many as torch has.
    """

    batches: tuple[int, ...] = (1, 64)
    rounds: int = 7
    seconds: float = 0.3
    runners: Sequence[str] | None = None
    threads: int | None = None
    device: str = "cpu"


def checked(how: How) -> How:
    """Raise InputError for what cannot be measured, before anything long."""
    for name in how.runners or ():
        if name not in RUNNERS:
            raise unknown("runner", name, RUNNERS)
    if how.rounds < _LEAST:
        raise InputError(f"asked for {how.rounds} rounds, got too few for a median and a spread: {_LEAST} at least.")
    if not 0 < how.seconds < float("inf"):
        raise InputError(f"asked for turns of {how.seconds:g} s, got no length of time.")
    if any(size < 1 for size in how.batches):
        raise InputError(f"asked for batches of {min(how.batches)}, got no such batch: 1 at least.")
    if how.threads is not None and how.threads < 1:
        raise InputError(f"asked for {how.threads} threads, got a machine that needs one at least.")
    return how


def document(subject: Subject, how: How, tell: Callable[[str], object] = lambda text: None) -> dict[str, Any]:
    """All that was measured, as plain values: seconds, bytes, FLOP/s.

    Args:
        tell: hears what is being done.

    Raises:
        InputError: options that cannot be measured, or no runner that can.
    """
    checked(how)
    device = torch.device(how.device)
    threads = how.threads or torch.get_num_threads()
    before = _load()
    mask = subject.mask
    structure = structure_of(mask)
    fitting = [name for name, runner in RUNNERS.items() if runner.pattern in (None, structure)]
    chosen = [RUNNERS[name] for name in RUNNERS if name in (fitting if how.runners is None else how.runners)]
    if any(runner.reads_onnx and device.type in runner.devices for runner in chosen):
        tell("exporting to ONNX")
        # Here, since torch's exporter fails under the numerics below; the runner itself says why if it fails now.
        with suppress(InputError):
            _ = subject.onnx
    with numerics(threads):
        work = work_of(subject.model, subject.mask, subject.in_shape)
        tell("measuring the limits of the machine")
        peak = matmul_peak(torch.float32, threads, how.device)
        rate = copy_bandwidth(threads, how.device)
        unavailable: dict[str, str] = {}
        batches = [
            _batch(Case(subject, size, threads, device), chosen, how, work, (peak, rate), unavailable, tell)
            for size in dict.fromkeys(how.batches)
        ]
    if not any(batch["rows"] for batch in batches):
        raise InputError(
            f"asked to measure {subject.name}, got no runner that can: {next(iter(unavailable.values()))}."
        )
    found: dict[str, Any] = {
        "machine": {
            "cores": os.cpu_count(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "load_before": before,
            "versions": {name: metadata.version(name) for name in _PACKAGES if _installed(name)},
        },
        "subject": {
            "model": subject.name,
            "origin": subject.origin,
            "images": subject.images,
            "in_shape": list(subject.in_shape),
            "kept": mask.kept,
            "total": mask.total,
            "sparsity": mask.sparsity,
            "empty_layers": mask.empty_layers,
            "facts": subject.facts,
        },
        "structure": structure,
        "how": {
            "rounds": how.rounds,
            "seconds": how.seconds,
            "threads": threads,
            "device": how.device,
            "tolerances": TOLERANCES,
        },
        "limits": {
            "fp32_flops": peak,
            "copy_bytes_s": rate,
            "dense_flops_per_image": work.dense_flops,
            "kept_flops_per_image": work.kept_flops,
            "kept_share": work.density,
        },
        "batches": batches,
        "unavailable": [{"runner": name, "why": why} for name, why in unavailable.items()],
        "files": _files(subject),
    }
    return {**found, "words": sentences(found)}


def _batch(
    case: Case,
    chosen: Sequence[Runner],
    how: How,
    work: Work,
    limits: tuple[float, float],
    unavailable: dict[str, str],
    tell: Callable[[str], object],
) -> dict[str, Any]:
    inputs = case.subject.batch(case.batch).to(case.device)
    calls: dict[str, Call] = {}
    apart: dict[str, Any] = {}
    for runner in chosen:
        if runner.name in unavailable:
            continue
        tell(f"batch {case.batch}: preparing {runner.name}")
        try:
            calls[runner.name], apart[runner.name] = _prepared(runner, case, inputs)
        except InputError as error:
            unavailable[runner.name] = str(error)
    tell(f"batch {case.batch}: {len(calls)} runners in turns, {how.rounds} times")
    times = in_turns({name: partial(call, inputs) for name, call in calls.items()}, how.rounds, how.seconds)
    dense = [name for name in times if RUNNERS[name].kind == "dense" and RUNNERS[name].precision == "fp32"]
    best = min(dense, key=lambda name: times[name].median, default=None)
    peak, rate = limits
    limit = {"arithmetic_s": work.arithmetic_s(case.batch, peak), "traffic_s": work.traffic_s(case.batch, rate)}
    rows = [
        {
            "runner": name,
            "text": _text(RUNNERS[name], calls[name]),
            "precision": RUNNERS[name].precision,
            "kind": RUNNERS[name].kind,
            "n": len(taken.turns),
            "seconds": _spread(taken),
            "images_s": case.batch / taken.median,
            "speed": _spread(taken.ratios(times[best])) if best else None,
            "limit_share": limit["arithmetic_s"] / taken.median,
            **apart[name],
        }
        for name, taken in times.items()
    ]
    return {"batch": case.batch, "limit": limit, "best_dense_fp32": best, "rows": rows}


def _prepared(runner: Runner, case: Case, inputs: torch.Tensor) -> tuple[Call, dict[str, float]]:
    """The runner's call after its outputs were found right, and how far they are from fp32's.

    Raises:
        InputError: it is not to be had here, or computes something else.
    """
    if case.device.type not in runner.devices:
        raise InputError(f"does not run on {case.device.type}")
    call = runner.start(case)
    reference = case.subject.unpruned if runner.kind == "unpruned" else case.subject.model
    with torch.no_grad():
        wanted = reference(case.subject.batch(case.batch))
    found = deviation(call(inputs), wanted)
    if why := found.wrong(runner.precision):
        raise InputError(f"not timed: {why}")
    return call, {"error": found.error, "agreement": found.agreement}


def _text(runner: Runner, call: Call) -> str:
    return f"{runner.text}, {call.path}" if isinstance(call, Choosing) else runner.text


def _spread(times: Times) -> dict[str, Any]:
    return {"median": times.median, "low": times.low, "high": times.high, "turns": list(times.turns)}


def _files(subject: Subject) -> dict[str, Any]:
    """Bytes of the ticket, written out and compact; the compact one only where zstandard is."""
    ticket = subject.ticket
    found: dict[str, Any] = {"dense_bytes": dense_bytes(ticket), "entropy_bytes": round(entropy_bytes(ticket))}
    try:
        return {**found, "compact_bytes": len(compact.to_bytes(TicketFile(ticket, {})))}
    except InputError as error:
        return {**found, "compact_bytes": None, "why": str(error)}


def _load() -> float | None:
    """The load average of the last minute; None where the system keeps none."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def to_stderr(text: str) -> None:
    """Progress for a terminal; results go to stdout."""
    print(text, file=sys.stderr, flush=True)
