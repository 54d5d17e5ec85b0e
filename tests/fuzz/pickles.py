"""Pickles as data sets have them, and as nobody should: code, forged types, sizes without end."""

from __future__ import annotations

import pickle
import struct
from typing import Any

import numpy as np
from hypothesis import strategies as st

_CODE = [
    "os system",
    "builtins eval",
    "builtins exec",
    "posix system",
    "fuzz_sentinel run",
    "subprocess Popen",
    "numpy load",
]
_CODE += [
    "numpy core.multiarray",
    "builtins getattr",
    "codecs open",
    "numpy.core.multiarray scalar",
    "numpy dtype",
    "numpy ndarray",
]
_ENDS = [b".", b"", b"0.", b"R.", b"\x81.", b"b."]


def batch(images: np.ndarray, labels: list[int], protocol: int = 2) -> bytes:
    """A CIFAR batch."""
    return pickle.dumps({b"data": images, b"labels": labels, b"batch_label": b"x"}, protocol)


def _code(name: str, argument: str, end: bytes) -> bytes:
    return b"c" + name.replace(" ", "\n").encode() + b"\n(S'" + argument.encode() + b"'\ntR" + end


def _stacked(name: str, end: bytes) -> bytes:
    module, _, attribute = name.partition(" ")
    texts = b"".join(b"\x8c" + bytes([len(t)]) + t.encode() for t in (module, attribute))
    return b"\x80\x04" + texts + b"\x93)R" + end


class _Forged:
    """Pickles as a call of something that is allowed, with arguments and a state of one's choice."""

    def __init__(self, call: Any, arguments: tuple[Any, ...], state: Any = None) -> None:
        self._told = (call, arguments, state) if state is not None else (call, arguments)

    def __reduce__(self) -> Any:
        return self._told


_rebuild = np.zeros(0, np.uint8).__reduce__()[0]
_frombuffer = np.zeros(1, np.uint8).__reduce_ex__(5)[0]


@st.composite
def _types(draw: st.DrawFn) -> Any:
    """A type, perhaps one whose state says that it holds plain bytes where it holds pointers."""
    name = draw(
        st.sampled_from(
            ["u1", "i8", "f8", "O", "V8", "V3072", "S3072", "U4", "M8[s]", "?", "c16", "u1,u1", "x", "V" + "9" * 12]
        )
    )
    state = draw(
        st.sampled_from(
            [
                None,
                (3, "|", None, None, None, -1, -1, 0),
                (3, ">", None, None, None, -1, -1, 0),
                (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0),
                (3, "|", None, ("a",), {"a": (np.dtype("u1"), 2**31 - 1)}, 8, 1, 0),
                (3, "|", (np.dtype("O"), (2,)), None, None, 8, 1, 0),
                (4, "|", None, None, None, 2**31 - 1, 1, 63, {}),
                (9,),
                {},
                "x",
            ]
        )
    )
    return _Forged(np.dtype, (name, False, True), state)


@st.composite
def _arrays(draw: st.DrawFn) -> Any:
    kind = draw(st.one_of(st.just(np.dtype("u1")), st.just(np.dtype("u1")), _types()))
    raw = draw(st.sampled_from([bytes(2 * 3072), b"", bytes(8), b"A" * 3072, "x", [1, 2], None]))
    shape = draw(
        st.sampled_from([(2, 3072), (0, 3072), (2**40, 3072), (-1,), (2**62, 2**62), (), (2**31,) * 3, "x", ("a",)])
    )
    if draw(st.booleans()):
        return _Forged(_rebuild, (np.ndarray, (0,), b"b"), (1, shape, kind, draw(st.booleans()), raw))
    return _Forged(_frombuffer, (raw, kind, shape, draw(st.sampled_from(["C", "F", "K", 1]))))


@st.composite
def _forged(draw: st.DrawFn) -> bytes:
    labels = draw(
        st.one_of(
            st.just([0, 1]),
            _arrays(),
            st.sampled_from([[10**30], [0.5, 1.5], ["a", "b"], [[0], [1]], {}, None, "ab", [0, -(2**63)]]),
        )
    )
    value = draw(st.one_of(_arrays(), st.just({b"data": draw(_arrays()), b"labels": labels})))
    return pickle.dumps(value, draw(st.integers(2, 5)))


def _sizes() -> list[bytes]:
    """What says that it is longer than it is, and what grows."""
    huge = [b"\x8d", b"\x8e", b"\x95"]
    # Not of a bytearray: where it cannot have so much, Python 3.11 prints an error of its own.
    found = [
        b"\x80\x05" + op + struct.pack("<Q", size) + b"xx." for op in huge for size in (2**63 - 1, 2**64 - 1, 2**40)
    ]
    found.append(b"\x80\x05\x96" + struct.pack("<Q", 2**20) + b"xx.")
    found += [
        op + struct.pack("<i", size) + b"xx."
        for op in (b"\x8b", b"T", b"X", b"B", b"r", b"j")
        for size in (2**31 - 1, -1)
    ]
    nested = b"]" * 50_000 + b"a" * 49_999 + b"."
    doubled = b"]" + b"q\0" + b"(h\0h\0e" * 30 + b"."
    return [
        *found,
        nested,
        doubled,
        b"(" * 100_000 + b"t" * 100_000 + b".",
        b"I" + b"9" * 10_000 + b"\n.",
        b"L" + b"9" * 10_000 + b"L\n.",
    ]


def lying() -> st.SearchStrategy[bytes]:
    """Pickles that want more than to be read."""
    code = st.builds(_code, st.sampled_from(_CODE), st.sampled_from(["true", "x", "u1"]), st.sampled_from(_ENDS))
    return st.one_of(
        _forged(),
        _forged(),
        code,
        st.builds(_stacked, st.sampled_from(_CODE), st.sampled_from(_ENDS)),
        st.sampled_from(_sizes()),
    )
