"""Safetensors files by hand: a length, a header in JSON, and bytes; any of them may lie."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from .damage import altered, as_json, damaged, in_bytes, pairs


def parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the bytes of a whole file."""
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def steady(content: bytes) -> bytes:
    """The same file with a header in order: safetensors writes it in one that changes from process to process."""
    header, body = parts(content)
    text = json.dumps(header, sort_keys=True).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body


@st.composite
def lying(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file whose header was altered: entries, types, shapes, offsets, or the JSON inside of its metadata."""
    header, body = parts(whole)
    said = header.get("__metadata__", {})
    for key, text in said.items():
        if draw(st.integers(0, 3)) == 0:
            try:
                inner = json.loads(text)
            except ValueError:
                continue
            said[key] = as_json(draw(altered(inner, most=2)))
    text = in_bytes(as_json(draw(altered(header, most=2))))
    text += b" " * draw(st.sampled_from([0, 0, 0, 1, 7, -len(text) % 8]))
    length = draw(
        st.one_of(*[st.just(len(text))] * 8, st.sampled_from([0, 1, len(text) + 1, 2**63, 2**64 - 1, 10**8 + 1]))
    )
    body = draw(st.sampled_from([body, body, body, body + b"\0", body[:-1], b""]))
    return length.to_bytes(8, "little") + text + body


@st.composite
def entry_lies(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file in which type, shape and offsets of one tensor fit each other, but not what is wanted of it."""
    header, body = parts(whole)
    name = draw(st.sampled_from([n for n in header if n != "__metadata__"]))
    begin, end = header[name]["data_offsets"]
    size = end - begin
    kind, width = draw(st.sampled_from(_KINDS))
    lead = draw(st.sampled_from([[], [1], [0, 2**40], [1] * 70, [2]]))
    count = 0 if 0 in lead else size * 8 // width // (2 if lead == [2] else 1)
    header[name] = {"dtype": kind, "shape": [*lead, count], "data_offsets": [begin, end]}
    if draw(st.booleans()):
        other = draw(st.sampled_from(list(header)))
        if other != "__metadata__":
            header[other] = {
                **header[other],
                "data_offsets": draw(st.sampled_from([[begin, end], [end, begin], [0, 2**62]])),
            }
    text = in_bytes(as_json(pairs(header)))
    return len(text).to_bytes(8, "little") + text + body


_KINDS = [
    ("F4", 4),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("F8_E5M2", 8),
    ("F8_E4M3", 8),
    ("F8_E8M0", 8),
    ("BOOL", 8),
    ("U8", 8),
]
_KINDS += [
    ("I8", 8),
    ("F16", 16),
    ("BF16", 16),
    ("U16", 16),
    ("I32", 32),
    ("F32", 32),
    ("F64", 64),
    ("I64", 64),
    ("C64", 64),
]


def any_of(whole: bytes) -> st.SearchStrategy[bytes]:
    """Damaged and lying files."""
    return st.one_of(lying(whole), damaged(whole), entry_lies(whole), st.binary(max_size=64))
