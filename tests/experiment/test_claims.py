"""Claims: whose work a step is, for as long as there are signs of life."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from ticketlab.experiment import claims as module
from ticketlab.experiment.claims import FOLDER, STALE, Claim, Claims, read_claims
from ticketlab.experiment.step import Step
from ticketlab.experiment.store import Store

STEP = Step("data", {"seed": 1}, label="data, seed 1")
KEY = "0" * 32


@pytest.fixture(autouse=True)
def no_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims that a test leaves behind are not written for ever."""
    monkeypatch.setattr(module, "BEAT", 3600.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def written(store: Store, **changes: object) -> None:
    """The claim that another run would have written."""
    (claim,) = read_claims(store)
    store.files.write(f"{FOLDER}/{KEY}", json.dumps({**asdict(claim), **changes}).encode())


def test_a_claim_is_for_one_run(store: Store) -> None:
    mine, other = Claims(store, "me"), Claims(store, "you")
    assert mine.take(KEY, STEP) and not other.take(KEY, STEP)
    (claim,) = read_claims(store)
    assert (claim.step, claim.label, claim.owner, claim.pid, claim.alive) == (
        STEP.id,
        STEP.label,
        "me",
        os.getpid(),
        True,
    )
    mine.release([KEY])
    assert not read_claims(store)
    assert other.take(KEY, STEP)


def test_a_lost_worker_of_the_same_run_leaves_its_claim_to_the_next(store: Store) -> None:
    assert Claims(store, "me").take(KEY, STEP)
    assert Claims(store, "me").take(KEY, STEP)


def test_a_dead_process_of_this_machine_claims_nothing(store: Store) -> None:
    assert Claims(store, "me").take(KEY, STEP)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    written(store, pid=ended.pid)
    assert not read_claims(store)[0].alive
    assert Claims(store, "you").take(KEY, STEP)


def test_a_process_of_another_machine_is_known_by_its_signs_of_life(store: Store) -> None:
    assert Claims(store, "me").take(KEY, STEP)
    written(store, machine="another", pid=1)
    assert not Claims(store, "you").take(KEY, STEP)
    # Clocks differ, either way.
    written(store, machine="another", beat=time.time() + STALE / 2)
    assert not Claims(store, "you").take(KEY, STEP)
    written(store, machine="another", beat=time.time() - 2 * STALE)
    assert Claims(store, "you").take(KEY, STEP)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"step": 1}', b'{"beat": 1e999}', b"\xff", b"[" * 10_000])
def test_a_claim_that_cannot_be_read_counts_for_nothing(store: Store, content: bytes) -> None:
    store.files.write(f"{FOLDER}/{KEY}", content)
    assert not read_claims(store)
    assert Claims(store, "you").take(KEY, STEP)


def test_signs_of_life_and_progress_are_written_until_the_release(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT", 0.02)
    claims = Claims(store, "me")
    claims.take(KEY, STEP)
    first = read_claims(store)[0].beat
    claims.note(STEP.id, {"epoch": 1.5, "epochs": 3.0})
    until = time.monotonic() + 20
    while not (found := read_claims(store)) or found[0].progress is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert found[0].beat > first and found[0].progress == {"epoch": 1.5, "epochs": 3.0}
    claims.release([KEY])
    time.sleep(0.1)
    assert not read_claims(store)


def test_where_nothing_can_be_written_there_is_no_advice(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.files, "create", full)
    claims = Claims(store, "me")
    assert claims.take(KEY, STEP)
    claims.release([KEY])


def test_a_store_at_a_url_has_claims_too() -> None:
    pytest.importorskip("fsspec")
    store = Store("memory://claims")
    assert Claims(store, "me").take(KEY, STEP)
    assert not Claims(store, "you").take(KEY, STEP)


def test_names_of_machines_are_no_names() -> None:
    claim = Claim("a", "b", "data", "me", 0.0, 0.0, machine=module._machine(), pid=os.getpid())
    assert os.uname().nodename not in json.dumps(asdict(claim))
    assert replace(claim, machine="").alive is False
