"""The native kernels, compiled once with the system's compiler and kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ticketlab.data import cache
from ticketlab.errors import InputError

SOURCES = Path(__file__).parent / "native"
_COMPILERS = ("c++", "g++", "clang++")
# Products and sums are joined where the source says so and nowhere else: what a compiler joins of its own would differ
# between a layer's forward and backward pass.
_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-pthread")
# The file that is compiled once for each instruction set. Its warnings about the compiler's own headers are not ours.
_KERNELS = "level.cpp"
_X86: dict[str, tuple[str, ...]] = {
    "plain": (),
    "avx2": ("-DSPARSE_AVX2", "-mavx2", "-mfma"),
    "avx512": (
        *("-DSPARSE_AVX512", "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma"),
        *("-Wno-uninitialized", "-Wno-maybe-uninitialized"),
    ),
}


def built(flags: Sequence[str] | None = None) -> Path:
    """The compiled library, from the cache if this compiler made it of these sources before.

    Args:
        flags: further compiler flags; those of TICKETLAB_CXXFLAGS if None.

    Raises:
        InputError: there is no compiler (CXX, else c++, g++ or clang++), or it fails, or the file that is there could
            have been put there by somebody else.
    """
    extra = tuple(shlex.split(os.environ.get("TICKETLAB_CXXFLAGS", "")) if flags is None else flags)
    compiler = _compiler()
    commands = _commands(compiler, extra)
    facts = [_version(compiler), platform.machine(), commands, [(f.name, f.read_bytes()) for f in _files()]]
    file = cache.folder() / "native" / f"sparse-{hashlib.sha256(repr(facts).encode()).hexdigest()[:24]}.so"
    if not file.exists():
        _compile(compiler, commands, extra, file)
    _check_owner(file)
    return file


def _files() -> list[Path]:
    return sorted((*SOURCES.glob("*.cpp"), *SOURCES.glob("*.hpp")))


def _compiler() -> str:
    asked = os.environ.get("CXX")
    for name in (asked,) if asked else _COMPILERS:
        if found := shutil.which(name):
            return found
    tried = asked or ", ".join(_COMPILERS)
    raise InputError(
        f"asked for the native sparse kernels, got no C++ compiler: tried {tried}. Install one, or set CXX."
    )


def _version(compiler: str) -> str:
    return subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout


def _commands(compiler: str, extra: Sequence[str]) -> list[list[str]]:
    """One command per object file; the names of the objects are the last arguments."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    common = [compiler, *_FLAGS, *(("-DSPARSE_X86",) if x86 else ()), *extra, "-c"]
    # The kernels take longest, so they come first.
    jobs = [(_KERNELS, name, flags) for name, flags in (_X86 if x86 else {"plain": ()}).items()]
    jobs += [(file.name, file.stem, ()) for file in _files() if file.suffix == ".cpp" and file.name != _KERNELS]
    return [[*common, *flags, source, "-o", f"{stem}.o"] for source, stem, flags in jobs]


def _compile(compiler: str, commands: list[list[str]], extra: Sequence[str], file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:

            def run(command: list[str]) -> None:
                here = [*command[:-1], str(Path(folder) / command[-1])]
                done = subprocess.run(here, cwd=SOURCES, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise InputError(
                        f"asked {compiler} for the native sparse kernels, got an error:\n{done.stderr.strip()[:2000]}"
                    )

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                list(pool.map(run, commands))
            objects = [str(Path(folder) / command[-1]) for command in commands]
            run([compiler, "-shared", "-pthread", *extra, *objects, "-o", "sparse.so"])
            # Under a umask that lets the group write, this would be refused when it is loaded.
            os.chmod(Path(folder) / "sparse.so", 0o755)
            os.replace(Path(folder) / "sparse.so", file)
    except OSError as error:
        raise InputError(f"asked to compile the native sparse kernels into {file.parent}, got: {error}") from error


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
