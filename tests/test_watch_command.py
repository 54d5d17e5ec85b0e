"""``ticketlab watch``: what a script gets, and what a terminal shows until the end or Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
from commands import refused, run

from ticketlab.experiment.store import path_of


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "s"
    tiny.prepared(folder, ["magnitude"], checks=["rearrange"]).run()
    return folder


class Terminal:
    """The command on a terminal of its own."""

    def __init__(self, *arguments: object) -> None:
        self._end, there = pty.openpty()
        command = [sys.executable, "-m", "ticketlab", "watch", *map(str, arguments)]
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "40", "PYTHONIOENCODING": "utf-8"}
        environment.pop("NO_COLOR", None)
        self.process = subprocess.Popen(
            command,
            stdin=there,
            stdout=there,
            stderr=there,
            env=environment,
            start_new_session=True,
            # Tests that run in the background ignore it, and so would their children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        os.close(there)
        self.text = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()

    def shows(self, words: str) -> bool:
        """Wait until it says so; False if it ends or stays silent for a minute before."""
        until = time.monotonic() + 60
        while words not in self.text and time.monotonic() < until:
            if select.select([self._end], [], [], 1)[0]:
                try:
                    self.text += os.read(self._end, 65536).decode("utf-8", "replace")
                except OSError:
                    break
        return words in self.text

    def end(self) -> int:
        """Its exit code; all it has said is in ``text``."""
        self.shows("\0")
        os.close(self._end)
        return self.process.wait(60)


def test_once(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not on a terminal: one plain block, no escapes."""
    assert run("watch", str(study)) == 0
    out, err = capsys.readouterr()
    assert "\x1b" not in out and err == "" and out.splitlines()[0] == "magnitude on tiny / net"
    assert "21 of 21 steps, 100%" in out and "The answer" in out
    assert run("watch", str(study), "--once") == 0
    ago = re.compile(r"(started )?\w+( \w+)? ago")
    assert ago.sub("", capsys.readouterr().out) == ago.sub("", out)


def test_json(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("watch", str(study), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["begun"] and found["complete"] and found["done"] == found["total"] == 21
    assert found["kinds"]["train"] == {"done": 9, "total": 9}
    assert run("watch", str(tmp_path), "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"begun": False, "folder": str(tmp_path)}


def test_nothing_has_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("watch", str(tmp_path)) == 0
    assert capsys.readouterr().out == f"nothing has begun in {tmp_path} yet: no study and no table is there\n"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nowhere"], "asked to watch nowhere, got no such folder"),
        (["file"], "asked to watch file, got no folder"),
        (["s3://bucket/a"], "got no folder: name that of a study"),
        (["empty", "--every", "0"], "asked to look every 0 seconds"),
        (["empty", "--every", "nan"], "asked to look every nan seconds"),
        (["damaged"], "got a file that cannot be read"),
    ],
)
def test_bad_input(
    arguments: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    Path("empty").mkdir()
    Path("damaged").mkdir()
    Path("damaged/study.json").write_text("{")
    assert named in refused(capsys, "watch", *arguments)


def test_it_ends_with_the_study(study: Path, tmp_path: Path) -> None:
    """It waits for a study to begin, sees it advance, and ends when all is done."""
    there = tmp_path / "s"
    with Terminal(there, "--every", "0.1") as terminal:
        assert terminal.shows("nothing has begun")
        there.mkdir()
        (there / "study.json").write_bytes((study / "study.json").read_bytes())
        assert terminal.shows("0 of 21 steps")
        for path in sorted((study / "store" / "steps").glob("*/*")):
            to = there / "store" / path_of(path.name)
            to.parent.mkdir(parents=True, exist_ok=True)
            # As runs do: a step's folder appears whole.
            shutil.copytree(path, there / "scratch")
            (there / "scratch").rename(to)
        assert terminal.end() == 0
    assert "21 of 21 steps, 100%" in terminal.text and "The answer" in terminal.text
    assert "Traceback" not in terminal.text


def test_ctrl_c(study: Path, tmp_path: Path) -> None:
    (tmp_path / "study.json").write_bytes((study / "study.json").read_bytes())
    with Terminal(tmp_path) as terminal:
        assert terminal.shows("0 of 21 steps")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 0
    assert "Traceback" not in terminal.text and "stopped" not in terminal.text
    assert [p.name for p in tmp_path.iterdir()] == ["study.json"]
