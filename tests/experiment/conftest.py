"""What tests of runs share."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from drivers import Bits, free_address, outcome


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bits, Any]:
    """What every step left in a run that nothing went wrong in, and the verdicts."""
    return outcome(tmp_path_factory.mktemp("undisturbed") / "s")


@pytest.fixture
def address() -> str:
    return free_address()


@pytest.fixture
def parts() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for part in started:
        part.kill()
        part.wait()
