"""Pickles from elsewhere, read without running anything that they name."""

from __future__ import annotations

import codecs
import pickle
from io import BytesIO
from typing import Any

import numpy as np

from ticketlab.errors import InputError

_rebuild = np.zeros(0, np.uint8).__reduce__()[0]
_frombuffer = np.zeros(1, np.uint8).__reduce_ex__(5)[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _rebuild,
    ("numpy._core.multiarray", "_reconstruct"): _rebuild,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("_codecs", "encode"): lambda text, encoding="latin1": codecs.encode(text, "latin1"),
}


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is neither a numpy array nor a plain container")
        return _ALLOWED[module, name]


def unpickle(content: bytes, where: str) -> Any:
    """Numbers, bytes, text, lists, dicts and numpy arrays; InputError for anything else.

    Byte strings of Python 2 come back as bytes. `where` names the file in the error.
    """
    try:
        return _Restricted(BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise almost anything
        raise InputError(f"asked for plain arrays in {where}, got a pickle that is refused: {error}") from error
