"""Rows as SELECT sends them, from a connection's bytes to JSON values, by a decoder that is put together once per table shape.

PyMySQL reads each packet and each value by calls of its own, which takes four times as long. Here the bytes are taken in large pieces, and
a row is one call of a function written for its columns. The values are those of `rows`, hence of the binlog.

Format: https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query_response_text_resultset.html. The session's
`character_set_results` must be NULL: texts then come in their column's character set, as in the binlog, and are decoded by the same codecs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias

from pymysql.constants import COMMAND, CR
from pymysql.err import OperationalError, raise_mysql_exception

from ingest import charsets, rows, temporal
from ingest.mysql import Connection
from ingest.rows import TableColumn

Values: TypeAlias = dict[str, Any]
Convert: TypeAlias = Callable[[bytes], Any]
DecodeRow: TypeAlias = Callable[[bytes, int], tuple[Values, int]]
"""(data, offset) → the row, offset behind it."""

_PIECE_BYTES = 256 << 10
_MAX_PACKET = 0xFFFFFF  # a packet of this size goes on in the next one
_NULL = 251  # as a value's length; from here on a length is no length of one byte
_END, _ERROR = 0xFE, 0xFF  # first bytes of packets that are no row
_REMEMBERED = 4096
_header = struct.Struct("<I").unpack_from  # three bytes size, one byte number


class RowUnreadable(ValueError):
    """A row cannot be decoded; the text names the column and the reason, never the value."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a statement returned: the rows, the raw values of the last one, how many bytes they were; `more`: rows were left out."""

    rows: list[Values]
    last: list[bytes | None]
    size_bytes: int
    more: bool


class TextRows:
    """Reads results whose columns are `columns`, in this order. For one thread."""

    def __init__(self, columns: Sequence[TableColumn]) -> None:
        self._columns = tuple(columns)
        self._converts = [converter(column) for column in columns]
        self._decode = row_decoder([column.name for column in columns], self._converts)

    def read(self, connection: Connection, statement: str, max_rows: int, max_bytes: int) -> Found:
        """The first rows that the statement returns: at most `max_rows`, and none behind the one that reaches `max_bytes`. The rest is read
        and dropped. After an error the connection is of no use.

        Raises PyMySQL's errors (call it within `translated`) and `RowUnreadable`.
        """
        packets = _packets(_execute(connection, statement, len(self._columns)))
        decode = self._decode
        found: list[Values] = []
        data, start, size = b"", 0, 0
        full = more = False
        for packet, begin, end in packets:
            if packet[begin] >= _END and _ends(packet, begin, end):
                break
            if full:
                more = True
                continue
            data, start = packet, begin
            try:
                values, stop = decode(data, start)
            except (ValueError, LookupError):
                raise self._unreadable(data, start) from None  # its text may hold the data
            if stop != end:
                raise RowUnreadable("a row has another number of columns than was asked for")
            found.append(values)
            size += end - start
            full = len(found) == max_rows or size >= max_bytes
        return Found(found, self._raw(data, start) if found else [], size, more)

    def _raw(self, data: bytes, at: int) -> list[bytes | None]:
        values: list[bytes | None] = []
        for _ in self._columns:
            value, at = _field(data, at)
            values.append(value)
        return values

    def _unreadable(self, data: bytes, at: int) -> RowUnreadable:
        """Once more, column by column, to name the one that fails."""
        for column, convert in zip(self._columns, self._converts, strict=True):
            try:
                value, at = _field(data, at)
                if value is not None:
                    convert(value)
            except (ValueError, LookupError) as error:
                # The text that speaks of a character set is ours; what Python says of other types holds the value.
                ours = type(error) is ValueError and column.charset
                return RowUnreadable(f"column {column.name}: {error if ours else type(error).__name__}")
        return RowUnreadable("a row cannot be decoded")


# Packets


def _execute(connection: Connection, statement: str, columns: int) -> BinaryIO:
    """Sends the statement and reads the head of the answer; the rows are still to come. PyMySQL never asks for CLIENT_DEPRECATE_EOF: the
    columns' descriptions end with a packet of their own. The descriptions say nothing that we do not know."""
    connection._execute_command(COMMAND.COM_QUERY, statement)  # type: ignore[attr-defined]
    head = connection._read_packet().get_all_data()  # type: ignore[no-untyped-call]
    if head != bytes([columns]) and _field_length(head, 0)[0] != columns:
        raise RowUnreadable("the result has another number of columns than was asked for")
    for _ in range(columns + 1):
        connection._read_packet()  # type: ignore[no-untyped-call]
    file: BinaryIO = connection._rfile  # type: ignore[attr-defined]
    return file


