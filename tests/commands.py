"""What the tests of single commands share: a small request, and the ways to run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import tiny

from ticketlab.cli import main

FEW = ["--data", "digits", "--limit-train", "60", "--limit-test", "40", "--epochs", "2", "--batch-size", "15"]
SMALL = [*FEW, "--model", "tiny:net"]
# Ends itself, as a power cut would, right after as many steps as its first argument says were stored.
KILLED = """
import os, signal, sys
from ticketlab.cli import main
from ticketlab.experiment.store import Store
put, stored = Store.put, []
def last(*arguments, **options):
    put(*arguments, **options)
    stored.append(1)
    if len(stored) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
Store.put = last
sys.exit(main(sys.argv[2:]))
"""


def run(*arguments: str) -> int:
    """The exit code of a command, run here."""
    try:
        return main(list(arguments))
    except SystemExit as exit_:
        return int(exit_.code or 0)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The message of a command that must fail: exit 2, a few lines on stderr, nothing on stdout, no file."""
    before = sorted(Path().rglob("*"))
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and 1 <= len(err.splitlines()) <= 6, err
    assert "Traceback" not in err and sorted(Path().rglob("*")) == before
    return " ".join(err.split())


def kinds(folder: str = ".") -> Counter[str]:
    """How many steps of each kind were computed and kept under a folder."""
    records = [json.loads(path.read_text()) for path in Path(folder).rglob("store/steps/*/*/result.json")]
    return Counter(record["kind"] for record in records)


def in_a_process(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A script in a process of its own, with the tests' modules on its import path."""
    path = os.pathsep.join([str(Path(tiny.__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", script, *arguments], env=environment, capture_output=True, text=True)


def killed_after(steps: int, *arguments: str) -> int:
    """The exit code of a command in a process of its own that is killed after so many steps (0: never)."""
    return in_a_process(KILLED, str(steps), *arguments).returncode


def help_imports_nothing_heavy(command: str) -> None:
    """Help answers at once."""
    script = (
        "import sys\nfrom ticketlab.cli import main\n"
        f"try:\n    main(['{command}', '--help'])\nexcept SystemExit as e:\n    code = e.code\n"
        "heavy = {'torch', 'numpy', 'scipy', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "--method" in found.stdout and "--sparsity" in found.stdout and found.stderr == ""
