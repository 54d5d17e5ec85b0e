"""What a machine can do at best, and what a training asks of it: the ceilings that speeds are read against."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial

import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

# Which size is fastest depends on caches and on the library: the best of them is the peak.
_SIDES = {"cpu": (512, 1024, 2048, 4096), "cuda": (2048, 4096, 8192)}
_COPIED = 2**28  # bytes of one buffer, well above any cache


def matmul_peak(dtype: torch.dtype, threads: int | None, device: str = "cpu", seconds: float = 2.0) -> float:
    """The highest rate of a square matrix product seen in about ``seconds``, in FLOP/s.

    Args:
        threads: CPU threads to use (put back afterwards); None leaves the number as it is.
        seconds: the time spent, roughly; products that would take longer than that by themselves are left out.
    """
    kind = torch.device(device).type
    best = 0.0
    with _threads(threads), torch.no_grad():
        for side in _SIDES[kind]:
            if best and 2 * side**3 / best > seconds:
                # A precision that the processor only imitates would keep a large product going for minutes.
                break
            # A narrow range: the speed of some products depends on the values, through the power they draw.
            left, right = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
            product = partial(torch.mm, left, right, out=torch.empty_like(left))
            quickest = _quickest(product, device, seconds / len(_SIDES[kind]))
            best = max(best, 2 * side**3 / quickest)
    return best


def copy_bandwidth(threads: int | None, device: str = "cpu", seconds: float = 1.0) -> float:
    """The highest rate of copying large memory seen in about ``seconds``: bytes read plus bytes written, per second.

    ``threads`` is as for ``matmul_peak``. Takes two buffers of 256 MiB.
    """
    with _threads(threads):
        source = torch.zeros(_COPIED, dtype=torch.uint8, device=device)
        goal = torch.ones_like(source)
        return 2 * _COPIED / _quickest(lambda: goal.copy_(source), device, seconds)


def training_flops(model: nn.Module, in_shape: tuple[int, ...], classes: int) -> float:
    """Floating-point operations of forward and backward for one image: those of convolutions and matrix products.

    A multiplication and an addition are two operations. Zeros of a mask are not taken off: this is dense work. A copy
    of the model is run; the model and torch's random state are left as they were.
    """
    batch = 2  # the least that batch norm in train mode takes
    weight = next(model.parameters(), torch.empty(0))
    inputs = torch.zeros(batch, *in_shape, device=weight.device)
    targets = torch.arange(batch, device=weight.device) % classes
    with torch.random.fork_rng([weight.device] if weight.device.type == "cuda" else []):
        trained = deepcopy(model).train()
        with FlopCounterMode(display=False) as counter:
            functional.cross_entropy(trained(inputs), targets).backward()
    return float(counter.get_total_flops()) / batch


def _quickest(work: Callable[[], object], device: str, seconds: float) -> float:
    """The shortest of the times of ``work`` that fit into ``seconds``, after one run that counts for nothing."""
    _timed(work, device)
    times = [_timed(work, device)]
    until = time.perf_counter() + seconds - 2 * times[0]
    while time.perf_counter() < until:
        times.append(_timed(work, device))
    return min(times)


def _timed(work: Callable[[], object], device: str) -> float:
    _wait(device)
    started = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: str) -> None:
    """A GPU is given work and does it later: the clock may only be read when it is done."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
