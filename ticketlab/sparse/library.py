"""The compiled library and its functions, as ctypes sees them."""

from __future__ import annotations

import ctypes
import functools
import os
from ctypes import POINTER, c_char_p, c_double, c_float, c_int, c_int64, c_void_p
from pathlib import Path

from ticketlab.errors import InputError, unknown
from ticketlab.sparse.build import built, packaged

# The instruction sets, in the library's numbering.
LEVELS = ("plain", "avx2", "avx512")


class LayerSpec(ctypes.Structure):
    """The library's structure of this name, field by field."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("source", "residual", "outputs", "columns")),
        *((name, ctypes.c_int32 * 2) for name in ("kernel", "stride", "padding", "dilation")),
        *((name, ctypes.c_int32) for name in ("groups", "linear", "bias", "norm", "affine", "relu", "pool", "frozen")),
        ("eps", c_double),
        ("momentum", c_double),
        ("kept", c_int64),
        ("positions", c_void_p),
    )


_INTS, _DOUBLES = POINTER(c_int), POINTER(c_double)
_SIGNATURES: dict[str, tuple[object, ...]] = {
    "new": (c_int, c_int, _INTS, c_int, c_int, c_int, POINTER(c_void_p)),
    "layer": (c_void_p, POINTER(LayerSpec), _INTS),
    "average": (c_void_p, c_int, _INTS),
    "maximum": (c_void_p, c_int, _INTS, c_int, _INTS),
    "build": (c_void_p,),
    "threads": (c_void_p, c_int),
    "choose": (c_void_p, c_int, c_int, _INTS),
    "choice": (c_void_p, c_int, c_int, _INTS),
    "possible": (c_void_p, c_int, c_int, _INTS, _INTS),
    "time": (c_void_p, c_int, c_int, c_int, _DOUBLES),
    "values": (c_void_p, c_int, c_int, c_int, POINTER(c_float), c_int64),
    "refresh": (c_void_p, c_int),
    "shape": (c_void_p, c_int, _INTS),
    "forward": (c_void_p, c_void_p, c_int, c_int),
    "loss": (c_void_p, c_void_p, c_void_p, _DOUBLES),
    "backward": (c_void_p, c_void_p),
    "update": (c_void_p, c_double, c_double, c_double, c_int),
    "output": (c_void_p, c_int, c_int, c_int, c_void_p),
}


class Library:
    """The functions by name, without their prefix; each raises InputError where the C function returns an error.

    ``name``: of its file, which tells it from those of other sources, compilers and flags.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        try:
            self._held = ctypes.CDLL(str(path))
        except OSError as error:
            raise InputError(f"asked to load the native sparse kernels, got: {error}") from error
        # Looked up once: a small network answers in the time of a few look-ups.
        self._functions = {name: getattr(self._held, f"sparse_{name}") for name in _SIGNATURES}
        for name, arguments in _SIGNATURES.items():
            self._functions[name].argtypes, self._functions[name].restype = arguments, c_int
        self._held.sparse_free.argtypes, self._held.sparse_free.restype = (c_void_p,), None
        self._held.sparse_error.argtypes, self._held.sparse_error.restype = (), c_char_p
        self._held.sparse_runs.argtypes = (c_int,)

    def call(self, name: str, *arguments: object) -> None:
        """Call a function.

        Raises:
            InputError: with the library's message.
        """
        if self._functions[name](*arguments):
            raise InputError(f"{self._held.sparse_error().decode()}.")

    def free(self, handle: c_void_p) -> None:
        """Give a network's memory back."""
        self._held.sparse_free(handle)

    def levels(self) -> tuple[str, ...]:
        """The instruction sets that this processor has, the widest last."""
        return tuple(name for number, name in enumerate(LEVELS) if self._held.sparse_runs(number))


@functools.lru_cache(1)
def library() -> Library:
    """The library, compiled if need be (half a minute, once for each compiler and version of ticketlab).

    Raises:
        InputError: it cannot be had; the message says why.
    """
    own = built()
    try:
        return Library(own)
    except InputError:
        if own != packaged():
            raise
        # Made on a newer system than this one: its own compiler may do better.
        return Library(built(packaged_too=False))


def missing() -> str | None:
    """Why the native kernels cannot be had here, or None if they can: callers say so and train dense."""
    try:
        library()
    except InputError as error:
        return str(error)
    return None


def level(asked: str | None = None) -> str:
    """The instruction set to use: the one asked for, else that of TICKETLAB_SPARSE_LEVEL, else the widest.

    Raises:
        InputError: this processor does not have it.
    """
    asked = asked or os.environ.get("TICKETLAB_SPARSE_LEVEL")
    here = library().levels()
    if asked is None:
        return here[-1]
    if asked not in LEVELS:
        raise unknown("instruction set", asked, LEVELS)
    if asked not in here:
        raise InputError(f"asked for {asked} kernels, got a processor that has {', '.join(here)} only.")
    return asked
