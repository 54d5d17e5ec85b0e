"""The file systems under a store: the same behaviour on a folder and on what fsspec opens."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import tiny

from ticketlab.errors import InputError
from ticketlab.experiment.files import UNFINISHED, Files, LocalFiles, RemoteFiles, open_files
from ticketlab.experiment.store import Store

FILES = {"result.json": b"{}", "tensors.safetensors": bytes(range(256))}


@pytest.fixture(params=["folder", "memory", "file"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    if request.param == "folder":
        return open_files(tmp_path / "here")
    if request.param == "file":
        return open_files(f"file://{tmp_path}/remote")
    return open_files(f"memory://{request.node.name}")


def test_kinds(tmp_path: Path) -> None:
    assert isinstance(open_files(tmp_path), LocalFiles) and isinstance(open_files("memory://x"), RemoteFiles)
    with pytest.raises(InputError, match="no file system for it"):
        open_files("nonsense://x")


def test_folders_are_whole_and_the_first_stays(files: Files) -> None:
    assert files.put_folder("steps/ab/abc", FILES)
    assert not files.put_folder("steps/ab/abc", {"result.json": b"other"})
    assert files.get("steps/ab/abc", "tensors.safetensors") == FILES["tensors.safetensors"]
    assert files.names("steps/ab/abc") == sorted(FILES) and files.has_folder("steps/ab/abc")
    assert files.put_folder("steps/aa/aaa", FILES) and files.put_folder("steps/ab/abb", FILES)
    assert list(files.folders("steps")) == ["steps/aa/aaa", "steps/ab/abb", "steps/ab/abc"]
    files.move_folder("steps/ab/abc", "damaged/abc-1")
    assert not files.has_folder("steps/ab/abc") and files.get("damaged/abc-1", "result.json") == b"{}"
    files.remove_folder("damaged/abc-1")
    assert not files.has_folder("damaged/abc-1") and list(files.folders("nothing")) == []


def test_what_is_missing(files: Files) -> None:
    files.put_folder("steps/ab/abc", FILES)
    for missing in (
        lambda: files.get("steps/ab/abc", "mask.safetensors"),
        lambda: files.get("steps/ab/other", "result.json"),
        lambda: files.names("steps/ab/other"),
        lambda: files.read("contents/x"),
    ):
        with pytest.raises(FileNotFoundError):
            missing()


def test_small_files(files: Files) -> None:
    files.write("contents/b", b"one")
    files.write("contents/a", b"two")
    files.write("contents/b", b"three")
    assert files.read("contents/b") == b"three" and list(files.files("contents")) == ["contents/a", "contents/b"]
    files.remove("contents/a")
    assert list(files.files("contents")) == ["contents/b"]


@pytest.mark.parametrize("moment", ["fsync", "rename"])
def test_a_kill_leaves_nothing_that_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    files = LocalFiles(tmp_path)

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, moment, killed)
        with pytest.raises(KeyboardInterrupt):
            files.put_folder("steps/ab/abc", FILES)
    (tmp_path / "steps" / "ab" / f"{UNFINISHED}left").mkdir(parents=True)
    assert list(files.folders("steps")) == [] and not files.has_folder("steps/ab/abc")


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = LocalFiles(tmp_path)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        for write in (lambda: files.put_folder("steps/ab/abc", FILES), lambda: files.write("contents/x", b"x")):
            with pytest.raises(OSError, match="No space"):
                write()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_of_many_writers_one_wins(tmp_path: Path) -> None:
    files, won = LocalFiles(tmp_path), []
    start = threading.Barrier(8)

    def write(number: int) -> None:
        start.wait()
        if files.put_folder("steps/ab/abc", {"result.json": b"%d" % number}):
            won.append(b"%d" % number)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and files.get("steps/ab/abc", "result.json") == won[0]


def test_a_damaged_object_is_an_error_that_a_store_mends(request: pytest.FixtureRequest) -> None:
    files = RemoteFiles(f"memory://{request.node.name}")
    files._fs.pipe_file(files._object("steps/ab/abc"), b"no zip")
    for read in (lambda: files.get("steps/ab/abc", "result.json"), lambda: files.names("steps/ab/abc")):
        with pytest.raises(OSError, match="damaged"):
            read()


def test_a_study_in_a_remote_store_is_the_same_study(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    place = f"memory://{request.node.name}"
    here = tiny.prepared(tmp_path / "a", ["snip"], checks=["rearrange"])
    there = tiny.prepared(tmp_path / "b", ["snip"], checks=["rearrange"], store=place)
    progress = tiny.Counter()
    assert here.run()["verdicts"] == there.run(1, progress)["verdicts"]
    assert progress.computed and not (tmp_path / "b" / "store").exists()
    again = tiny.Counter()
    # The folder knows where its steps are, and another study shares them.
    tiny.prepared(tmp_path / "b", ["snip"], checks=["rearrange"]).run(1, again)
    tiny.prepared(tmp_path / "c", ["snip"], checks=["rearrange"], store=place).run(1, again)
    assert not again.computed and list(Store(place).ids())
    with pytest.raises(InputError, match="whose steps are in memory://"):
        tiny.prepared(tmp_path / "b", ["snip"], checks=["rearrange"], store=str(tmp_path / "else"))
    with pytest.raises(InputError, match=r"whose steps are in .*/a/store"):
        tiny.prepared(tmp_path / "a", ["snip"], checks=["rearrange"], store=place)
