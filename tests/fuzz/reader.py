"""A reader under test: inputs for it, and what it may do with them."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from ticketlab.errors import InputError

from .guard import guarded


@dataclass(frozen=True)
class Reader:
    """Something that reads what came from outside.

    Attributes:
        whole: an input that is as it should be.
        inputs: such ones, damaged and lying ones.
        write: puts an input where it is read; not watched.
        read: reads it; raises InputError, and nothing else, or gives False, if it does not like it.
        code: whether it may import what its input names: only where that is the user's own text.
        weight: how many of the long run's inputs it gets, in relation to others.
    """

    name: str
    whole: Callable[[], Any]
    inputs: Callable[[], st.SearchStrategy[Any]]
    write: Callable[[Any, Path], None]
    read: Callable[[Path], object]
    weight: float = 1.0
    code: bool = False

    def outcome(self, value: Any) -> str:
        """Feed it an input in a folder that is empty before and after: "read" or "refused".

        Raises:
            Broken, or whatever the reader raised: it did what it may not do.
        """
        folder = _scratch()
        try:
            self.write(value, folder)
            there = {path.name for path in folder.iterdir()}
            # A warning is no crash for users, but it would be one here.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    with guarded(folder, self.code):
                        done = self.read(folder)
                except InputError as error:
                    # Some repeat what was typed; none the contents of a file.
                    assert len(str(error)) < 100_000, f"a message of {len(str(error))} characters"
                    done = False
            left = {path.name for path in folder.iterdir()} - there - {"tmp", "into"}
            assert not left, f"it left {sorted(left)}"
            assert not any((folder / "tmp").glob("ticketlab-import-*")), "it left a temporary folder"
        finally:
            _empty(folder)
        return "refused" if done is False else "read"


@functools.cache
def _scratch() -> Path:
    """One for all inputs: to make and remove a folder for each takes longer than to read it."""
    folder = Path(tempfile.mkdtemp(prefix="ticketlab-fuzz-"))
    (folder / "tmp").mkdir()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _empty(folder: Path) -> None:
    for path in (*folder.iterdir(), *(folder / "tmp").iterdir()):
        if path.is_dir() and not path.is_symlink():
            if path.name != "tmp":
                shutil.rmtree(path)
        else:
            path.unlink()


def file(name: str) -> Callable[[bytes, Path], None]:
    """Writes an input to a file of that name."""
    return lambda content, folder: (folder / name).write_bytes(content) and None
