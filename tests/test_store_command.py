"""``ticketlab store``: what a user sees and which exit code a script gets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny

from ticketlab.cli import main


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    tiny.prepared(folder, ["snip"], checks=["rearrange"]).run()
    return folder


def said(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    """What a command prints, after checking its exit code."""
    assert main([str(a) for a in ("store", *arguments)]) == code
    found = capsys.readouterr()
    return found.out + found.err


def test_ls(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = said(capsys, "ls", study)
    assert "train" in whole and "seed 2" in whole and said(capsys, "ls", study / "store") == whole
    found = json.loads(said(capsys, "ls", study, "--kind", "train", "--json"))
    assert found and {e["kind"] for e in found} == {"train"} and all(e["provenance"]["torch"] for e in found)


def test_verify(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ", 0 not as they were written" in said(capsys, "verify", study)
    shutil.copytree(study, tmp_path / "a")
    path = next((tmp_path / "a" / "store" / "steps").rglob("tensors.safetensors"))
    path.write_bytes(path.read_bytes()[:-1])
    text = said(capsys, "verify", tmp_path / "a", code=1)
    assert f"{path.parent.name}: tensors.safetensors is not as it was written" in text
    assert "1 not as they were written" in text
    # Looking changes nothing: running again does.
    assert "1 damaged" not in said(capsys, "ls", tmp_path / "a") and path.exists()


def test_gc(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(study, tmp_path / "a")
    assert "would remove 0 steps" in said(capsys, "gc", tmp_path / "a", "--dry-run")
    assert "kept what 1 studies and tables need" in said(capsys, "gc", tmp_path / "a")
    shutil.rmtree(tmp_path / "a" / "store" / "studies")
    assert "every step was kept" in said(capsys, "gc", tmp_path / "a")


def test_export_and_import(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "steps, " in said(capsys, "export", study, "--to", tmp_path / "a.zip")
    text = said(capsys, "import", tmp_path / "a.zip", "--into", tmp_path / "b")
    assert "0 known, 0 damaged, 0 differing" in text
    assert ", 0 not as they were written" in said(capsys, "verify", tmp_path / "b")
    assert "0 new" in said(capsys, "import", tmp_path / "a.zip", study, "--into", tmp_path / "b")
    (tmp_path / "bad.zip").write_bytes(b"PK")
    assert "asked for an archive" in said(capsys, "import", tmp_path / "bad.zip", "--into", tmp_path / "c", code=2)
    assert not (tmp_path / "c").exists()


def test_what_is_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for action in (("ls",), ("verify",), ("gc",), ("export", "--to", str(tmp_path / "x.zip"))):
        text = said(capsys, action[0], tmp_path / "none", *action[1:], code=2)
        assert "no finished steps there" in text
    assert not list(tmp_path.iterdir())


def test_a_folder_that_points_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared = tmp_path / "shared"
    tiny.prepared(tmp_path / "a", ["snip"], checks=["rearrange"], store=shared).run()
    assert said(capsys, "ls", tmp_path / "a") == said(capsys, "ls", shared)
    assert main(["show", str(tmp_path / "a")]) == 0
    assert "rearrange" in capsys.readouterr().out
    text = said(capsys, "import", tmp_path / "a", "--into", tmp_path / "b")
    assert "0 damaged" in text and "from" in text and " 0 new" not in text
