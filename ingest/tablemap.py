"""TABLE_MAP: what a table looked like when its rows were written. Pure.

Needs binlog_row_metadata=FULL, so that names, signedness, character sets and the members of ENUM and SET come with the data. Format:
https://dev.mysql.com/doc/dev/mysql-server/latest/classbinary__log_1_1Table__map__event.html
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias, TypeVar

BINARY = 63
"""The collation id of bytes that are no text."""


class ColumnType(IntEnum):
    """`_COMPRESSED`: MariaDB's COMPRESSED columns, whose values `compressed_columns` restores."""

    TINY = 1
    SHORT = 2
    LONG = 3
    FLOAT = 4
    DOUBLE = 5
    TIMESTAMP = 7
    LONGLONG = 8
    INT24 = 9
    DATE = 10
    TIME = 11
    DATETIME = 12
    YEAR = 13
    VARCHAR = 15
    BIT = 16
    TIMESTAMP2 = 17
    DATETIME2 = 18
    TIME2 = 19
    VECTOR = 242
    JSON = 245
    NEWDECIMAL = 246
    ENUM = 247
    SET = 248
    BLOB = 252
    VAR_STRING = 253
    STRING = 254
    GEOMETRY = 255
    BLOB_COMPRESSED = 140
    VARCHAR_COMPRESSED = 141


@dataclass(frozen=True, slots=True)
class Column:
    """`meta` is the type's own number or pair of numbers: length, precision and scale, fractional digits."""

    name: str
    type: ColumnType
    meta: tuple[int, int]
    unsigned: bool = False
    collation: int = BINARY
    members: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class TableMap:
    """Raw parts; `columns` parses the rest, only for a table that is listened to."""

    database: str
    table: str
    rest: bytes


class Unreadable(ValueError):
    """The TABLE_MAP holds something we do not know; its text says what."""


_NUMERIC = {
    ColumnType.TINY,
    ColumnType.SHORT,
    ColumnType.INT24,
    ColumnType.LONG,
    ColumnType.LONGLONG,
    ColumnType.NEWDECIMAL,
    ColumnType.FLOAT,
    ColumnType.DOUBLE,
}
# Those that a TABLE_MAP gives a collation each. VECTOR: MySQL only (MariaDB's comes as a VARCHAR), seen from 9.7.
_TEXT = {
    ColumnType.VARCHAR,
    ColumnType.VAR_STRING,
    ColumnType.STRING,
    ColumnType.BLOB,
    ColumnType.VECTOR,
    ColumnType.VARCHAR_COMPRESSED,
    ColumnType.BLOB_COMPRESSED,
}
_LISTS = {ColumnType.ENUM, ColumnType.SET}
_META_BYTES = {
    ColumnType.FLOAT: 1,
    ColumnType.DOUBLE: 1,
    ColumnType.BLOB: 1,
    ColumnType.BLOB_COMPRESSED: 1,
    ColumnType.GEOMETRY: 1,
    ColumnType.JSON: 1,
    ColumnType.VECTOR: 1,
    ColumnType.TIMESTAMP2: 1,
    ColumnType.DATETIME2: 1,
    ColumnType.TIME2: 1,
    ColumnType.VARCHAR: 2,
    ColumnType.VARCHAR_COMPRESSED: 2,
    ColumnType.BIT: 2,
    ColumnType.NEWDECIMAL: 2,
    ColumnType.STRING: 2,
    ColumnType.VAR_STRING: 2,
    ColumnType.ENUM: 2,
    ColumnType.SET: 2,
}

T = TypeVar("T")
_Types: TypeAlias = list[tuple[ColumnType, tuple[int, int]]]


def table_map(described: bytes) -> TableMap:
    """Database, table, and the rest for `columns`, of what follows the table id and the flags."""
    end = 1 + described[0]
    start = end + 2  # a zero byte, then the length of the table's name
    stop = start + described[end + 1]
    return TableMap(described[1:end].decode(), described[start:stop].decode(), described[stop + 1 :])


def columns(
    rest: bytes, mariadb: bool, unsigned_now: Mapping[str, bool], year_is_numeric: bool | None = None
) -> tuple[Column, ...]:
    """The table's columns in order. `unsigned_now` is what the catalogue says today, by column; for `year_is_numeric` see `_unsigned`.
    Raises `Unreadable`."""
    try:
        return _columns(rest, mariadb, unsigned_now, True if mariadb else year_is_numeric)
    except (IndexError, StopIteration, UnicodeDecodeError) as error:
        raise Unreadable(f"its description is torn ({type(error).__name__})") from error


