"""Row images: a row as it stands in a row event, decoded by a function that is written and compiled once per table shape. Pure.

Why compiled: a generic decoder spends most of its time on asking what the next column is. Here that is asked once. Columns of fixed size
are unpacked together, with the length of the text that follows them, and the row comes out as one dict literal. There is one function for
each set of NULL columns, since NULLs take no place in the row.

Format: https://dev.mysql.com/doc/dev/mysql-server/latest/classmysql_1_1binlog_1_1event_1_1Rows__event.html. The values are those of `rows`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

from ingest import charsets, compressed_columns, jsonb, rows, temporal
from ingest.tablemap import BINARY, Column, ColumnType

Values: TypeAlias = dict[str, Any]
RowChange: TypeAlias = tuple[Values | None, Values | None]
"""Before and after; None where there is none."""
Decode: TypeAlias = Callable[[bytes, int], tuple[Values, int]]
"""(data, offset) → the row, and the offset behind it."""
Convert: TypeAlias = Callable[[Any], Any]


class ColumnUnreadable(ValueError):
    """A value cannot be decoded; the text names the column and the reason, never the value."""


class Incomplete(ValueError):
    """Columns are missing from a row image: it was written with another binlog_row_image than FULL."""


_LONG_NUMBER, _TWO_BYTES = (
    251,
    252,
)  # MySQL's length-encoded integers; no table has more columns than two bytes can count
_MOST_PATTERNS = 64  # of NULLs, that have a function of their own; a row with yet another one takes a slower way
_REMEMBERED = 4096  # dates and times: rows written together share theirs
_ERRORS = (ValueError, LookupError, struct.error, OverflowError)
_FRACTION_BYTES = (0, 1, 1, 2, 2, 3, 3)
_INTEGERS = {
    ColumnType.TINY: "b",
    ColumnType.SHORT: "h",
    ColumnType.LONG: "i",
    ColumnType.LONGLONG: "q",
}
_COMPRESSED = {ColumnType.VARCHAR_COMPRESSED, ColumnType.BLOB_COMPRESSED}
_SHORT_TEXTS = {ColumnType.VARCHAR, ColumnType.VAR_STRING, ColumnType.STRING, ColumnType.VARCHAR_COMPRESSED}
_LONG_TEXTS = {ColumnType.BLOB, ColumnType.GEOMETRY, ColumnType.VECTOR, ColumnType.BLOB_COMPRESSED}
_UTF8 = {"utf8mb4", "utf8mb3", "utf8"}
_LENGTHS = {1: "B", 2: "H", 3: "HB", 4: "I"}  # struct codes of a text's length


class RowImages:
    """Decodes the rows of one table shape. `charset_of` maps collation ids to character sets; `json` names MariaDB's JSON columns.

    Raises `ColumnUnreadable` for a column that no row could be decoded of.
    """

    def __init__(self, columns: Sequence[Column], charset_of: Mapping[int, str], json: frozenset[str]) -> None:
        self.columns = tuple(columns)
        self._steps = [_step(column, charset_of, column.name in json) for column in columns]
        self._bitmap_bytes = (len(self._steps) + 7) // 8
        self._heads = [_head(len(self._steps), number) for number in range(3)]
        self._by_nulls: dict[bytes, Decode] = {}

    def inserts(self, data: bytes, at: int, end: int) -> list[RowChange]:
        """The rows of a WRITE_ROWS, whose part behind the fixed header is `data[at:end]`."""
        return [(None, after) for after in self._images(data, self._behind_bitmaps(data, at, 1), end)]

    def updates(self, data: bytes, at: int, end: int) -> list[RowChange]:
        """Before and after of the rows of an UPDATE_ROWS."""
        images = self._images(data, self._behind_bitmaps(data, at, 2), end)
        return list(zip(images[::2], images[1::2], strict=True))

    def deletes(self, data: bytes, at: int, end: int) -> list[RowChange]:
        """The rows of a DELETE_ROWS."""
        return [(before, None) for before in self._images(data, self._behind_bitmaps(data, at, 1), end)]

    def _behind_bitmaps(self, data: bytes, at: int, number: int) -> int:
        """The number of columns, then one or two bitmaps of those that are there: all must be."""
        if not data.startswith(self._heads[number], at):
            raise Incomplete(f"not all of the {len(self.columns)} columns are there")
        return at + len(self._heads[number][0])

    def _images(self, data: bytes, at: int, end: int) -> list[Values]:
        found, size, by_nulls = [], self._bitmap_bytes, self._by_nulls
        try:
            while at < end:
                start = at + size
                decode = by_nulls.get(data[at:start]) or self._decoder(data[at:start])
                values, at = decode(data, start)
                found.append(values)
        except _ERRORS as error:
            raise self._unreadable(error, data, at) from None
        if at != end:
            raise ColumnUnreadable("the rows end elsewhere than their event")
        return found

    def _present(self, bitmap: bytes) -> list[_Step]:
        nulls = int.from_bytes(bitmap, "little")
        return [step for i, step in enumerate(self._steps) if not nulls >> i & 1]

    def _decoder(self, bitmap: bytes) -> Decode:
        """Of the rows whose NULL columns are those of `bitmap`."""
        present = self._present(bitmap)
        if len(self._by_nulls) >= _MOST_PATTERNS:
            return _one_by_one(self._steps, present)
        self._by_nulls[bitmap] = found = _compiled(self._steps, present)
        return found

    def _unreadable(self, error: Exception, data: bytes, at: int) -> ColumnUnreadable:
        """Which column it was: once more, column by column."""
        start = at + self._bitmap_bytes
        for step in self._present(data[at:start]):
            try:
                _, start = step.alone(data, start)
            except _ERRORS as again:
                return ColumnUnreadable(f"column {step.name}: {_reason(again)}")
        return ColumnUnreadable(_reason(error))


def _head(columns: int, bitmaps: int) -> tuple[bytes, ...]:
    """The number of columns and bitmaps with all of them, whatever the bits behind the last one are."""
    size = (columns + 7) // 8
    number = bytes([columns]) if columns < _LONG_NUMBER else bytes([_TWO_BYTES]) + columns.to_bytes(2, "little")
    return tuple(
        number + bitmap * bitmaps for bitmap in (b"\xff" * size, ((1 << columns) - 1).to_bytes(size, "little"))
    )


def _reason(error: Exception) -> str:
    """Never the value: a UnicodeDecodeError would show it."""
    if isinstance(error, UnicodeDecodeError):
        return f"its bytes are not valid {error.encoding}"
    return str(error) if type(error) is ValueError else type(error).__name__


# How one column is read


@dataclass
class _Step:
    """A column: either `code` (struct's) of its bytes, or `length_bytes` of a length and then so many bytes.

    `convert` makes the value of what was unpacked; None: it is the value. `inline` is the same as an expression with `{}` for its
    argument, where a call would cost more than the work.
    """

    name: str
    code: str = ""
    length_bytes: int = 0
    convert: Convert | None = None
    inline: str = "{}"

    @cached_property
    def alone(self) -> Decode:
        """Reads a row of this column only."""
        return _compiled([self], [self])


def _step(column: Column, charset_of: Mapping[int, str], json: bool) -> _Step:
    kind, (first, _), name = column.type, column.meta, column.name
    if kind in _INTEGERS:
        return _Step(name, _INTEGERS[kind].upper() if column.unsigned else _INTEGERS[kind])
    if kind in (ColumnType.ENUM, ColumnType.SET):
        return _list(column, charset_of)
    if kind in _SHORT_TEXTS:
        return _text(column, 1 if first <= 255 else 2, charset_of, json)
    if kind in _LONG_TEXTS:
        return _text(column, first, charset_of, json)
    return _of_bytes(column) or _number_or_time(name, kind, first)


def _of_bytes(column: Column) -> _Step | None:
    """What is unpacked as bytes, whatever their number."""
    kind, (first, second), name = column.type, column.meta, column.name
    if kind == ColumnType.JSON:
        return _Step(name, length_bytes=first, convert=jsonb.value)
    if kind == ColumnType.NEWDECIMAL:
        size = temporal.decimal_size(first, second)
        return _Step(name, f"{size}s", convert=lambda data: temporal.decimal(data, first, second))
    if kind == ColumnType.BIT:
        return _Step(name, f"{second + (first > 0)}s", convert=lambda data: int.from_bytes(data, "big"))
    if kind == ColumnType.INT24:
        signed = not column.unsigned
        return _Step(name, "3s", convert=lambda data: int.from_bytes(data, "little", signed=signed))
    return None


def _number_or_time(name: str, kind: ColumnType, digits: int) -> _Step:
    """`digits`: of the fraction of a second."""
    fraction = _FRACTION_BYTES[digits] if digits < len(_FRACTION_BYTES) else 0
    table: dict[ColumnType, tuple[str, Convert | None]] = {
        ColumnType.FLOAT: ("f", rows.as_float),
        ColumnType.DOUBLE: ("d", None),
        ColumnType.YEAR: ("B", lambda year: 1900 + year if year else 0),
        ColumnType.DATE: ("3s", _remembering(lambda data: temporal.date(int.from_bytes(data, "little")))),
        ColumnType.DATETIME2: (f"{5 + fraction}s", _remembering(lambda data: temporal.datetime2(data, digits))),
        ColumnType.TIMESTAMP2: (f"{4 + fraction}s", _remembering(lambda data: temporal.timestamp(data, digits))),
        ColumnType.TIME2: (f"{3 + fraction}s", lambda data: temporal.time2(data, digits)),
        ColumnType.DATETIME: ("Q", temporal.old_datetime),
        ColumnType.TIMESTAMP: ("4s", lambda data: temporal.timestamp(data[::-1], 0)),
        ColumnType.TIME: ("3s", lambda data: temporal.old_time(int.from_bytes(data, "little", signed=True))),
    }
    code, convert = table[kind]
    return _Step(name, code, convert=convert)


def _remembering(convert: Convert) -> Convert:
    return lru_cache(_REMEMBERED)(convert)


def _text(column: Column, length_bytes: int, charset_of: Mapping[int, str], json: bool) -> _Step:
    charset = charset_of.get(column.collation, f"of collation {column.collation}")
    if charset in _UTF8 and not json and column.type not in _COMPRESSED:
        return _Step(column.name, length_bytes=length_bytes, inline="{}.decode()")
    if column.collation == BINARY or column.type in (ColumnType.GEOMETRY, ColumnType.VECTOR):
        width = column.meta[0] if column.type == ColumnType.STRING else 0
        convert: Convert = lambda data: rows.as_base64(data.ljust(width, b"\0"))  # noqa: E731 - BINARY(n) comes without its trailing zeros
    else:
        convert = _decoder(charset)
    if json:
        convert = _after(convert, rows.from_json)
    if column.type in _COMPRESSED:
        convert = _after(compressed_columns.value, convert)
    return _Step(column.name, length_bytes=length_bytes, convert=convert)


def _decoder(charset: str) -> Convert:
    """Of a character set that is not known here, only values that are not NULL are trouble."""
    try:
        return charsets.decoder(charset)
    except ValueError:
        return lambda data: charsets.decode(data, charset)


def _after(first: Convert, then: Convert) -> Convert:
    return lambda data: then(first(data))


def _list(column: Column, charset_of: Mapping[int, str]) -> _Step:
    charset = charset_of.get(column.collation, f"of collation {column.collation}")
    try:
        members = [charsets.decode(member, charset) for member in column.members]
    except ValueError as error:
        raise ColumnUnreadable(f"column {column.name}: {error}") from None
    if column.type == ColumnType.ENUM:  # 0 is the empty text that stands for an invalid value
        return _Step(column.name, _LENGTHS[column.meta[0]], convert=["", *members].__getitem__)

    def chosen(data: bytes) -> str:
        number = int.from_bytes(data, "little")
        return ",".join(member for index, member in enumerate(members) if number >> index & 1)

    return _Step(column.name, f"{column.meta[0]}s", convert=chosen)


# How they are put together


def _one_by_one(steps: Iterable[_Step], present: Sequence[_Step]) -> Decode:
    """Without compiling anything."""

    def decode(data: bytes, at: int) -> tuple[Values, int]:
        values: Values = dict.fromkeys(step.name for step in steps)
        for step in present:
            found, at = step.alone(data, at)
            values.update(found)
        return values, at

    return decode


def _compiled(steps: Iterable[_Step], present: Sequence[_Step]) -> Decode:
    """A function of the rows in which exactly the columns `present` are not NULL."""
    names: dict[str, Any] = {}
    values = {step.name: "None" for step in steps}
    lines = list(_lines(present, names, values))
    items = ", ".join(f"{name!r}: {value}" for name, value in values.items())
    source = "\n    ".join(["def decode(data, at):", *lines, f"return {{{items}}}, at"])
    exec(source, names)
    decode: Decode = names["decode"]
    return decode


def _lines(present: Iterable[_Step], names: dict[str, Any], values: dict[str, str]) -> Iterator[str]:
    """The body of `decode`. `names` receives the functions that it calls, `values` the expression of each column."""
    run: list[tuple[str, str]] = []  # struct codes and the variables they fill
    for i, step in enumerate(present):
        variable = f"v{i}"
        if step.code:
            run.append((step.code, variable))
            values[step.name] = _value(step, variable, i, names)
            continue
        run.append((_LENGTHS[step.length_bytes], f"n{i}, h{i}" if step.length_bytes == 3 else f"n{i}"))
        yield from _unpack(run, i, names)
        run = []
        if step.length_bytes == 3:
            yield f"n{i} |= h{i} << 16"
        yield f"end = at + n{i}; {variable} = {_value(step, 'data[at:end]', i, names)}; at = end"
        values[step.name] = variable
    if run:
        yield from _unpack(run, len(values), names)


def _unpack(run: Sequence[tuple[str, str]], number: int, names: dict[str, Any]) -> Iterator[str]:
    layout = struct.Struct("<" + "".join(code for code, _ in run))
    names[f"unpack{number}"] = layout.unpack_from
    yield f"{', '.join(variables for _, variables in run)}, = unpack{number}(data, at); at += {layout.size}"


def _value(step: _Step, raw: str, number: int, names: dict[str, Any]) -> str:
    if step.convert is None:
        return step.inline.format(raw)
    names[f"convert{number}"] = step.convert
    return f"convert{number}({raw})"
