"""Whatever readers of files from outside are given, they read it or say clearly why not. The same inputs always."""

from __future__ import annotations

from pathlib import Path

import pytest

from ticketlab.errors import InputError

from . import guard
from .guard import Broken, guarded
from .reader import Reader, file
from .readers import READERS
from .run import fuzz


@pytest.mark.parametrize("name", READERS)
def test_every_reader(name: str) -> None:
    reader = READERS[name]
    assert reader.outcome(reader.whole()) == "read"
    counted = fuzz(reader, round(60 + 10 * reader.weight))
    # Inputs that are all refused at the door would test the door alone.
    assert counted["read"] and counted["refused"]


def _reading(read: object) -> Reader:
    return Reader("made", lambda: b"", lambda: None, file("x"), read)  # type: ignore[arg-type]


def spin(folder: Path) -> None:
    while True:
        pass


def test_what_readers_may_not_do_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle
    import subprocess

    def hidden(folder: Path) -> None:
        try:
            (tmp_path / "escaped").write_bytes(b"")
        except AssertionError as error:
            raise InputError("taken for damage") from error

    def imports(folder: Path) -> None:
        import importlib

        importlib.import_module("fuzz_sentinel")

    def grows(folder: Path) -> None:
        bytearray(2 * guard.MEMORY)

    for read in (
        hidden,
        imports,
        lambda folder: subprocess.run(["true"]),
        lambda folder: pickle.loads(b"cos\ngetcwd\n."),
        lambda folder: (tmp_path / "made").mkdir(),
        lambda folder: Path("/dev/zero").open("rb").close(),
        lambda folder: (folder / "x").rename(tmp_path / "moved"),
        lambda folder: (folder / "link").symlink_to("/etc/passwd"),
    ):
        with pytest.raises(Broken):
            _reading(read).outcome(b"")
    monkeypatch.setattr(guard, "MEMORY", 1 << 28)
    with pytest.raises(MemoryError):
        _reading(grows).outcome(b"")
    monkeypatch.setattr(guard, "CPU_SECONDS", 0.2)
    with pytest.raises(Broken, match="more than"):
        _reading(spin).outcome(b"")
    with pytest.raises(AssertionError, match="it left"):
        _reading(lambda folder: (folder / "more").write_bytes(b"")).outcome(b"")
    assert not list(tmp_path.iterdir())


def test_nothing_stays_of_the_guard(tmp_path: Path) -> None:
    with guarded(tmp_path):
        pass
    (tmp_path.parent / "free").write_bytes(b"")
    assert _reading(lambda folder: None).outcome(b"") == "read"
    assert _reading(lambda folder: False).outcome(b"") == "refused"
