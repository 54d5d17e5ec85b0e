"""The native kernels: those that came with the package, else compiled once here and kept in the user's cache folder."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from ticketlab.data import cache
from ticketlab.errors import InputError
from ticketlab.sparse import compiling
from ticketlab.sparse.compiling import SOURCES


def built(flags: Sequence[str] | None = None, *, packaged_too: bool = True) -> Path:
    """The compiled library: the package's own, or from the cache if this compiler made it of these sources before.

    Args:
        flags: further compiler flags; those of TICKETLAB_CXXFLAGS if None.
        packaged_too: whether the package's own will do.

    Raises:
        InputError: there is no compiler (CXX, else c++, g++ or clang++), or it fails, or the file that is there could
            have been put there by somebody else.
    """
    extra = tuple(shlex.split(os.environ.get("TICKETLAB_CXXFLAGS", "")) if flags is None else flags)
    if packaged_too and not extra and not os.environ.get("CXX") and (own := packaged()).exists():
        return own
    try:
        compiler = compiling.compiler()
        name = compiling.digest(compiling.version(compiler), sources=SOURCES, extra=extra)
        file = cache.folder() / "native" / f"sparse-{name}.so"
        if not file.exists():
            compiling.compile_library(compiler, SOURCES, extra, file)
    except compiling.CompilerError as error:
        raise InputError(str(error)) from error
    except OSError as error:
        raise InputError(f"asked to compile the native sparse kernels into {cache.folder()}, got: {error}") from error
    _check_owner(file)
    return file


def packaged() -> Path:
    """Where the package's own build puts the library, where it found a compiler."""
    return SOURCES / f"sparse-{compiling.digest(sources=SOURCES)}.so"


def _check_owner(file: Path) -> None:
    """Loading a library runs its code: a folder that others can write to is not the place for it."""
    if not hasattr(os, "getuid"):
        return
    for path in (file, file.parent):
        facts = path.stat()
        if facts.st_uid not in (0, os.getuid()) or facts.st_mode & 0o022:
            raise InputError(
                f"asked to load {path}, got one that others own or may write to: the cache folder "
                "(TICKETLAB_CACHE) must be your own."
            )
