"""Clusters: who may compute, what steps ask of workers, and Slurm."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import dask
import faulty
import pytest
import tiny
from distributed import Client
from drivers import Bits, bits, done, scheduler, start, wait_for, worker

from ticketlab.errors import InputError
from ticketlab.experiment.driver import resources
from ticketlab.experiment.where import Where

Parts = list[subprocess.Popen[bytes]]


# Fewer instructions: the last bits of results differ.
OTHER = {"ATEN_CPU_CAPABILITY": "default"}


def test_workers_whose_bits_would_differ_are_refused(
    tmp_path: Path,
    address: str,
    parts: Parts,
) -> None:
    parts += [scheduler(address), worker(address, **OTHER)]
    with pytest.raises(InputError, match=r"asked for workers with instruction_set .* as here, got 'DEFAULT'"):
        faulty.study(tmp_path / "s").run(Where(scheduler=address))


def test_a_late_worker_whose_bits_would_differ_is_not_used(
    tmp_path: Path,
    address: str,
    parts: Parts,
    undisturbed: tuple[Bits, Any],
) -> None:
    parts += [scheduler(address), worker(address)]

    log = tmp_path / "log"

    class Late(tiny.Counter):
        def advance(self, *told: Any, **more: Any) -> None:
            super().advance(*told, **more)
            if len(self.computed) == 5:
                parts.append(worker(address, FAULTY_LOG=str(log), **OTHER))
                with Client(address, set_as_default=False) as client:
                    wait_for(lambda: len(client.nthreads()) == 2, what="the late worker")

    found = faulty.study(tmp_path / "s")
    results = found.run(Where(scheduler=address), Late())
    assert results["complete"] and results["verdicts"] == undisturbed[1]
    assert bits(found) == undisturbed[0]
    assert not log.exists()


def test_two_studies_of_one_cluster_and_one_store(
    tmp_path: Path, address: str, parts: Parts, undisturbed: tuple[Bits, Any]
) -> None:
    """Each is computed with its own model, whichever was there first."""
    parts += [scheduler(address), worker(address), worker(address)]
    shared = ("--scheduler", address, "--store", str(tmp_path / "shared"))
    runs = [start(tmp_path / "a", *shared, FAULTY_PAUSE="0.001"), start(tmp_path / "b", *shared, "--wide")]
    for run in runs:
        _, errors = run.communicate(timeout=240)
        assert run.returncode == 0, errors
    alone = faulty.study(tmp_path / "alone", model=faulty.wide)
    alone.run()
    assert bits(faulty.study(tmp_path / "a")) == undisturbed[0]
    assert bits(faulty.study(tmp_path / "b", model=faulty.wide)) == bits(alone) != undisturbed[0]


def test_two_drivers_of_one_study_on_one_cluster(
    tmp_path: Path, address: str, parts: Parts, undisturbed: tuple[Bits, Any]
) -> None:
    """One of them is asked to stop: the other one goes on, and nothing is done twice."""
    log = tmp_path / "log"
    parts += [scheduler(address), worker(address, FAULTY_LOG=str(log)), worker(address, FAULTY_LOG=str(log))]
    runs = [start(tmp_path / "s", "--scheduler", address, FAULTY_PAUSE="0.003") for _ in range(2)]
    wait_for(lambda: done(tmp_path / "s") >= 10, what="10 steps")
    runs[0].send_signal(signal.SIGINT)
    runs[0].communicate(timeout=120)
    _, errors = runs[1].communicate(timeout=240)
    assert runs[1].returncode == 0, errors
    assert max(Counter(log.read_text().split()).values()) == 1
    assert bits(faulty.study(tmp_path / "s")) == undisturbed[0]


@pytest.mark.slow
def test_a_step_that_kills_its_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only that step has failed: those beside it, which Dask blames too, are computed."""
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "1")
    dask.config.refresh()
    found = faulty.study(tmp_path / "s", methods=("snip", faulty.deadly), checks=["rearrange"])
    results = found.run(2)
    assert {f["label"].partition(",")[0] for f in results["failed"]} == {"deadly"}
    assert [v["n"] for v in results["verdicts"] if v["method"] == "snip"] == [3]


def test_a_folder_that_workers_do_not_see(tmp_path: Path, address: str, parts: Parts) -> None:
    pytest.importorskip("fsspec")
    parts += [scheduler(address), worker(address)]
    with pytest.raises(InputError, match=r"asked to keep results in memory://.*, got a worker at .* that does not see"):
        faulty.study(tmp_path / "s", store="memory://unseen").run(Where(scheduler=address))


class Declared:
    """A connection to a cluster whose workers declare these."""

    def __init__(self, *workers: dict[str, float]) -> None:
        self._workers = {str(k): {"resources": w} for k, w in enumerate(workers)}

    def scheduler_info(self, n_workers: int) -> dict[str, Any]:
        assert n_workers == -1
        return {"workers": self._workers}


def test_steps_ask_for_what_workers_declare() -> None:
    assert resources(Declared({}, {}), "cpu", 100) == {}
    assert resources(Declared({"CPU": 1, "GPU": 1}), "cpu", 100) == {"CPU": 1}
    assert resources(Declared({"GPU": 1}), "cuda", 100) == {"GPU": 1}
    assert resources(Declared({"MEMORY": 50}, {"MEMORY": 200, "CPU": 2}), "cpu", 100) == {"CPU": 1, "MEMORY": 100}


def test_what_no_worker_has_is_said_at_once() -> None:
    with pytest.raises(InputError, match="asked for --device cuda, got a cluster whose workers declare no GPU"):
        resources(Declared({"CPU": 1}), "cuda:0", 100)
    with pytest.raises(InputError, match=r"asked for workers with .*MEMORY.* 100.*at most .* 50"):
        resources(Declared({"MEMORY": 50}), "cpu", 100)


def test_two_clusters_at_once_are_refused() -> None:
    with pytest.raises(InputError, match="got two clusters"):
        Where(2, "tcp://127.0.0.1:1", slurm=True)


SBATCH = """#!{python}
# Runs the job here, as Slurm would elsewhere.
import subprocess, sys
job = subprocess.Popen(["bash", sys.argv[-1]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    start_new_session=True)
with open("{log}", "a") as log:
    log.write(open(sys.argv[-1]).read())
print("Submitted batch job", job.pid)
"""
SCANCEL = """#!{python}
import os, signal, sys
for job in sys.argv[1:]:
    try:
        os.killpg(int(job), signal.SIGTERM)
    except ProcessLookupError:
        pass
"""


def test_slurm_starts_the_workers(
    tmp_path: Path,
    undisturbed: tuple[Bits, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("dask_jobqueue")
    log = tmp_path / "log"
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text.format(python=sys.executable, log=log))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    run = subprocess.run(
        [sys.executable, "-m", "faulty", str(tmp_path / "s"), "--slurm", "--jobs", "2"],
        env={
            **os.environ,
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(Path(faulty.__file__).parent),
            "OMP_NUM_THREADS": "1",
            "DASK_JOBQUEUE__SLURM__QUEUE": "quick",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr
    assert bits(faulty.study(tmp_path / "s")) == undisturbed[0]
    script = log.read_text()
    assert script.count("#SBATCH -p quick") == 2 and "--nthreads 1" in script
    until = time.monotonic() + 60
    while subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True).stdout:
        assert time.monotonic() < until, "a job goes on after its study"
        time.sleep(0.2)
