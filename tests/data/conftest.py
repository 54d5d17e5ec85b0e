"""Tests of data never see the machine's own cache, folders or network."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and no data folder, for every test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TICKETLAB_CACHE", str(folder))
    monkeypatch.delenv("TICKETLAB_DATA", raising=False)
    monkeypatch.setattr("ticketlab.data.load._SYSTEM", tmp_path / "nowhere")
    return folder
