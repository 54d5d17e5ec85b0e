"""The tuner: what it tries, that it keeps what it found, and that a damaged cache costs a measurement only."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ticketlab.sparse import Choice, Net, Norm, tune
from ticketlab.sparse.library import library
from ticketlab.sparse.net import PASSES


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Loaded before the cache folder is another one: no test compiles it anew.
    library()
    monkeypatch.setenv("TICKETLAB_CACHE", str(tmp_path))
    return tmp_path / "sparse"


def net(density: float = 0.2) -> Net:
    draw = torch.Generator().manual_seed(0)
    made = Net((20, 8, 8), 16)
    made.layer(0, torch.rand(8, 20, 3, 3, generator=draw) < density, padding=(1, 1), norm=Norm())
    return made.build()


def speeds(monkeypatch: pytest.MonkeyPatch, best: Choice) -> list[tuple[str, Choice]]:
    """As if one choice were twice as fast as all others."""
    asked: list[tuple[str, Choice]] = []

    def seconds(self: Net, layer: int, which: str, runs: int = 3) -> float:
        asked.append((which, self.choice(layer, which)))
        return 0.5 if self.choice(layer, which) == best else 1.0

    monkeypatch.setattr(Net, "seconds", seconds)
    return asked


def test_the_fastest_is_chosen_and_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, best = net(), Choice(False, 3, 16)
    assert best in list(tune.candidates(first, 0, "forward"))
    asked = speeds(monkeypatch, best)
    found = tune.tune(first)
    assert found[0, "forward"] == first.choice(0, "forward") == best
    assert {which for which, _ in asked} == set(PASSES) and len(list(cache.iterdir())) == 3
    asked.clear()
    # Another mask of the same density: nothing is measured.
    assert tune.tune(net()) == found and not asked
    tune.tune(net(0.3))
    assert asked


def test_noise_changes_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = net()
    usual = {(0, which): first.choice(0, which) for which in PASSES}
    monkeypatch.setattr(Net, "seconds", lambda self, layer, which, runs=3: 1.0 - 0.01 * self.choice(layer, which).shape)
    assert tune.tune(first) == usual


@pytest.mark.parametrize(
    "content", ["", "[true, 1]", '["x", 3, 16]', "[false, -1, 0]", "[false, 99, 0]", "{}", "[1, 2, 3]"]
)
def test_a_damaged_cache_is_measured_anew(cache: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    speeds(monkeypatch, Choice(False, 3, 16))
    found = tune.tune(net())
    for file in cache.iterdir():
        file.write_text(content)
    assert tune.tune(net()) == found


def test_it_really_measures(cache: Path) -> None:
    tuned = tune.tune(net())
    assert {which for _, which in tuned} == set(PASSES)
