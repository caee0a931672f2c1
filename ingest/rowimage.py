"""Row images: a row as it stands in a row event, decoded by functions that are put together once per table shape. Pure.

Format: https://dev.mysql.com/doc/dev/mysql-server/latest/classbinary__log_1_1Rows__event.html. The values are those of `rows`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from ingest import charsets, jsonb, rows, temporal
from ingest.tablemap import BINARY, Column, ColumnType, length_coded

Values: TypeAlias = dict[str, Any]
Read: TypeAlias = Callable[[bytes, int], tuple[Any, int]]
"""(data, offset) → value, offset behind it."""


class ColumnUnreadable(ValueError):
    """A value cannot be decoded; the text names the column and the reason, never the value."""


class Incomplete(ValueError):
    """Columns are missing from a row image: it was written with another binlog_row_image than FULL."""


_INTEGERS = {
    ColumnType.TINY: 1,
    ColumnType.SHORT: 2,
    ColumnType.INT24: 3,
    ColumnType.LONG: 4,
    ColumnType.LONGLONG: 8,
}
_FRACTION_BYTES = (0, 1, 1, 2, 2, 3, 3)


class RowImages:
    """Decodes the rows of one table shape. `charset_of` maps collation ids to character sets; `json` names MariaDB's JSON columns."""

    def __init__(self, columns: Sequence[Column], charset_of: Mapping[int, str], json: frozenset[str]) -> None:
        self.columns = tuple(columns)
        self._reads = [(column.name, _reader(column, charset_of, column.name in json)) for column in columns]

    def rows(self, body: bytes) -> Iterator[Values]:
        """The rows of a WRITE_ROWS or DELETE_ROWS."""
        at = self._skip_bitmaps(body, 1)
        while at < len(body):
            values, at = self._row(body, at)
            yield values

    def pairs(self, body: bytes) -> Iterator[tuple[Values, Values]]:
        """Before and after of the rows of an UPDATE_ROWS."""
        at = self._skip_bitmaps(body, 2)
        while at < len(body):
            before, at = self._row(body, at)
            after, at = self._row(body, at)
            yield before, after

    def _skip_bitmaps(self, body: bytes, number: int) -> int:
        count, at = length_coded(body, 0)
        if count != len(self.columns):
            raise Incomplete(f"{count} columns instead of {len(self.columns)}")
        size = (count + 7) // 8
        for _ in range(number):
            if int.from_bytes(body[at : at + size], "little").bit_count() < count:
                raise Incomplete("not all columns are there")
            at += size
        return at

    def _row(self, body: bytes, at: int) -> tuple[Values, int]:
        size = (len(self._reads) + 7) // 8
        nulls = int.from_bytes(body[at : at + size], "little")
        at += size
        values: Values = {}
        for name, read in self._reads:
            if nulls & 1:
                values[name] = None
            else:
                try:
                    values[name], at = read(body, at)
                except (ValueError, LookupError, struct.error, OverflowError) as error:
                    why = str(error) if type(error) is ValueError else type(error).__name__
                    raise ColumnUnreadable(f"column {name}: {why}") from error
            nulls >>= 1
        return values, at


def _reader(column: Column, charset_of: Mapping[int, str], json: bool) -> Read:
    kind, (first, second) = column.type, column.meta
    if kind in _INTEGERS:
        return _integer(_INTEGERS[kind], signed=not column.unsigned)
    if kind in (ColumnType.ENUM, ColumnType.SET):
        return _list(column, charset_of)
    if kind in (ColumnType.VARCHAR, ColumnType.VAR_STRING, ColumnType.STRING):
        return _string(1 if first <= 255 else 2, _text(column, charset_of, json))
    if kind in (ColumnType.BLOB, ColumnType.GEOMETRY, ColumnType.VECTOR):
        return _string(first, _text(column, charset_of, json))
    if kind == ColumnType.JSON:
        return _string(first, jsonb.value)
    if kind == ColumnType.NEWDECIMAL:
        return _fixed(temporal.decimal_size(first, second), lambda data: temporal.decimal(data, first, second))
    if kind == ColumnType.BIT:
        return _fixed(second + (first > 0), lambda data: int.from_bytes(data, "big"))
    return _number_or_time(kind, first)


def _number_or_time(kind: ColumnType, digits: int) -> Read:
    """`digits`: of the fraction of a second."""
    fraction = _FRACTION_BYTES[digits] if digits < len(_FRACTION_BYTES) else 0
    table: dict[ColumnType, tuple[int, Callable[[bytes], Any]]] = {
        ColumnType.FLOAT: (4, lambda data: rows.as_float(struct.unpack("<f", data)[0])),
        ColumnType.DOUBLE: (8, lambda data: struct.unpack("<d", data)[0]),
        ColumnType.YEAR: (1, lambda data: 1900 + data[0] if data[0] else 0),
        ColumnType.DATE: (3, lambda data: temporal.date(int.from_bytes(data, "little"))),
        ColumnType.DATETIME2: (5 + fraction, lambda data: temporal.datetime2(data, digits)),
        ColumnType.TIMESTAMP2: (4 + fraction, lambda data: temporal.timestamp(data, digits)),
        ColumnType.TIME2: (3 + fraction, lambda data: temporal.time2(data, digits)),
        ColumnType.DATETIME: (8, lambda data: temporal.old_datetime(int.from_bytes(data, "little"))),
        ColumnType.TIMESTAMP: (4, lambda data: temporal.timestamp(data[::-1], 0)),
        ColumnType.TIME: (3, lambda data: temporal.old_time(int.from_bytes(data, "little", signed=True))),
    }
    return _fixed(*table[kind])


def _fixed(size: int, convert: Callable[[bytes], Any]) -> Read:
    def read(data: bytes, at: int) -> tuple[Any, int]:
        end = at + size
        return convert(data[at:end]), end

    return read


def _integer(size: int, *, signed: bool) -> Read:
    from_bytes = int.from_bytes

    def read(data: bytes, at: int) -> tuple[Any, int]:
        end = at + size
        return from_bytes(data[at:end], "little", signed=signed), end

    return read


def _string(length_bytes: int, convert: Callable[[bytes], Any]) -> Read:
    def read(data: bytes, at: int) -> tuple[Any, int]:
        start = at + length_bytes
        end = start + int.from_bytes(data[at:start], "little")
        return convert(data[start:end]), end

    return read


def _text(column: Column, charset_of: Mapping[int, str], json: bool) -> Callable[[bytes], Any]:
    if column.collation == BINARY or column.type in (ColumnType.GEOMETRY, ColumnType.VECTOR):
        width = column.meta[0] if column.type == ColumnType.STRING else 0
        return lambda data: rows.as_base64(data.ljust(width, b"\0"))  # BINARY(n) comes without its trailing zeros
    charset = charset_of.get(column.collation, f"of collation {column.collation}")
    if json:
        return lambda data: rows.from_json(charsets.decode(data, charset))
    return lambda data: charsets.decode(data, charset)


def _list(column: Column, charset_of: Mapping[int, str]) -> Read:
    charset = charset_of.get(column.collation, f"of collation {column.collation}")

    def convert(data: bytes) -> str:
        number = int.from_bytes(data, "little")
        if column.type == ColumnType.ENUM:  # 0 is the empty text that stands for an invalid value
            return charsets.decode(column.members[number - 1], charset) if number else ""
        chosen = (member for index, member in enumerate(column.members) if number >> index & 1)
        return ",".join(charsets.decode(member, charset) for member in chosen)

    return _fixed(column.meta[0], convert)
