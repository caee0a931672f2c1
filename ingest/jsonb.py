"""MySQL's binary JSON, as it stands in row events. Pure.

Format: https://dev.mysql.com/doc/dev/mysql-server/latest/json__binary_8h.html. The result is what parsing the text that SELECT returns
would give, so that the stream and the snapshot agree.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ingest import temporal
from ingest.tablemap import ColumnType

_OBJECTS, _ARRAYS, _LITERAL, _STRING, _OPAQUE = (0x00, 0x01), (0x02, 0x03), 0x04, 0x0C, 0x0F
_LARGE = (0x01, 0x03)
_INT16, _UINT16, _INT32, _UINT32 = 0x05, 0x06, 0x07, 0x08
_LITERALS = (None, True, False)
_SCALARS = {
    _INT16: struct.Struct("<h"),
    _UINT16: struct.Struct("<H"),
    _INT32: struct.Struct("<i"),
    _UINT32: struct.Struct("<I"),
    0x09: struct.Struct("<q"),
    0x0A: struct.Struct("<Q"),
    0x0B: struct.Struct("<d"),
}


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a container is written: `header` is its number of elements and its size, `key` a key's offset and length, `element` a value's
    type and its offset, or itself if it is of one of the types `inline`; then what it is, by type."""

    header: struct.Struct
    key: struct.Struct
    element: struct.Struct
    inline: Mapping[int, Callable[[int], Any]]


_SHORT_INLINE: Mapping[int, Callable[[int], Any]] = {
    _LITERAL: lambda number: _LITERALS[number & 0xFF],
    _INT16: lambda number: (number & 0x7FFF) - (number & 0x8000),
    _UINT16: lambda number: number & 0xFFFF,
}
_SMALL_LAYOUT = _Layout(struct.Struct("<HH"), struct.Struct("<HH"), struct.Struct("<BH"), _SHORT_INLINE)
_LARGE_LAYOUT = _Layout(
    struct.Struct("<II"),
    struct.Struct("<IH"),
    struct.Struct("<BI"),
    {
        **_SHORT_INLINE,
        _INT32: lambda number: (number & 0x7FFFFFFF) - (number & 0x80000000),
        _UINT32: lambda number: number,
    },
)


def value(data: bytes) -> Any:
    """A document. No bytes at all are JSON's null: an old NOT NULL column that was added later."""
    return _value(data[0], data, 1) if data else None


def _value(kind: int, data: bytes, at: int) -> Any:
    if kind == _STRING:
        size, start = _length(data, at)
        return str(data[start : start + size], "utf-8")
    if kind in _SCALARS:
        return _SCALARS[kind].unpack_from(data, at)[0]
    if kind in _OBJECTS or kind in _ARRAYS:
        return _container(kind, data, at)
    if kind == _LITERAL:
        return _LITERALS[data[at]]
    if kind == _OPAQUE:
        size, start = _length(data, at + 1)
        return _opaque(data[at], data[start : start + size])
    raise ValueError(f"binary JSON of the unknown type {kind}")


def _container(kind: int, data: bytes, at: int) -> Any:
    """Number of elements and size, then for an object the keys' offsets and lengths, then types and offsets of the values. Offsets are
    counted from `at`."""
    layout = _LARGE_LAYOUT if kind in _LARGE else _SMALL_LAYOUT
    count, size = layout.header.unpack_from(data, at)
    body = data[at : at + size]
    start = layout.header.size
    if kind in _ARRAYS:
        return _elements(body, start, count, layout)
    values = start + count * layout.key.size
    keys = [str(body[key : key + length], "utf-8") for key, length in layout.key.iter_unpack(body[start:values])]
    return dict(zip(keys, _elements(body, values, count, layout), strict=True))


def _elements(body: bytes, start: int, count: int, layout: _Layout) -> list[Any]:
    entries = layout.element.iter_unpack(body[start : start + count * layout.element.size])
    inline = layout.inline
    return [inline[kind](where) if kind in inline else _value(kind, body, where) for kind, where in entries]


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Seven bits a byte, the lowest first; the top bit says that more follow."""
    if data[at] < 0x80:
        return data[at], at + 1
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
