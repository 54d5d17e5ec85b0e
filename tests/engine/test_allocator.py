"""Freed memory is kept where the C library can keep it; elsewhere nothing happens."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from ticketlab.engine import allocator

# Frees and takes 16 MB again and again; page faults count how often the system had to clear pages anew.
_FAULTS = """
import resource
import torch
from ticketlab.engine.allocator import keep_freed_memory
torch.set_num_threads(1)
assert keep_freed_memory()
def round():
    held = [torch.ones(1 << 20) for _ in range(16)]
for _ in range(5):
    round()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    round()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_pages_are_not_cleared_anew_in_every_step() -> None:
    found = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True, check=True)
    # Without it, the same loop has had 700,000 of them, though not in every process.
    assert int(found.stdout) < 2000


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    assert not allocator.keep_freed_memory()
