"""Whatever is killed, and whenever: the same command goes on, and ends with the results of an undisturbed run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import faulty
import pytest
from drivers import Bits, bits, done, group, scheduler, start, wait_for, worker, workers

from ticketlab.experiment.store import Store
from ticketlab.experiment.upkeep import verify
from ticketlab.experiment.where import Where


def ends_as(undisturbed: tuple[Bits, Any], folder: Path, jobs: int = 1) -> None:
    """Running it again ends with the results of an undisturbed run, and every byte is as it was written."""
    found = faulty.study(folder)
    results = found.run(jobs)
    assert results["complete"] and results["verdicts"] == undisturbed[1]
    assert bits(found) == undisturbed[0]
    assert not verify(found.store).findings


SLOW = pytest.mark.slow


@pytest.mark.parametrize(("jobs", "after"), [(1, 25), pytest.param(2, 3, marks=SLOW), pytest.param(2, 25, marks=SLOW)])
def test_a_killed_driver(tmp_path: Path, undisturbed: tuple[Bits, Any], jobs: int, after: int) -> None:
    log = tmp_path / "log"
    asked = {"FAULTY_LOG": str(log), "FAULTY_PAUSE": "0.002"}
    run = start(tmp_path / "s", "--jobs", str(jobs), **asked)
    wait_for(lambda: done(tmp_path / "s") >= after or run.poll() is not None, what=f"{after} steps")
    run.kill()
    run.communicate()
    # Workers end with their driver: they would train for nobody.
    wait_for(lambda: not group(run.pid), what="the end of the workers")
    again = start(tmp_path / "s", "--jobs", str(jobs), **asked)
    out, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert json.loads(out)["verdicts"] == undisturbed[1]
    # Nothing that was stored is computed again.
    assert max(Counter(log.read_text().split()).values()) == 1
    ends_as(undisturbed, tmp_path / "s")


@pytest.mark.parametrize(("jobs", "write"), [(1, 60), pytest.param(2, 5, marks=SLOW), (2, 25)])
def test_a_process_that_dies_in_the_middle_of_a_write(
    tmp_path: Path, undisturbed: tuple[Bits, Any], jobs: int, write: int
) -> None:
    killed = tmp_path / "killed"
    run = start(tmp_path / "s", "--jobs", str(jobs), FAULTY_KILL=f"{killed}:{write}")
    out, errors = run.communicate(timeout=120)
    assert killed.exists()
    if jobs == 1:
        assert run.returncode == -signal.SIGKILL
    else:
        # Another worker took the step over: nobody need do anything.
        assert run.returncode == 0 and json.loads(out)["verdicts"] == undisturbed[1], errors
    ends_as(undisturbed, tmp_path / "s")


def test_a_killed_worker(tmp_path: Path, undisturbed: tuple[Bits, Any]) -> None:
    run = start(tmp_path / "s", "--jobs", "2", FAULTY_PAUSE="0.005")
    for number in (10, 30):
        wait_for(lambda: done(tmp_path / "s") >= number and bool(workers(run.pid)), what=f"{number} steps")  # noqa: B023
        os.kill(workers(run.pid)[0], signal.SIGKILL)
    out, errors = run.communicate(timeout=120)
    assert run.returncode == 0, errors
    assert json.loads(out)["verdicts"] == undisturbed[1]
    ends_as(undisturbed, tmp_path / "s")


@pytest.mark.parametrize("jobs", [pytest.param(1, marks=SLOW), 2])
def test_two_drivers_of_one_study(tmp_path: Path, undisturbed: tuple[Bits, Any], jobs: int) -> None:
    log = tmp_path / "log"
    asked = {"FAULTY_LOG": str(log), "FAULTY_PAUSE": "0.002"}
    runs = [start(tmp_path / "s", "--jobs", str(jobs), **asked) for _ in range(2)]
    for run in runs:
        out, errors = run.communicate(timeout=240)
        assert run.returncode == 0, errors
        assert json.loads(out)["verdicts"] == undisturbed[1]
    # Both worked, and no step was done by both.
    assert max(Counter(log.read_text().split()).values()) == 1
    ends_as(undisturbed, tmp_path / "s")


@pytest.mark.parametrize("jobs", [1, 2])
def test_one_interrupt_finishes_what_runs_and_two_stop_it(
    tmp_path: Path, undisturbed: tuple[Bits, Any], jobs: int
) -> None:
    for times in (1, 2):
        before = done(tmp_path / "s")
        run = start(tmp_path / "s", "--jobs", str(jobs), FAULTY_PAUSE="0.02")
        wait_for(lambda: done(tmp_path / "s") >= before + 8, what="8 steps")  # noqa: B023
        for _ in range(times):
            # As a terminal does: to the whole group.
            os.killpg(run.pid, signal.SIGINT)
            time.sleep(0.1)
        _, errors = run.communicate(timeout=60)
        assert run.returncode != 0 and "KeyboardInterrupt" in errors
        assert "finishing what runs now" in errors
        wait_for(lambda: not group(run.pid), what="the end of the workers")  # noqa: B023
        assert not list((tmp_path / "s" / "store" / "claims").glob("*")) or times == 2
    ends_as(undisturbed, tmp_path / "s")


def test_a_full_disk(tmp_path: Path, undisturbed: tuple[Bits, Any]) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no small file system can be mounted here")
    try:
        run = start(small / "s")
        _, errors = run.communicate(timeout=120)
        assert run.returncode != 0
        assert "InputError" in errors or "Unstorable" in errors
        assert "No space left on device" in errors.splitlines()[-1]
        held = Store(small / "s" / "store")
        assert done(small / "s") and not [f for f in verify(held).findings if "step" in f.name]
        subprocess.run(["mount", "-o", "remount,size=60m", str(small)], check=True)
        ends_as(undisturbed, small / "s")
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_step_that_always_fails(tmp_path: Path, undisturbed: tuple[Bits, Any]) -> None:
    for jobs in (1, 2):
        found = faulty.study(tmp_path / str(jobs), fail=True)
        results = found.run(jobs)
        assert not results["complete"]
        assert [f["error"].rpartition(": ")[2] for f in results["failed"]] == ["this score never works"] * 6
        rows = [v for v in results["verdicts"] if v["method"] != "failing"]
        assert [(v["method"], v["check"], v["drop"]) for v in rows] == [
            (v["method"], v["check"], v["drop"]) for v in undisturbed[1]
        ]


# A cluster whose parts are started by hand.


def test_a_cluster_started_by_hand(
    tmp_path: Path, undisturbed: tuple[Bits, Any], address: str, parts: list[subprocess.Popen[bytes]]
) -> None:
    """One worker joins late, and one is lost."""
    parts += [scheduler(address), worker(address)]
    run = start(tmp_path / "s", "--scheduler", address, FAULTY_PAUSE="0.005")
    wait_for(lambda: done(tmp_path / "s") >= 6 or run.poll() is not None, what="6 steps")
    parts.append(worker(address))
    wait_for(lambda: done(tmp_path / "s") >= 25 or run.poll() is not None, what="25 steps")
    parts[1].kill()
    out, errors = run.communicate(timeout=120)
    assert run.returncode == 0, errors
    assert json.loads(out)["verdicts"] == undisturbed[1]
    ends_as(undisturbed, tmp_path / "s")


def test_a_scheduler_that_goes_away(
    tmp_path: Path, undisturbed: tuple[Bits, Any], address: str, parts: list[subprocess.Popen[bytes]]
) -> None:
    parts += [scheduler(address), worker(address), worker(address)]
    run = start(tmp_path / "s", "--scheduler", address, FAULTY_PAUSE="0.01")
    wait_for(lambda: done(tmp_path / "s") >= 6 or run.poll() is not None, what="6 steps")
    parts[0].kill()
    _, errors = run.communicate(timeout=120)
    assert run.returncode != 0 and "got a scheduler that went away" in errors.splitlines()[-1]
    ends_as(undisturbed, tmp_path / "s")


def test_a_scheduler_that_was_never_there(tmp_path: Path, address: str) -> None:
    with pytest.raises(ValueError, match=r"asked for the scheduler at .*, got no answer"):
        faulty.study(tmp_path / "s").run(Where(scheduler=address))
