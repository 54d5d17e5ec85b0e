"""Pickles from elsewhere, read without running anything that they name."""

from __future__ import annotations

import codecs
import math
import pickle
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np

from ticketlab.errors import InputError


class _Fixed:
    """What a pickle may call. It has no state, so that a pickle cannot change it."""

    __slots__ = ("_do",)

    def __init__(self, do: Callable[..., Any]) -> None:
        self._do = do

    def __call__(self, *arguments: Any) -> Any:
        return self._do(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it changes what arrays are made with")


class _Kind:
    """In place of ``numpy.dtype``, whose own state may claim that pointers are plain bytes: numbers and truth only."""

    __slots__ = ("dtype",)

    def __init__(self, name: Any, *_: Any) -> None:
        self.dtype: np.dtype[Any] = np.dtype(_text(name))
        if self.dtype.kind not in "biuf":
            raise pickle.UnpicklingError(f"{name!r:.40} is no type of numbers")

    def __setstate__(self, state: Any) -> None:
        _, order, *parts = state
        if any(part is not None for part in parts[:3]):
            raise pickle.UnpicklingError("its type has parts")
        self.dtype = self.dtype.newbyteorder(order)


class _Array(np.ndarray):
    """In place of ``numpy.ndarray``: empty at first, then of a type and size that were checked."""

    def __new__(cls, *_: Any) -> _Array:
        return np.ndarray.__new__(cls, (0,), np.uint8)

    def __setstate__(self, state: Any) -> None:
        version, shape, kind, fortran, raw = state
        if not (isinstance(kind, _Kind) and isinstance(raw, bytes) and _size(shape) * kind.dtype.itemsize == len(raw)):
            raise pickle.UnpicklingError("its shape and type are not those of its bytes")
        whole: Any = (version, shape, kind.dtype, bool(fortran), raw)
        super().__setstate__(whole)


def _text(name: Any) -> str:
    """A name as Python 2 and 3 write it."""
    text = name.decode("latin1") if isinstance(name, bytes) else name
    if not isinstance(text, str):
        raise pickle.UnpicklingError(f"{name!r:.40} is no name of a type")
    return text


def _size(shape: Any) -> int:
    if not isinstance(shape, tuple) or any(type(n) is not int or n < 0 for n in shape):
        raise pickle.UnpicklingError(f"{shape!r:.40} is no shape")
    return math.prod(shape)


def _of_buffer(raw: Any, kind: Any, shape: Any, order: Any) -> Any:
    if not isinstance(kind, _Kind) or not isinstance(raw, (bytes, bytearray)) or order not in ("C", "F"):
        raise pickle.UnpicklingError("an array of no bytes or no type")
    _size(shape)
    return np.frombuffer(bytes(raw), kind.dtype).reshape(shape, order=order)


_rebuild = _Fixed(lambda *_: _Array())
_frombuffer = _Fixed(_of_buffer)
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    ("numpy.core.multiarray", "_reconstruct"): _rebuild,
    ("numpy._core.multiarray", "_reconstruct"): _rebuild,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("_codecs", "encode"): _Fixed(lambda text, encoding="latin1": codecs.encode(text, "latin1")),
}


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is neither a numpy array nor a plain container")
        return _ALLOWED[module, name]


def unpickle(content: bytes, where: str) -> Any:
    """Numbers, bytes, text, lists, dicts and numpy arrays of numbers; InputError for anything else.

    Byte strings of Python 2 come back as bytes. `where` names the file in the error.
    """
    try:
        return _Restricted(BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise almost anything
        raise InputError(f"asked for plain arrays in {where}, got a pickle that is refused: {error!s:.200}") from error
