"""What `pip install` does for the kernels: compile them where there is a compiler, so that nobody waits at first use.

Loaded by setuptools from its path, without the package around it.
"""

from __future__ import annotations

import importlib.util
from contextlib import suppress
from pathlib import Path
from typing import Any

from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

_HERE = Path(__file__).parent


def _compiling() -> Any:
    spec = importlib.util.spec_from_file_location("ticketlab_compiling", _HERE / "compiling.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class WithKernels(build_py):
    """Copies the package, and compiles the kernels into the copy."""

    def run(self) -> None:
        """Without a compiler the package is built all the same: it looks for one again when it is used."""
        super().run()
        if self.editable_mode:
            return
        compiling = _compiling()
        sources = Path(self.build_lib).resolve() / "ticketlab" / "sparse" / "native"
        for stale in sources.glob("sparse-*.so"):
            stale.unlink()
        try:
            name = f"sparse-{compiling.digest(sources=sources)}.so"
            compiling.compile_library(compiling.compiler(), sources, (), sources / name)
            print(f"ticketlab: native kernels compiled into {name}")
        except (compiling.CompilerError, OSError) as error:
            print(f"ticketlab: built without native kernels: {error}")


class Wheel(bdist_wheel):
    """Named after the platform where kernels are in it; they are called through ctypes, so any Python may load them."""

    def finalize_options(self) -> None:
        """The name is settled before the package is built: whether there is a compiler is asked here."""
        compiling = _compiling()
        with suppress(compiling.CompilerError):
            compiling.compiler()
            self.distribution.has_ext_modules = lambda: True
        super().finalize_options()

    def get_tag(self) -> tuple[str, str, str]:
        """Tags of the wheel."""
        python, abi, system = super().get_tag()
        return (python, abi, system) if self.root_is_pure else ("py3", "none", system)
