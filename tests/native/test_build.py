"""The compiled library: kept, keyed by what made it, refused where others could have put it, and done without."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ticketlab.errors import InputError
from ticketlab.sparse import build, compiling, library

ROOT = Path(__file__).parents[2]

# One function instead of all the kernels, so that a test compiles in no time.
TINY = 'extern "C" __attribute__((visibility("default"))) int answer() { return ANSWER; }\n'


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Other sources and another cache; the kernels' file is compiled once for each instruction set here too."""
    sources = tmp_path / "native"
    sources.mkdir()
    (sources / "answer.cpp").write_text(TINY)
    (sources / "level.cpp").write_text("")
    monkeypatch.setattr(build, "SOURCES", sources)
    monkeypatch.setenv("TICKETLAB_CACHE", str(tmp_path / "cache"))
    return sources


def needs_compiler() -> None:
    if (why := library.missing()) and "compiler" in why:
        pytest.skip(why)


def test_the_library_is_compiled_once_for_its_sources_and_flags(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_compiler()
    first = build.built(["-DANSWER=42"])
    assert ctypes.CDLL(str(first)).answer() == 42
    made = first.stat().st_mtime_ns
    assert build.built(["-DANSWER=42"]) == first and first.stat().st_mtime_ns == made
    assert ctypes.CDLL(str(build.built(["-DANSWER=43"]))).answer() == 43
    monkeypatch.setenv("TICKETLAB_CXXFLAGS", "-DANSWER=42")
    assert build.built() == first
    (tiny / "answer.cpp").write_text(TINY.replace("ANSWER;", "ANSWER + 1;"))
    assert ctypes.CDLL(str(build.built())).answer() == 43
    # Nothing but libraries is left behind.
    assert {file.suffix for file in first.parent.iterdir()} == {".so"}


def test_a_compiler_that_is_not_there_or_fails_is_said(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_compiler()
    with pytest.raises(InputError, match="ANSWER"):
        build.built([])
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match="no-such-compiler"):
        build.built([])
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tiny))
    with pytest.raises(InputError, match="no C\\+\\+ compiler: tried c\\+\\+"):
        build.built([])
    # The library that other tests hold stays where it is.
    monkeypatch.setattr(library, "library", library.library.__wrapped__)
    assert "no C++ compiler" in (library.missing() or "")


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners here")
def test_a_library_that_others_may_write_is_not_loaded(tiny: Path) -> None:
    needs_compiler()
    mask = os.umask(0o002)
    try:
        file = build.built(["-DANSWER=42"])
    finally:
        os.umask(mask)
    for path in (file, file.parent):
        before = path.stat().st_mode
        path.chmod(0o777)
        with pytest.raises(InputError, match="may write to"):
            build.built(["-DANSWER=42"])
        path.chmod(before)
    assert build.built(["-DANSWER=42"]) == file


def test_what_came_with_the_package_is_used_while_it_fits(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_compiler()
    (tiny / "answer.cpp").write_text(TINY.replace("ANSWER", "42"))
    own = build.packaged()
    assert build.built().parent != own.parent
    compiling.compile_library(compiling.compiler(), tiny, (), own)
    assert build.built() == own and ctypes.CDLL(str(own)).answer() == 42
    # Flags or a compiler of one's own want a library of one's own, and so do other sources.
    assert build.built(["-DX"]) != own
    monkeypatch.setenv("CXX", compiling.compiler())
    assert build.built() != own
    monkeypatch.delenv("CXX")
    (tiny / "answer.cpp").write_text(TINY.replace("ANSWER", "43"))
    assert build.packaged() != own and ctypes.CDLL(str(build.built())).answer() == 43


@pytest.mark.slow
def test_a_wheel_brings_its_kernels(tmp_path: Path) -> None:
    """Built where a compiler is, it needs none where it is installed; built without one, it is for any platform."""
    needs_compiler()
    pytest.importorskip("setuptools", "70.1")
    for name, path, tags in (("with", None, "py3-none-linux"), ("without", str(tmp_path), "py3-none-any")):
        source = tmp_path / name
        shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "runs", "build", "*.egg-info"))
        command = [sys.executable, "-m", "pip", "wheel", ".", "--no-build-isolation", "--no-deps", "-q", "-w", "wheels"]
        environment = {**os.environ, **({} if path is None else {"PATH": path})}
        subprocess.run(command, cwd=source, env=environment, check=True)
        (wheel,) = (source / "wheels").glob("*.whl")
        assert tags in wheel.name
        installed = tmp_path / f"{name}-installed"
        zipfile.ZipFile(wheel).extractall(installed)
        code = "from ticketlab.sparse.build import built; print(built())"
        bare = {
            **os.environ,
            "PYTHONPATH": str(installed),
            "PATH": str(tmp_path),
            "TICKETLAB_CACHE": str(tmp_path / "c"),
        }
        done = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, cwd=tmp_path)
        if path is None:
            assert Path(done.stdout.strip()).is_relative_to(installed)
        else:
            assert "no C++ compiler" in done.stderr


def test_a_file_that_is_no_library_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.so").write_bytes(b"nothing")
    with pytest.raises(InputError, match="asked to load"):
        library.Library(tmp_path / "x.so")
