"""How the native kernels are compiled. Only the standard library: the package's own build runs this, without torch."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCES = Path(__file__).parent / "native"
_COMPILERS = ("c++", "g++", "clang++")
# Products and sums are joined where the source says so and nowhere else: what a compiler joins of its own would differ
# between a layer's forward and backward pass.
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-pthread")
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


class CompilerError(Exception):
    """There is no compiler, or it failed; the message says which and how."""


def source_files(sources: Path) -> list[Path]:
    """Everything that the library is made of."""
    return sorted((*sources.glob("*.cpp"), *sources.glob("*.hpp")))


def compiler() -> str:
    """The compiler to use: CXX, else the first of the usual ones.

    Raises:
        CompilerError: there is none.
    """
    asked = os.environ.get("CXX")
    for name in (asked,) if asked else _COMPILERS:
        if found := shutil.which(name):
            return found
    tried = asked or ", ".join(_COMPILERS)
    raise CompilerError(
        f"asked for the native sparse kernels, got no C++ compiler: tried {tried}. Install one, or set CXX."
    )


def version(compiler: str) -> str:
    """What a compiler says of itself."""
    return subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout


def commands(sources: Path, extra: Sequence[str]) -> list[list[str]]:
    """The arguments for one object file each; the names of the objects come last."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    common = [*FLAGS, *(("-DSPARSE_X86",) if x86 else ()), *extra, "-c"]
    # The kernels take longest, so they come first.
    jobs = [(_KERNELS, name, flags) for name, flags in (_X86 if x86 else {"plain": ()}).items()]
    others = (file for file in source_files(sources) if file.suffix == ".cpp" and file.name != _KERNELS)
    jobs += [(file.name, file.stem, ()) for file in others]
    return [[*common, *flags, source, "-o", f"{stem}.o"] for source, stem, flags in jobs]


def digest(*facts: object, sources: Path, extra: Sequence[str] = ()) -> str:
    """Of the sources, of how they are compiled here, and of further facts."""
    held = [(file.name, file.read_bytes()) for file in source_files(sources)]
    return hashlib.sha256(repr((facts, platform.machine(), commands(sources, extra), held)).encode()).hexdigest()[:24]


def compile_library(compiler: str, sources: Path, extra: Sequence[str], file: Path) -> None:
    """Compile the sources into a shared library; the file appears whole or not at all.

    Raises:
        CompilerError: with the compiler's words.
        OSError: the folder cannot be made or written.
    """
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:

        def run(arguments: list[str]) -> None:
            here = [compiler, *arguments[:-1], str(Path(folder) / arguments[-1])]
            done = subprocess.run(here, cwd=sources, capture_output=True, text=True, check=False)
            if done.returncode:
                raise CompilerError(
                    f"asked {compiler} for the native sparse kernels, got an error:\n{done.stderr.strip()[:2000]}"
                )

        made = commands(sources, extra)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(run, made))
        objects = [str(Path(folder) / arguments[-1]) for arguments in made]
        run(["-shared", "-pthread", *extra, *objects, "-o", "sparse.so"])
        # Under a umask that lets the group write, this would be refused when it is loaded.
        os.chmod(Path(folder) / "sparse.so", 0o755)
        os.replace(Path(folder) / "sparse.so", file)
