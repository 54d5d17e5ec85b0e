"""What a reader may not do, whatever it is given: run code, touch files elsewhere, hang, or take all memory."""

from __future__ import annotations

import os
import resource
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CPU_SECONDS = 20
MEMORY = 2 << 30  # bytes beyond what the process has
_NEVER = {
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "os.startfile", "pty.spawn",
    "subprocess.Popen", "pickle.find_class", "socket.connect", "socket.getaddrinfo", "ctypes.dlopen",
    "webbrowser.open", "urllib.Request", "code.__new__", "os.symlink", "os.link",
}  # fmt: skip
_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.chown", "os.truncate"}
# What libraries of our own load late. Nothing that a file names is among it.
_KNOWN = {"ticketlab", "numpy", "torch", "PIL", "pyarrow", "safetensors", "encodings"} | {*sys.stdlib_module_names}
_PROGRAMS = {"antigravity", "this", "idlelib", "turtledemo", "pdb", "webbrowser", "subprocess", "os", "posix", "nt"}
_READABLE = tuple(
    {os.path.realpath(p) for p in (sys.prefix, sys.base_prefix, "/proc", "/sys", "/usr", "/etc/localtime")}
    | {str(Path(__file__).resolve().parents[2])}
)


class Broken(AssertionError):
    """A reader did what it may not do."""


class _TooLong(BaseException):
    """Not an Exception: nothing may take it for bad input."""


class _Watch:
    """The folder to stay in while a reader runs, and what was seen to leave it."""

    folder: str | None = None
    code = False
    seen: list[str]

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event in _NEVER:
            self._refuse(f"{event}{arguments!r:.200}")
        elif event == "open":
            self._opened(*arguments)
        elif event in _CHANGES:
            # With a descriptor of a folder, names are relative to that: rmtree, in a folder that was opened before.
            at = [a for a in arguments if isinstance(a, int)]
            if all(a < 0 or event in ("os.mkdir", "os.chmod") for a in at):
                for path in arguments:
                    if isinstance(path, (str, bytes, os.PathLike)) and not self._inside(path):
                        self._refuse(f"{event} {path!r:.200}")

    def find_spec(self, name: str, *_: Any) -> None:
        """Asked by the import system, for statements and for importlib alike, about what was not imported before."""
        root = name.partition(".")[0]
        if self.folder is not None and not self.code and (root not in _KNOWN or root in _PROGRAMS):
            self._refuse(f"import {name}")

    def _opened(self, path: Any, mode: Any, flags: Any) -> None:
        if isinstance(path, int) or path is None or self._inside(path):
            return
        changes = bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
        if changes or not os.path.realpath(os.fsdecode(path)).startswith(_READABLE):
            self._refuse(f"open {path!r:.200} ({mode}, {flags})")

    def _inside(self, path: Any) -> bool:
        full = os.path.realpath(os.fsdecode(path))
        return full == self.folder or full.startswith(f"{self.folder}{os.sep}")

    def _refuse(self, what: str) -> None:
        self.seen.append(what)
        raise Broken(what)


_watch = _Watch()
_installed = False


@contextmanager
def guarded(folder: Path, code: bool = False) -> Iterator[None]:
    """Run a reader whose files lie in ``folder``; with ``code``, it may import what its input names.

    Raises:
        Broken: it ran code, imported, touched files elsewhere, or took more than ``CPU_SECONDS`` or ``MEMORY``.
    """
    global _installed
    if not _installed:
        # A hook stays for the life of the process; outside of this function it does nothing.
        sys.addaudithook(_watch)
        sys.meta_path.insert(0, _watch)
        _installed = True
    (folder / "tmp").mkdir(exist_ok=True)
    before = (tempfile.tempdir, os.environ.get("TICKETLAB_CACHE"), resource.getrlimit(resource.RLIMIT_AS))
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    tempfile.tempdir, os.environ["TICKETLAB_CACHE"] = str(folder / "tmp"), str(folder / "tmp")
    handler = signal.signal(signal.SIGPROF, _stop)
    _watch.seen, _watch.code = [], code
    try:
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, before[2][1]))
        # The processor's time: what else the machine does has no say.
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        _watch.folder = os.path.realpath(folder)
        try:
            yield
        finally:
            _watch.folder = None
            signal.setitimer(signal.ITIMER_PROF, 0)
    except _TooLong:
        raise Broken(f"it took more than {CPU_SECONDS} s") from None
    except Exception as error:
        # What was refused may have been taken for damage on its way up.
        if _watch.seen:
            raise Broken("; ".join(_watch.seen)) from error
        raise
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before[2])
        signal.signal(signal.SIGPROF, handler)
        tempfile.tempdir = before[0]
        if before[1] is None:
            del os.environ["TICKETLAB_CACHE"]
        else:
            os.environ["TICKETLAB_CACHE"] = before[1]
    if _watch.seen:
        raise Broken("; ".join(_watch.seen))


def _stop(number: int, frame: Any) -> None:
    raise _TooLong