def _columns(
    rest: bytes, mariadb: bool, unsigned_now: Mapping[str, bool], year_is_numeric: bool | None
) -> tuple[Column, ...]:
    count, at = length_coded(rest, 0)
    codes, at = rest[at : at + count], at + count
    size, at = length_coded(rest, at)
    types = _types(codes, rest[at : at + size])
    metadata = dict(_metadata(rest, at + size + (count + 7) // 8))
    if 4 not in metadata:
        raise Unreadable("it comes without column names")
    names = [name.decode() for name in _strings(metadata[4])]
    text = {*_TEXT, ColumnType.GEOMETRY} if mariadb else _TEXT
    unsigned = _unsigned(types, names, metadata.get(1, b""), unsigned_now, year_is_numeric)
    collations = _spread(types, text, _collations(metadata, 2, 3), BINARY)
    list_collations = _spread(types, _LISTS, _collations(metadata, 10, 11), BINARY)
    sets = _spread(types, {ColumnType.SET}, _members(metadata.get(5, b"")), ())
    enums = _spread(types, {ColumnType.ENUM}, _members(metadata.get(6, b"")), ())
    return tuple(
        Column(
            names[i],
            kind,
            meta,
            unsigned[i],
            list_collations[i] if kind in _LISTS else collations[i],
            sets[i] or enums[i],
        )
        for i, (kind, meta) in enumerate(types)
    )


def _unsigned(
    types: _Types, names: list[str], bits: bytes, now: Mapping[str, bool], year_is_numeric: bool | None
) -> list[bool]:
    """MariaDB and newer MySQL count YEAR among the columns that have a sign, MySQL 8.0.15 does not (seen), and the event does not say.
    Where nobody knows (None) and it makes a difference, the reading that agrees with the table as it is now is right."""
    with_year = _spread(types, {*_NUMERIC, ColumnType.YEAR}, _bits(bits), False)
    without_year = _spread(types, _NUMERIC, _bits(bits), False)
    if year_is_numeric is not None:
        return with_year if year_is_numeric else without_year
    numeric = [i for i, (kind, _) in enumerate(types) if kind in _NUMERIC]
    for reading in (with_year, without_year):
        if all(now.get(names[i], reading[i]) == reading[i] for i in numeric) or with_year == without_year:
            return reading
    raise Unreadable("it has a YEAR column, and columns became signed or unsigned since")


def _types(codes: bytes, meta: bytes) -> _Types:
    found, at = [], 0
    for code in codes:
        kind = _column_type(code)
        size = _META_BYTES.get(kind, 0)
        found.append(_resolved(kind, meta[at : at + size]))
        at += size
    return found


def _column_type(code: int) -> ColumnType:
    try:
        return ColumnType(code)
    except ValueError:
        raise Unreadable(f"it has a column of the unknown type {code}") from None


def _resolved(kind: ColumnType, meta: bytes) -> tuple[ColumnType, tuple[int, int]]:
    """ENUM and SET hide behind STRING; a long CHAR keeps the top bits of its length in the type (bug 37426 of MySQL)."""
    if kind not in (ColumnType.STRING, ColumnType.VAR_STRING):
        if kind in (ColumnType.VARCHAR, ColumnType.VARCHAR_COMPRESSED):
            return kind, (int.from_bytes(meta, "little"), 0)
        return kind, (meta[0] if meta else 0, meta[1] if len(meta) > 1 else 0)
    real, low = meta
    if real in _LISTS:
        return ColumnType(real), (low, 0)
    return kind, ((((real << 4) & 0x300) ^ 0x300) + low, 0)


def _metadata(rest: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """The optional metadata: type, length, value."""
    while at < len(rest):
        size, start = length_coded(rest, at + 1)
        yield rest[at], rest[start : start + size]
        at = start + size


def _spread(types: _Types, wanted: set[ColumnType], values: Iterator[T], default: T) -> list[T]:
    """One value per column: the next of `values` for each column of a wanted type, `default` for the others."""
    return [next(values, default) if kind in wanted else default for kind, _ in types]


def _bits(data: bytes) -> Iterator[bool]:
    return (bool(byte & 0x80 >> bit) for byte in data for bit in range(8))


def _collations(metadata: dict[int, bytes], with_default: int, one_each: int) -> Iterator[int]:
    """Either a default and the exceptions from it, by index among the text columns, or one for each text column."""
    if with_default not in metadata:
        return _numbers(metadata.get(one_each, b""))
    default, *exceptions = _numbers(metadata[with_default])
    others = dict(zip(exceptions[::2], exceptions[1::2], strict=True))
    return (others.get(index, default) for index in itertools.count())


def _members(data: bytes) -> Iterator[tuple[bytes, ...]]:
    """The members of each ENUM or SET column, in its character set."""
    at = 0
    while at < len(data):
        number, at = length_coded(data, at)
        members = []
        for _ in range(number):
            size, start = length_coded(data, at)
            at = start + size
            members.append(data[start:at])
        yield tuple(members)


def _strings(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        size, start = length_coded(data, at)
        at = start + size
        yield data[start:at]


def _numbers(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        number, at = length_coded(data, at)
        yield number


def length_coded(data: bytes, at: int) -> tuple[int, int]:
    """MySQL's length-encoded integer at an offset, and the offset behind it."""
    first = data[at]
    if first < 251:
        return first, at + 1
    size = {252: 2, 253: 3, 254: 8}[first]
    return int.from_bytes(data[at + 1 : at + 1 + size], "little"), at + 1 + size
