"""Damage: to bytes wherever they are, and to plain values before they are written down as text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st


@dataclass(frozen=True)
class Raw:
    """Text that is written as it is, where a value would stand."""

    text: str


@dataclass(frozen=True)
class Pairs:
    """An object whose keys may come twice."""

    items: tuple[tuple[str, Any], ...]


DEEP = Raw("[" * 20_000 + "]" * 20_000)
DEEP_OBJECT = Raw('{"a":' * 20_000 + "1" + "}" * 20_000)
TEXTS = [
    "", " ", "\0", "\n", "é\u202e", "\ud800", "x" * 5000, "..", "../../escaped", "/dev/zero", "/etc/passwd", "C:\\x",
    "a/b", "fuzz_sentinel:run", "versus:fuzz_sentinel:run", "fuzz_sentinel", "no.such:thing", ":", "a:", ":a", "..:a",
    "a..b:c", "nan", "-0", "1e400", "0" * 32, "f" * 32, "{}", "%s%n", "<script>", "a/" * 300 + "a", "s3://bucket/x",
    "snip", "dense", "F4", "F8_E8M0", "C64", "BOOL", "I64", "F64", "U16", "ticketlab-mask-1", "versus:", "all",
]  # fmt: skip
NASTY = st.one_of(
    st.sampled_from([None, True, False, 0, 1, -1, 2, 0.5, -0.0, 1e308, float("nan"), float("inf"), [], {}, [[]], [0]]),
    st.sampled_from([2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**40, -(2**63), 10**4000, 4096, 1 << 40]),
    st.sampled_from([Raw("1" * 5000), Raw("1e999"), Raw("null"), Raw(""), Raw("nul"), DEEP, DEEP_OBJECT]),
    st.sampled_from(TEXTS),
    st.integers(-3, 70),
    st.floats(),
    st.text(max_size=8),
)
_MAGIC = [
    b"\0",
    b"\xff",
    b"\0" * 8,
    b"\xff" * 8,
    b"\xff\xff\xff\x7f",
    b"\0\0\0\x80",
    b"{",
    b"}",
    b'"',
    b"[",
    b"\n",
    b",",
    b"PK",
]


@st.composite
def damaged(draw: st.DrawFn, whole: bytes, most: int = 4) -> bytes:
    """A file with bytes changed, cut, put in, taken out, repeated or moved; as it was now and then."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(0, most))):
        size = len(content)
        at = draw(
            st.one_of(st.integers(0, size), st.integers(0, min(size, 400)), st.integers(max(0, size - 400), size))
        )
        how = draw(st.integers(0, 7))
        if how <= 1 and at < size:
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif how == 2 and at < size:
            content[at] = draw(st.integers(0, 255))
        elif how == 3:
            del content[at:]
        elif how == 4:
            content[at:at] = draw(st.one_of(st.sampled_from(_MAGIC), st.binary(max_size=12)))
        elif how == 5:
            put = draw(st.sampled_from(_MAGIC))
            content[at : at + len(put)] = put
        elif how == 6:
            del content[at : at + draw(st.integers(1, 64))]
        else:
            content[at:at] = content[max(0, at - draw(st.integers(1, 300))) : at]
    return bytes(content)


def pairs(value: Any) -> Any:
    """Plain values with objects as pairs."""
    if isinstance(value, dict):
        return Pairs(tuple((k, pairs(v)) for k, v in value.items()))
    return [pairs(v) for v in value] if isinstance(value, (list, tuple)) else value


@st.composite
def altered(draw: st.DrawFn, value: Any, most: int = 3, others: st.SearchStrategy[Any] = NASTY) -> Any:
    """Plain values, as pairs, with some exchanged, dropped, added, doubled or under other names."""
    found = pairs(value)
    for _ in range(draw(st.integers(0, most))):
        found = _altered(draw, found, others)
    return found


def _altered(draw: st.DrawFn, value: Any, others: st.SearchStrategy[Any]) -> Any:
    size = len(value.items) if isinstance(value, Pairs) else len(value) if isinstance(value, list) else 0
    if not size or draw(st.integers(0, 9)) == 0:
        return pairs(draw(others))
    at, how = draw(st.integers(0, size - 1)), draw(st.integers(0, 11))
    if isinstance(value, list):
        done = (
            [_altered(draw, value[at], others)]
            if how < 8
            else [[], [value[at]] * 2, [value[at], pairs(draw(others))]][how % 3]
        )
        return [*value[:at], *done, *value[at + 1 :]]
    items, (key, inner) = value.items, value.items[at]
    if how < 8:
        put = ((key, _altered(draw, inner, others)),)
    elif how == 8:
        put = ()
    elif how == 9:
        put = ((draw(st.sampled_from([*TEXTS, *(k for k, _ in items)])), inner),)
    else:
        put = ((key, inner), (key if how == 10 else draw(st.sampled_from(TEXTS)), pairs(draw(others))))
    return Pairs((*items[:at], *put, *items[at + 1 :]))


def as_json(value: Any) -> str:
    """JSON, or what only looks like it."""
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{json.dumps(k)}:{as_json(v)}" for k, v in value.items) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(as_json, value)) + "]"
    return json.dumps(value)


def plain(value: Any) -> Any:
    """What a JSON reader makes of it; None where it makes nothing of it."""
    try:
        return json.loads(as_json(value))
    except (ValueError, RecursionError):
        return None


def in_bytes(text: str) -> bytes:
    """As a file, also with what is no text."""
    return text.encode("utf-8", "surrogatepass")
