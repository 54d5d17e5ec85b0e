"""What tests of runs share."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import faulty
import pytest
from drivers import Bits, bits


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bits, Any]:
    """What every step left in a run that nothing went wrong in, and the verdicts."""
    found = faulty.study(tmp_path_factory.mktemp("undisturbed") / "s")
    results = found.run()
    return bits(found), results["verdicts"]


@pytest.fixture
def address() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    yield f"tcp://127.0.0.1:{port}"


@pytest.fixture
def parts() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for part in started:
        part.kill()
        part.wait()
