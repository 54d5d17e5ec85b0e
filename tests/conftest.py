"""What every test runs under: one thread, as workers do, so that several tests run side by side."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Iterator

import pytest
import torch

# Tests write thousands of small files; none of them must survive a loss of power.
os.fsync = lambda descriptor: None

torch.set_num_threads(1)

# Measurements of engines and decoded data go where other programs of the tests find them, not to the user's own cache.
os.environ.setdefault("TICKETLAB_CACHE", tempfile.mkdtemp(prefix="ticketlab-tests-"))


@pytest.fixture(autouse=True, scope="session")
def one_engine() -> Iterator[None]:
    """No test but those of the choice itself depends on which engine is faster at the moment."""
    prepare = importlib.import_module("ticketlab.experiment.prepare")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "best_engine", lambda *_: "tuned")
        yield


@pytest.fixture
def measured_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is chosen by measuring, as for users."""
    prepare = importlib.import_module("ticketlab.experiment.prepare")
    estimate = importlib.import_module("ticketlab.experiment.estimate")
    monkeypatch.setattr(prepare, "best_engine", estimate.best_engine)
