"""Facts about the machine that decide how fast something runs."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

_QUIET = 0.3  # load average below which nothing else of weight is running


def facts() -> dict[str, Any]:
    """Processor, threads, torch and its instruction set, and whether something else was running.

    The load average is of the last minute: ask before the first measurement.
    """
    load = os.getloadavg()[0]
    return {
        "cpu": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "instructions": " ".join([torch.backends.cpu.get_cpu_capability(), *_bf16()]),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": round(load, 2),
        "quiet": load < _QUIET,
    }


def _bf16() -> list[str]:
    flags = _cpuinfo("flags").split()
    return [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags]


def _cpuinfo(field: str) -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")
