"""Chaos: a study, and something that goes wrong at a random moment, again and again.

    python tests/chaos.py [--rounds 200] [--minutes 60] [--seed 0] [--only FAULT ...]

A round starts a study, lets a fault happen to it at a random point of its work, and runs it again without one. It must
then have exactly the results of an undisturbed run, every byte in the store as it was written, and no step may have
been computed twice that was stored once (but for those whose stored results were damaged on purpose). Prints a line a
round, and at the end how many rounds each fault had. Rounds whose fault came too late do not count. Stops at the first
round that goes wrong, with its seed, and leaves its folder.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Workers are forked from one process that has everything imported: a round takes seconds then.
os.environ.setdefault("DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD", "forkserver")
TESTS = Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS))
os.environ["PYTHONPATH"] = str(TESTS)

import faulty  # noqa: E402
import torch  # noqa: E402
from drivers import done, free_address, group, outcome, scheduler, worker  # noqa: E402

from ticketlab.experiment.store import Store  # noqa: E402
from ticketlab.experiment.upkeep import verify  # noqa: E402

torch.set_num_threads(1)
# Of the study.
STEPS = 66
# Long enough for a slow machine; a driver that hangs is a finding.
PATIENCE = 180.0


class Round:
    """One study and what happens to it."""

    def __init__(self, folder: Path, draw: random.Random) -> None:
        self.folder = folder
        self.draw = draw
        self.log = folder / "log"
        self.damaged: set[str] = set()
        # Whether the fault fell into the work, and not before or after it.
        self.hit = False
        self._children: list[int] = []

    @property
    def study(self) -> Path:
        return self.folder / "s"

    def start(self, *options: str, **environment: str) -> int:
        """A driver, forked: the id of its process, which leads a group."""
        child = os.fork()
        if child:
            self._children.append(child)
            return child
        try:
            os.setsid()
            output = os.open(self.folder / "output", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.environ.update({"FAULTY_LOG": str(self.log), **environment})
            signal.signal(signal.SIGINT, signal.default_int_handler)
            import multiprocessing

            multiprocessing.get_context("forkserver").set_forkserver_preload(["faulty", "distributed"])
            faulty.install()
            code = faulty.main([str(self.study), *options])
            sys.stdout.flush()
            os._exit(code)
        except KeyboardInterrupt:
            os._exit(130)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)

    def wait(self, child: int) -> int:
        """Its exit code; negative for a signal. A driver that never ends is killed, and an error."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                self._children.remove(child)
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        raise AssertionError("a driver hangs")

    def midway(self, child: int, latest: float = 1.0) -> None:
        """Wait until a driver has stored a random number of steps, and a little more; ``latest``: a share of all."""
        wanted, until = self.draw.randint(1, int(latest * (STEPS - 6))), time.monotonic() + PATIENCE
        while done(self.study) < wanted and time.monotonic() < until:
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return
            time.sleep(0.005)
        time.sleep(self.draw.uniform(0, 0.05))

    def workers(self, driver: int) -> list[int]:
        """The worker processes of a driver."""
        # Its children only keep book, and fork the workers.
        return [pid for pid, parent in group(driver).items() if driver not in (pid, parent)]

    def end(self) -> None:
        """Nothing of it may go on."""
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)


def killed_driver(r: Round, jobs: str) -> None:
    child = r.start("--jobs", jobs)
    r.midway(child)
    os.kill(child, signal.SIGKILL)
    r.hit = r.wait(child) == -signal.SIGKILL


def killed_in_a_write(r: Round, jobs: str) -> None:
    child = r.start("--jobs", jobs, FAULTY_KILL=f"{r.folder / 'killed'}:{r.draw.randint(1, 60 // int(jobs))}")
    code = r.wait(child)
    assert code in ((-signal.SIGKILL, 0) if jobs == "1" else (0,)), f"exit code {code}"
    r.hit = (r.folder / "killed").exists()


def killed_worker(r: Round) -> None:
    child = r.start("--jobs", "2", FAULTY_PAUSE="0.001")
    r.midway(child)
    found = r.workers(child)
    if found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(r.draw.choice(found), signal.SIGKILL)
            r.hit = True
    code = r.wait(child)
    assert code == 0, f"exit code {code}"


def interrupted(r: Round, jobs: str) -> None:
    child = r.start("--jobs", jobs)
    for _ in range(r.draw.randint(1, 3)):
        r.midway(child, 0.5)
        try:
            os.killpg(child, signal.SIGINT)
        except ProcessLookupError:
            break
    code = r.wait(child)
    assert code in (0, 130), f"exit code {code}"
    r.hit = code == 130


def two_drivers(r: Round, jobs: str) -> None:
    first = r.start("--jobs", jobs)
    r.midway(first, 0.5)
    second = r.start("--jobs", jobs)
    if r.draw.random() < 0.5:
        r.midway(second)
        os.kill(first, signal.SIGKILL)
        r.wait(first)
    else:
        assert r.wait(first) == 0
    assert r.wait(second) == 0
    r.hit = True


