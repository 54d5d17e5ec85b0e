"""A study on which faults are practised: its model's module logs, slows down or kills the processes that import it.

What it does is asked for by environment variables, so that worker processes do it too:
FAULTY_LOG=FILE: a line for every step that was computed and stored; FAULTY_PAUSE=S: seconds of sleep in every forward
pass; FAULTY_KILL=FILE:N: kill -9 in the middle of the N-th write of a process that comes first to make the file.

As a program it runs the study: python -m faulty FOLDER, and options as below.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tiny
from torch import Tensor

from ticketlab.experiment import files, work
from ticketlab.experiment.prepared import Prepared
from ticketlab.experiment.where import Where

ASKED: dict[str, Any] = {
    "checks": ["corrupted", "rearrange"],
    "sparsity": [0.6],
    "checkpoint_every": 0.2,
    "engine": "tuned",
}
METHODS = ("snip", "lottery,rewind=1")


class Net(tiny.Net):
    """The tiny net, as slow as asked for."""

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(float(os.environ.get("FAULTY_PAUSE", "0")))
        return super().forward(x)


def net(num_classes: int) -> Net:
    """The factory."""
    return Net(num_classes)


class Wide(Net):
    """Another net of the same shapes, whose tickets come out differently."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * 1.5)


def wide(num_classes: int) -> Wide:
    """The factory of the other net."""
    return Wide(num_classes)


def deadly(model: Any, batches: Any, loss: Any) -> Mapping[str, Tensor]:
    """A score that kills its process."""
    os._exit(9)


def failing(model: Any, batches: Any, loss: Any) -> Mapping[str, Tensor]:
    """A score that never works."""
    raise RuntimeError("this score never works")


def study(folder: Path, **changes: Any) -> Prepared:
    """The study that could start."""
    methods = (*METHODS, failing) if changes.pop("fail", False) else changes.pop("methods", METHODS)
    return tiny.prepared(folder, methods, **{"model": net, **ASKED, **changes})


def _log(path: str) -> None:
    compute = work._compute

    def logged(rest: Sequence[Any], *arguments: Any) -> None:
        compute(rest, *arguments)
        with open(path, "a") as file:
            file.write("".join(f"{step.id}\n" for step, _ in rest))

    work._compute = logged


def _kill(asked: str) -> None:
    path, _, number = asked.rpartition(":")
    write, writes = files._write_through, []

    def killing(target: Path, content: bytes) -> None:
        writes.append(1)
        if len(writes) >= int(number):
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                pass
            else:
                target.write_bytes(content[: len(content) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
        write(target, content)

    files._write_through = killing


def install() -> None:
    """Do what the environment asks for."""
    if os.environ.get("FAULTY_LOG"):
        _log(os.environ["FAULTY_LOG"])
    if os.environ.get("FAULTY_KILL"):
        _kill(os.environ["FAULTY_KILL"])


# Once: as a program, this module is imported again under its own name, in workers too.
if __name__ == "faulty":
    install()


def main(arguments: Sequence[str]) -> int:
    """Run the study and print what came of it, but for times."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--scheduler")
    parser.add_argument("--slurm", action="store_true")
    parser.add_argument("--store")
    parser.add_argument("--fail", action="store_true")
    parser.add_argument("--wide", action="store_true")
    asked = parser.parse_args(arguments)
    found = study(asked.folder, store=asked.store, fail=asked.fail, model=wide if asked.wide else net)
    results = found.run(Where(asked.jobs, asked.scheduler, asked.slurm))
    print(json.dumps({"verdicts": results["verdicts"], "complete": results["complete"]}))
    return 0


if __name__ == "__main__":
    import faulty

    sys.exit(faulty.main(sys.argv[1:]))
