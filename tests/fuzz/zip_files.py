"""Zip files by hand: every field of every header may lie, and the directory may name what it likes."""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

_LOCAL, _CENTRAL, _END = "<4s5H3I2H", "<4s6H3I5H2I", "<4s4H2IH"
_HUGE = [0, 1, 7, 0xFFFF, 2**31, 2**32 - 1, 4096]


@dataclass(frozen=True)
class Entry:
    """An entry; ``here`` and ``there`` are what its own header and the directory say otherwise than is true."""

    name: bytes
    content: bytes
    method: int = 0
    here: Mapping[str, Any] = field(default_factory=dict)
    there: Mapping[str, Any] = field(default_factory=dict)
    after: bytes = b""


def packed(
    entries: list[Entry], end: Mapping[str, int] | None = None, before: bytes = b"", comment: bytes = b""
) -> bytes:
    """The file."""
    out, directory = bytearray(before), bytearray()
    for entry in entries:
        data = entry.content
        if entry.method == 8:
            squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
            data = squeeze.compress(data) + squeeze.flush()
        told = {
            "version": 20, "flags": 0x800 if max(entry.name, default=0) > 127 else 0, "method": entry.method,
            "crc": zlib.crc32(entry.content), "held": len(data), "size": len(entry.content), "name": entry.name,
            "extra": b"", "comment": b"", "disk": 0, "attributes": 0, "made": 20, "offset": len(out),
        }  # fmt: skip
        h, t = {**told, **entry.here}, {**told, **entry.there}
        out += struct.pack(
            _LOCAL, b"PK\3\4", h["version"], h["flags"], h["method"], 0, 33, h["crc"], h["held"], h["size"],
            len(h["name"]) & 0xFFFF, len(h["extra"]) & 0xFFFF,
        )  # fmt: skip
        out += h["name"] + h["extra"] + data + entry.after
        directory += struct.pack(
            _CENTRAL, b"PK\1\2", t["made"], t["version"], t["flags"], t["method"], 0, 33, t["crc"], t["held"],
            t["size"], len(t["name"]) & 0xFFFF, len(t["extra"]) & 0xFFFF, len(t["comment"]) & 0xFFFF, t["disk"], 0,
            t["attributes"], t["offset"],
        )  # fmt: skip
        directory += t["name"] + t["extra"] + t["comment"]
    e = {"count": len(entries), "size": len(directory), "at": len(out), **(end or {})}
    count = e["count"] & 0xFFFF
    return (
        bytes(out + directory)
        + struct.pack(_END, b"PK\5\6", 0, 0, count, count, e["size"], e["at"], len(comment))
        + comment
    )


def _zip64(draw: st.DrawFn) -> bytes:
    """An extra field with sizes of 64 bits, or what only begins like one."""
    count = draw(st.integers(0, 4))
    values = [draw(st.sampled_from([0, 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1])) for _ in range(count)]
    length = draw(st.sampled_from([8 * count, 8 * count, 3, 0, 0xFFFF]))
    return struct.pack("<HH", 1, length) + b"".join(struct.pack("<Q", v) for v in values)


NAMES = [
    b"../escaped", b"/tmp/../tmp/escaped", b"store/../../escaped", b"C:\\x", b"store\\steps\\x", b"a\0b", b"", b".",
    b"/", b"store/", b"\xff\xfe", b"records/../../x.json", b"records/" + b"a/" * 1500 + b"x.json",
    b"records/" + b"a" * 300 + b".json", b"records/a.json", b"records/a.json/b.json", b"records/CON.json",
    b"store/store.txt", b"store.txt", b"study.json", b"store/studies/" + b"0" * 32 + b".json",
    b"store/contents/" + b"0" * 32, b"format", b"records/x\xe2\x80\xae.json",
    b"store/steps/ab/ab" + b"0" * 30 + b"/result.json", b"store/steps/ab/ab" + b"0" * 30 + b"/model.pth",
    b"fuzz_sentinel.py", b"records/" + b"z" * 60000 + b".json",
]  # fmt: skip


def _lie(draw: st.DrawFn, entry: Entry) -> list[Entry]:
    how = draw(st.integers(0, 13))
    side = "here" if draw(st.booleans()) else "there"
    if how == 0:
        return [replace(entry, name=draw(st.sampled_from(NAMES)))]
    if how == 1:
        return [entry, entry]
    if how == 2:
        return []
    if how == 3:
        kind = draw(
            st.sampled_from([stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
        )
        target = draw(st.sampled_from([b"/etc/passwd", b"../../..", entry.content]))
        return [replace(entry, content=target, there={"attributes": (kind | 0o777) << 16})]
    if how == 4:
        return [replace(entry, method=8)]
    if how == 5:
        return [replace(entry, method=8, content=bytes(draw(st.sampled_from([10**5, 10**6]))))]
    if how == 6:
        lie = {draw(st.sampled_from(["held", "size", "crc"])): draw(st.sampled_from(_HUGE))}
        return [replace(entry, here=lie, there=lie)] if draw(st.booleans()) else [replace(entry, **{side: lie})]
    if how == 7:
        return [replace(entry, there={"offset": draw(st.sampled_from(_HUGE))})]
    if how == 8:
        # All over the same bytes.
        return [entry, *(replace(entry, name=b"store/contents/%032x" % i, there={"offset": 0}) for i in range(5))]
    if how == 9:
        sign = draw(st.sampled_from([b"PK\7\x08", b""]))
        told = struct.pack("<III", zlib.crc32(entry.content), len(entry.content), len(entry.content))
        hidden = {"flags": 8, "crc": 0, "held": 0, "size": 0}
        return [
            replace(entry, here=hidden, there={"flags": 8}, after=sign + told[: draw(st.sampled_from([12, 12, 5, 0]))])
        ]
    if how == 10:
        return [replace(entry, **{side: {"flags": draw(st.sampled_from([1, 0x20, 0x40, 0x800, 0x2000, 0xFFFF]))}})]
    if how == 11:
        return [
            replace(entry, there={"extra": _zip64(draw), draw(st.sampled_from(["held", "size", "offset"])): 2**32 - 1})
        ]
    if how == 12:
        return [
            replace(
                entry,
                **{
                    side: {
                        draw(st.sampled_from(["method", "version", "made", "disk"])): draw(
                            st.sampled_from([0, 8, 12, 14, 93, 99, 255, 65535])
                        )
                    }
                },
            )
        ]
    return [replace(entry, **{side: {"name": draw(st.sampled_from(NAMES))}})]


@st.composite
def lying(draw: st.DrawFn, files: Mapping[str, bytes]) -> bytes:
    """An archive of these files in which up to three entries, or the directory's end, are not what they should be."""
    entries = [Entry(name.encode(), content) for name, content in files.items()]
    for _ in range(draw(st.integers(0, 3))):
        if entries:
            at = draw(st.integers(0, len(entries) - 1))
            entries[at : at + 1] = _lie(draw, entries[at])
    end = draw(
        st.sampled_from(
            [{}] * 8 + [{"count": 0}, {"count": 65535}, {"at": 0}, {"at": 2**32 - 1}, {"size": 1}, {"size": 2**31}]
        )
    )
    around = draw(st.sampled_from([b""] * 6 + [b"MZ", b"PK\3\4", b"x" * 40]))
    return packed(entries, end, around, draw(st.sampled_from([b"", b"", b"", b"PK\5\6" + bytes(18), b"c" * 70])))
