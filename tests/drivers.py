"""Studies in processes of their own, and clusters whose parts are started by hand."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faulty

from ticketlab.experiment.prepared import Prepared
from ticketlab.experiment.store import Store

TESTS = Path(faulty.__file__).parent
Bits = dict[str, dict[str, str]]


def bits(found: Prepared) -> Bits:
    store = Store(found.store.place)
    return {step: store.digests(step) for step in found.plan.steps}


def outcome(folder: Path) -> tuple[Bits, Any]:
    """Run what is left of the study here: what every step left, and the verdicts."""
    found = faulty.study(folder)
    results = found.run()
    return bits(found), results["verdicts"]


def start(folder: Path, *options: str, **environment: str) -> subprocess.Popen[str]:
    """The study in a process of its own, with whatever it starts in its group."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FAULTY_")}
    return subprocess.Popen(
        [sys.executable, "-m", "faulty", str(folder), *options],
        env={**clean, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Tests that run in the background ignore it, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(true: Callable[[], bool], seconds: float = 60.0, what: str = "") -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, f"it never came: {what}"
        time.sleep(0.02)


def done(folder: Path) -> int:
    return sum(1 for _ in Store(folder / "store").ids())


def group(leader: int) -> dict[int, int]:
    """The living processes of a group, each with its parent: zombies hold nothing."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, its = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(its) == leader and state != "Z":
            found[int(path.parent.name)] = int(parent)
    return found


def workers(driver: int) -> list[int]:
    """The worker processes of a driver, without what only keeps book for it."""
    found = []
    for pid in group(driver):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"spawn_main" in command and b"resource_tracker" not in command:
            found.append(pid)
    return found


def free_address() -> str:
    """Where a scheduler may listen."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{free.getsockname()[1]}"


def scheduler(address: str) -> subprocess.Popen[bytes]:
    port = address.rpartition(":")[2]
    return _dask("scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard", "--no-show")


def worker(address: str, **environment: str) -> subprocess.Popen[bytes]:
    alone = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1")
    return _dask("worker", address, *alone, **environment)


def _dask(*arguments: str, **changes: str) -> subprocess.Popen[bytes]:
    command = [str(Path(sys.executable).parent / "dask"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", **changes}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
