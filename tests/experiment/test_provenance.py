"""Provenance: it says which code and what kind of machine, and nothing of whose."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from ticketlab import __version__
from ticketlab.experiment import provenance as module
from ticketlab.experiment.provenance import commit, provenance

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(folder: Path, *arguments: str) -> str:
    own = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *own, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "code.py").write_text("1\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def test_plain_values_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    found = provenance()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["ticketlab"] == __version__ and found["torch"] == str(torch.__version__)
    assert found["python"] == platform.python_version() and found["machine"] and found["cores"] >= 1
    assert "gpu" not in found
    found["machine"] = "changed by the caller"
    monkeypatch.setattr(module, "commit", lambda _: pytest.fail("looked up twice"))
    assert provenance()["machine"] != found["machine"]


def test_nobody_is_named() -> None:
    values = [str(value) for value in provenance().values()]
    words = {word for value in values for word in value.split()}
    assert platform.node() not in words
    assert not any("/" in value for value in values if not value.startswith("AMD"))


def test_a_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU of {device}")
    assert module._provenance.__wrapped__("cuda:1")["gpu"] == "GPU of cuda:1"


@needs_git
def test_commit_and_changes(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    # Inside of a hook git's variables name another repository; a tag is no commit.
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert commit(checkout) == head
    monkeypatch.delenv("GIT_DIR")
    git(checkout, "tag", "-a", "v1", "-m", "v1")
    (checkout / "notes.txt").write_text("not tracked")
    assert commit(checkout) == head
    (checkout / "code.py").write_text("2\n")
    assert commit(checkout) == f"{head}+changes"
    git(checkout, "worktree", "add", "-q", "../other")
    assert commit(checkout.parent / "other") == head


@needs_git
def test_inside_of_another_projects_checkout_there_is_no_commit(checkout: Path) -> None:
    installed = checkout / "site-packages"
    installed.mkdir()
    assert commit(installed) is None


@needs_git
def test_git_that_cannot_say(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / ".git" / "HEAD").write_text("nonsense")
    assert commit(checkout) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit(checkout) is None

    def slow(*arguments: object, **options: object) -> None:
        raise subprocess.TimeoutExpired("git", 10)

    monkeypatch.setattr(subprocess, "run", slow)
    assert commit(checkout) is None


def test_processors_that_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(path: Path) -> str:
        raise OSError

    monkeypatch.setattr(Path, "read_text", unreadable)
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert module.processor() == platform.machine()
