"""TOML from plain values, one key a line: what JSON has and TOML has not is written anyway."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import strategies as st

from .damage import NASTY, Pairs, Raw

# What only TOML has.
_OWN = [
    "1979-05-27T07:32:00Z",
    "07:32:00",
    "0xDEAD",
    "1_000",
    "0o7",
    "inf",
    "-nan",
    "'x'",
    '"""a\n"""',
    "{a.b.c = 1}",
    "truth",
]
_OWN += [
    "[" * 3000 + "]" * 3000,
    "{a=" * 2000 + "1" + "}" * 2000,
    "a",
    '"\\ud800"',
    '"\\x"',
    "1__0",
    "99999999999999999999",
]
OTHERS = st.one_of(NASTY, st.sampled_from([Raw(text) for text in _OWN]))
_LINES = [
    "[a.b]",
    "[[rows]]",
    "[rows]",
    "[networks]",
    "[quick]",
    "x = 1",
    ".".join("a" * 300) + " = 1",
    "\0",
    "\ufeff",
    "[[",
]


def as_toml(value: Pairs) -> str:
    """The file."""
    return "".join(f"{_key(k)} = {_inline(v)}\n" for k, v in value.items)


def _key(key: str) -> str:
    return json.dumps(key, ensure_ascii=False)


def _inline(value: Any) -> str:
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, Pairs):
        return "{" + ", ".join(f"{_key(k)} = {_inline(v)}" for k, v in value.items) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return {"nan": "nan", "inf": "inf", "-inf": "-inf"}[str(value)]
    return json.dumps(value, ensure_ascii=False)


def with_lines(text: str) -> st.SearchStrategy[str]:
    """The file with a line more somewhere."""

    def put(at: int, line: str) -> str:
        lines = text.split("\n")
        return "\n".join([*lines[: at % len(lines)], line, *lines[at % len(lines) :]])

    return st.builds(put, st.integers(0, 200), st.sampled_from(_LINES))