def damaged(r: Round) -> None:
    """Some of a study, then a file that is cut off, flipped, emptied or gone."""
    child = r.start()
    r.midway(child)
    os.kill(child, signal.SIGKILL)
    r.wait(child)
    files = [p for p in (r.study / "store").rglob("*") if p.is_file()] if done(r.study) else []
    for path in r.draw.sample(files, min(len(files), r.draw.randint(1, 4))):
        content = bytearray(path.read_bytes())
        r.damaged.add(path.parent.name)
        way = r.draw.randrange(4)
        if way == 0:
            path.write_bytes(content[: r.draw.randrange(len(content) + 1)])
        elif way == 1 and content:
            content[r.draw.randrange(len(content))] ^= 1 << r.draw.randrange(8)
            path.write_bytes(content)
        elif way == 2:
            path.write_bytes(b"")
        else:
            path.unlink()
    r.hit = bool(r.damaged)


def full_disk(r: Round) -> None:
    small = r.study
    small.mkdir()
    size = f"size={r.draw.randint(200, 1200)}k"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(small)], capture_output=True).returncode:
        small.rmdir()
        return
    try:
        code = r.wait(r.start())
        assert code in (0, 1), f"exit code {code}"
        r.hit = code == 1
        kept = r.folder / "kept"
        shutil.copytree(small, kept)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
    small.rmdir()
    kept.rename(small)


def cluster(r: Round) -> None:
    """A scheduler and workers started by hand; one of them goes away, another one comes late."""
    address, log = free_address(), str(r.log)
    lost = r.draw.choice(["scheduler", "worker", "nobody"])
    parts = [scheduler(address), worker(address, FAULTY_LOG=log)]
    try:
        child = r.start("--scheduler", address, FAULTY_PAUSE="0.001")
        r.midway(child, 0.4)
        parts.append(worker(address, FAULTY_LOG=log))
        r.midway(child)
        if lost != "nobody":
            parts[0 if lost == "scheduler" else 1].kill()
        code = r.wait(child)
        assert code == 0 or lost == "scheduler", f"exit code {code}"
        r.hit = True
    finally:
        for one in parts:
            one.kill()
            one.wait()


FAULTS: dict[str, tuple[Callable[[Round], None], int]] = {
    "the driver is killed": (lambda r: killed_driver(r, "1"), 4),
    "the driver of two workers is killed": (lambda r: killed_driver(r, "2"), 2),
    "a driver dies in a write": (lambda r: killed_in_a_write(r, "1"), 4),
    "a worker dies in a write": (lambda r: killed_in_a_write(r, "2"), 2),
    "a worker is killed": (killed_worker, 2),
    "Ctrl-C": (lambda r: interrupted(r, "1"), 3),
    "Ctrl-C with two workers": (lambda r: interrupted(r, "2"), 2),
    "two drivers": (lambda r: two_drivers(r, "1"), 3),
    "two drivers of two workers": (lambda r: two_drivers(r, "2"), 1),
    "files are damaged": (damaged, 4),
    "the disk is full": (full_disk, 2),
    "a cluster loses a part": (cluster, 1),
}


def one_round(name: str, number: int, seed: int, wanted: tuple[object, object], place: Path) -> bool:
    """A fault, then an undisturbed run, then everything that must be true. Whether the fault fell into the work."""
    folder = place / f"round-{number}"
    folder.mkdir()
    r = Round(folder, random.Random(f"{seed}-{number}"))
    try:
        FAULTS[name][0](r)
    finally:
        r.end()
    before = set(Store(r.study / "store").ids())
    assert outcome(r.study) == wanted, "other results than those of an undisturbed run"
    # What was damaged and is not needed any more stays, for `store verify` to find.
    spoiled = {*r.damaged, "contents"}
    findings = [f for f in verify(Store(r.study / "store")).findings if not spoiled & {*f.name.split("/")}]
    assert not findings, f"damage: {findings[0]}"
    counts = Counter(r.log.read_text().split()) if r.log.exists() else Counter()
    twice = [step for step, n in counts.items() if n > 1 and step not in r.damaged]
    assert not twice, f"{len(twice)} steps were computed twice"
    assert before or not counts or r.damaged, "what was computed is gone"
    shutil.rmtree(folder)
    return r.hit


def main() -> int:
    """Rounds until there are enough, or the time is up."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=200)
    options.add_argument("--minutes", type=float, default=60.0)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", nargs="+", choices=list(FAULTS), metavar="FAULT")
    asked = options.parse_args()
    place = Path(tempfile.mkdtemp(prefix="ticketlab-chaos-"))
    wanted = outcome(place / "undisturbed")
    draw = random.Random(asked.seed)
    began, counts, number = time.monotonic(), Counter[str](), 0
    names = asked.only or list(FAULTS)
    while sum(counts.values()) < asked.rounds:
        number += 1
        if time.monotonic() - began > 60 * asked.minutes:
            print(f"the time is up after {number} rounds", flush=True)
            break
        name = draw.choices(names, [FAULTS[n][1] for n in names])[0]
        started = time.monotonic()
        try:
            hit = one_round(name, number, asked.seed, wanted, place)
        except Exception as error:
            print(f"round {number}: {name}: {type(error).__name__}: {error} (seed {asked.seed}; see {place})")
            raise
        counts[name] += hit
        said = "as it should be" if hit else "missed: it came too late, or cannot be had here"
        print(f"round {number}: {name}: {said} ({time.monotonic() - started:.1f} s)", flush=True)
    for name, n in sorted(counts.items()):
        print(f"{n:5} {name}")
    minutes = (time.monotonic() - began) / 60
    print(f"{sum(counts.values())} rounds with a fault, of {number}, in {minutes:.1f} minutes: nothing lost")
    shutil.rmtree(place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
