"""The compiled library: kept, keyed by what made it, refused where others could have put it, and done without."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from ticketlab.errors import InputError
from ticketlab.sparse import build, library

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


def test_a_file_that_is_no_library_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.so").write_bytes(b"nothing")
    with pytest.raises(InputError, match="asked to load"):
        library.Library(str(tmp_path / "x.so"))
