"""MySQL's binary JSON, as it stands in row events. Pure.

Format: https://dev.mysql.com/doc/dev/mysql-server/latest/json__binary_8h.html. The result is what parsing the text that SELECT returns
would give, so that the stream and the snapshot agree.
"""

from __future__ import annotations

import base64
import struct
from typing import Any

from ingest import temporal
from ingest.tablemap import ColumnType

_OBJECTS, _ARRAYS, _LITERAL, _STRING, _OPAQUE = (0x00, 0x01), (0x02, 0x03), 0x04, 0x0C, 0x0F
_LARGE = (0x01, 0x03)
_LITERALS = {0: None, 1: True, 2: False}
_SCALARS = {
    0x05: struct.Struct("<h"),
    0x06: struct.Struct("<H"),
    0x07: struct.Struct("<i"),
    0x08: struct.Struct("<I"),
    0x09: struct.Struct("<q"),
    0x0A: struct.Struct("<Q"),
    0x0B: struct.Struct("<d"),
}
_INLINE, _INLINE_LARGE = (0x04, 0x05, 0x06), (0x04, 0x05, 0x06, 0x07, 0x08)


def value(data: bytes) -> Any:
    """A document. No bytes at all are JSON's null: an old NOT NULL column that was added later."""
    return _value(data[0], data, 1) if data else None


def _value(kind: int, data: bytes, at: int) -> Any:
    if kind in _OBJECTS or kind in _ARRAYS:
        return _container(kind, data, at)
    if kind == _LITERAL:
        return _LITERALS[data[at]]
    if kind in _SCALARS:
        return _SCALARS[kind].unpack_from(data, at)[0]
    if kind == _STRING:
        size, start = _length(data, at)
        return data[start : start + size].decode()
    if kind == _OPAQUE:
        size, start = _length(data, at + 1)
        return _opaque(data[at], data[start : start + size])
    raise ValueError(f"binary JSON of the unknown type {kind}")


def _container(kind: int, data: bytes, at: int) -> Any:
    """Number of elements and size, then for an object the keys' offsets and lengths, then types and offsets of the values."""
    width = 4 if kind in _LARGE else 2
    count = int.from_bytes(data[at : at + width], "little")
    entries = at + 2 * width
    if kind in _ARRAYS:
        return [_element(data, at, entries + i * (1 + width), width) for i in range(count)]
    values = entries + count * (width + 2)
    return {
        _key(data, at, entries + i * (width + 2), width): _element(data, at, values + i * (1 + width), width)
        for i in range(count)
    }


def _key(data: bytes, base: int, entry: int, width: int) -> str:
    start = base + int.from_bytes(data[entry : entry + width], "little")
    size = int.from_bytes(data[entry + width : entry + width + 2], "little")
    return data[start : start + size].decode()


def _element(data: bytes, base: int, entry: int, width: int) -> Any:
    kind = data[entry]
    if kind in (_INLINE if width == 2 else _INLINE_LARGE):
        return _value(kind, data, entry + 1)
    return _value(kind, data, base + int.from_bytes(data[entry + 1 : entry + 1 + width], "little"))


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Seven bits a byte, the lowest first; the top bit says that more follow."""
    size = shift = 0
    while True:
        byte = data[at]
        at += 1
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return size, at


def _opaque(kind: int, data: bytes) -> Any:
    """A value of another SQL type inside the document: printed as SELECT prints it."""
    if kind == ColumnType.NEWDECIMAL:
        return float(temporal.decimal(data[2:], data[0], data[1]))
    if kind in (ColumnType.DATE, ColumnType.DATETIME, ColumnType.TIMESTAMP, ColumnType.TIME):
        return temporal.packed(int.from_bytes(data, "little", signed=True), kind)
    return f"base64:type{kind}:{base64.b64encode(data).decode()}"