def _packets(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Each packet of the stream as (data, begin, end) without its header; packets share the pieces of data that they came in."""
    data, at = b"", 0
    while True:
        data, at = _more(file, data[at:]), 0
        while len(data) - at >= 4:
            size = _header(data, at)[0] & _MAX_PACKET
            begin = at + 4
            if size == _MAX_PACKET:
                whole, data = _giant(file, data[at:])
                at = 0
                yield whole, 0, len(whole)
                continue
            if begin + size > len(data):
                break
            at = begin + size
            yield data, begin, at


def _giant(file: BinaryIO, data: bytes) -> tuple[bytes, bytes]:
    """A packet that comes in parts, the first of which `data` begins with; and the data behind it."""
    parts, size = [], _MAX_PACKET
    while size == _MAX_PACKET:
        while len(data) < 4 or len(data) < 4 + (_header(data)[0] & _MAX_PACKET):
            data = _more(file, data)
        size = _header(data)[0] & _MAX_PACKET
        parts.append(data[4 : 4 + size])
        data = data[4 + size :]
    return b"".join(parts), data


def _more(file: BinaryIO, rest: bytes) -> bytes:
    """The rest, and what has come since. Of a long packet all that is missing, so that it is not copied again with each piece."""
    missing = 4 + (_header(rest)[0] & _MAX_PACKET) - len(rest) if len(rest) >= 4 else 0
    piece = file.read(missing) if missing > _PIECE_BYTES else file.read1(_PIECE_BYTES)  # type: ignore[attr-defined]
    if not piece:
        raise OperationalError(CR.CR_SERVER_LOST, "it closed the connection in the middle of a result")
    return rest + piece


def _ends(data: bytes, begin: int, end: int) -> bool:
    """Does this packet, whose first byte is the end's or an error's, end the rows? A first value of 16 MiB and more has the end's byte too.
    Raises the error."""
    if data[begin] == _ERROR:
        raise_mysql_exception(data[begin:end])
    return end - begin < _MAX_PACKET


# Values


def row_decoder(names: Sequence[str], converts: Sequence[Convert]) -> DecodeRow:
    """A function written for these columns, as `dataclasses` writes its methods: a loop over columns costs three times as much."""
    lines = ["def decode(data, at):"]
    for i in range(len(names)):
        lines += [
            "    size = data[at]",
            "    start = at + 1",
            f"    if size < {_NULL}:",
            "        at = start + size",
            f"        v{i} = convert{i}(data[start:at])",
            f"    elif size == {_NULL}:",
            "        at = start",
            f"        v{i} = None",
            "    else:",
            "        size, start = field_length(data, at)",
            "        at = start + size",
            f"        v{i} = convert{i}(data[start:at])",
        ]
    row = ", ".join(f"{name!r}: v{i}" for i, name in enumerate(names))
    lines.append(f"    return {{{row}}}, at")
    scope: dict[str, Any] = {f"convert{i}": convert for i, convert in enumerate(converts)}
    scope["field_length"] = _field_length
    exec("\n".join(lines), scope)
    decode: DecodeRow = scope["decode"]
    return decode


def _field(data: bytes, at: int) -> tuple[bytes | None, int]:
    """A value and the offset behind it."""
    if data[at] == _NULL:
        return None, at + 1
    size, start = _field_length(data, at)
    return data[start : start + size], start + size


def _field_length(data: bytes, at: int) -> tuple[int, int]:
    """A length-coded integer and the offset behind it."""
    first = data[at]
    if first < _NULL:
        return first, at + 1
    size = {252: 2, 253: 3, 254: 8}[first]
    return int.from_bytes(data[at + 1 : at + 1 + size], "little"), at + 1 + size


class _Remembered(dict[bytes, Any]):
    """Values that repeat, as dates and ENUMs do: looked up instead of converted again."""

    def __init__(self, convert: Convert) -> None:
        super().__init__()
        self._convert = convert

    def __missing__(self, data: bytes) -> Any:
        if len(self) >= _REMEMBERED:
            self.clear()
        value = self[data] = self._convert(data)
        return value


def converter(column: TableColumn) -> Convert:
    """From a value's bytes to its JSON value. Never called for NULL. Raises `ValueError`."""
    if column.json:
        return lambda data: rows.from_json(charsets.decode(data, column.charset or "utf8mb4"))
    if column.data_type in _CONVERTERS:
        return _CONVERTERS[column.data_type]
    if column.data_type in _DATES:
        return _Remembered(_DATES[column.data_type]).__getitem__
    if not column.charset:
        return rows.as_base64
    if column.data_type in ("enum", "set"):
        return _Remembered(_text(column.charset)).__getitem__
    return _text(column.charset)


def _text(charset: str) -> Convert:
    if charset in ("utf8mb4", "utf8mb3", "utf8"):
        return bytes.decode
    return lambda data: charsets.decode(data, charset)  # an unknown one is an error where a value has it


def _date(data: bytes) -> str | None:
    """Dates with a zero in them are no dates."""
    text = data.decode("ascii")
    return None if "00" in text[:10].split("-")[1:] else text


def _datetime(data: bytes) -> str | None:
    found = _date(data)
    return found and found.replace(" ", "T", 1)


def _timestamp(data: bytes) -> str | None:
    found = _datetime(data)
    return found and f"{found}Z"


_DATES: dict[str, Convert] = {"date": _date, "datetime": _datetime, "timestamp": _timestamp}
_CONVERTERS: dict[str, Convert] = {
    **dict.fromkeys(rows.INTEGERS, int),
    "year": int,
    "float": lambda data: rows.as_float(float(data)),
    "double": float,
    "decimal": lambda data: temporal.plain_decimal(data.decode("ascii")),
    "bit": lambda data: int.from_bytes(data, "big"),
    "time": lambda data: data.decode("ascii"),
}
