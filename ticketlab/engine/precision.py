"""The precisions of a training, and what a device must have for them."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ticketlab.errors import InputError, unknown

PRECISIONS = {
    "fp32": "32-bit floats throughout (the default)",
    "tf32": "32-bit floats, products rounded to 10 bits of mantissa (NVIDIA GPUs since Ampere)",
    "bf16": "bfloat16 in convolutions and products by autocast; weights, sums and losses stay fp32",
}


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a precision that is unknown, or that the device would only imitate.

    Raises:
        InputError: naming the precision and the device.
    """
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if precision == "bf16" and not _has_bf16(device):
        raise InputError(f"asked for precision bf16, got a {device.type} without bfloat16 instructions. Use fp32.")
    if precision == "tf32" and not _has_tf32(device):
        raise InputError(f"asked for precision tf32, got a {device.type} without it. Use fp32.")


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if not torch.backends.mkldnn.is_available():
        return False
    # torch's own check also passes where bfloat16 is imitated; the names of the instruction sets are newer than 2.4.
    asked = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    if platform.machine().lower() in ("x86_64", "amd64") and all(asked):
        return any(bool(supported()) for supported in asked if supported)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _has_tf32(device: torch.device) -> bool:
    return device.type == "cuda" and tuple(torch.cuda.get_device_capability(device)) >= (8, 0)


@contextmanager
def numerics(threads: int, precision: str = "fp32") -> Iterator[None]:
    """Run with the study's number of threads and precision, which decide the last bits, then put the old ones back.

    fp32 means fp32, whatever the caller has allowed: TF32 and bf16 inside of fp32 products are switched off on every
    device, and so is cuDNN's search for the fastest algorithm of the day.
    """
    cudnn = torch.backends.cudnn
    held = [*_rounding(precision), (cudnn, "benchmark", False), (cudnn, "deterministic", True)]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in held]
    threads_before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        _set(held)
        yield
    finally:
        _set(before)
        torch.set_num_threads(threads_before)


def _rounding(precision: str) -> list[tuple[Any, str, Any]]:
    """Which attributes decide how products of fp32 numbers are rounded, and what they must be."""
    backends: Any = torch.backends
    if not hasattr(backends, "fp32_precision"):
        tf32 = precision == "tf32"
        return [(backends.cuda.matmul, "allow_tf32", tf32), (backends.cudnn, "allow_tf32", tf32)]
    # Newer torch has one attribute per operation, and refuses to answer by the old ones once these differ.
    wanted = "tf32" if precision == "tf32" else "ieee"
    on_gpu = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
    on_cpu = [backends.mkldnn.matmul, backends.mkldnn.conv]
    places = [(place, wanted) for place in on_gpu] + [(place, "ieee") for place in on_cpu]
    return [(place, "fp32_precision", value) for place, value in places]


def _set(values: list[tuple[Any, str, Any]]) -> None:
    for owner, name, value in values:
        setattr(owner, name, value)
