"""Rows as SELECT sends them: split and decoded, however the bytes come in."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymysql.err import MySQLError, OperationalError

from ingest.rows import TableColumn
from ingest.textrows import Found, RowUnreadable, TextRows, converter

EOF = b"\xfe\0\0\2\0"
OK_INSTEAD_OF_EOF = b"\xfe\0\0\2\0\0\0session state"  # CLIENT_DEPRECATE_EOF
KILLED = b"\xff" + (1317).to_bytes(2, "little") + b"#70100Query execution was interrupted"
MAX = 0xFFFFFF
COLUMNS = [TableColumn("id", "varbinary"), TableColumn('it\'s \\ "odd"', "varbinary"), TableColumn("c", "varbinary")]
VALUES = (
    st.none()
    | st.binary(max_size=6)
    | st.integers(248, 260).map(bytes)
    | st.sampled_from([65535, 65536, 70000]).map(bytes)
)


def length(size: int) -> bytes:
    for limit, head, width in ((251, b"", 1), (1 << 16, b"\xfc", 2), (1 << 24, b"\xfd", 3)):
        if size < limit:
            return head + size.to_bytes(width, "little")
    return b"\xfe" + size.to_bytes(8, "little")


def row(values: Sequence[bytes | None]) -> bytes:
    return b"".join(b"\xfb" if value is None else length(len(value)) + value for value in values)


def packets(*payloads: bytes) -> bytes:
    """As they are sent: a payload of 16 MiB and more in parts, of which the last is shorter than that, be it empty."""
    parts = [payload[at : at + MAX] for payload in payloads for at in range(0, len(payload) + 1, MAX)]
    return b"".join(len(part).to_bytes(3, "little") + bytes([number % 256]) + part for number, part in enumerate(parts))


class Server(io.RawIOBase):
    """Stands for a connection whose statement was just sent: the bytes of the answer come in pieces of the given sizes, in turn."""

    def __init__(self, columns: int, data: bytes, pieces: Sequence[int] = (1 << 30,)) -> None:
        self._heads = [length(columns), *[b"a column's description"] * columns, EOF]
        self._data = memoryview(data)
        self._pieces = list(pieces)
        self._rfile = io.BufferedReader(self, 64)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._pieces.append(self._pieces.pop(0))
        size = min(len(buffer), self._pieces[-1], len(self._data))
        buffer[:size] = self._data[:size]
        self._data = self._data[size:]
        return size

    def _execute_command(self, command: int, statement: str) -> None:
        assert statement == "SELECT"

    def _read_packet(self) -> Any:
        head = self._heads.pop(0)
        return type("Packet", (), {"get_all_data": lambda _: head})()


def read(
    data: bytes, columns: Sequence[TableColumn] = COLUMNS, pieces: Sequence[int] = (1 << 30,), **bounds: int
) -> Found:
    limits = {"max_rows": 1 << 30, "max_bytes": 1 << 40} | bounds
    server: Any = Server(len(columns), data, pieces)
    return TextRows(columns).read(server, "SELECT", limits["max_rows"], limits["max_bytes"])


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(VALUES, VALUES, VALUES), max_size=12),
    st.lists(st.sampled_from([1, 2, 3, 5, 4096, 1 << 20]), min_size=1, max_size=4).filter(
        lambda sizes: max(sizes) > 1000
    ),
    st.sampled_from([EOF, OK_INSTEAD_OF_EOF]),
)
def test_rows_come_out_as_they_went_in_whatever_pieces_they_come_in(
    rows: list[tuple[bytes | None, ...]], pieces: list[int], end: bytes
) -> None:
    result = read(packets(*map(row, rows), end), pieces=pieces)
    as_sent = [tuple(None if value is None else value.hex() for value in values) for values in rows]
    decoded = [
        tuple(None if value is None else base64.b64decode(value).hex() for value in values.values())
        for values in result.rows
    ]
    assert decoded == as_sent
    assert result.last == (list(rows[-1]) if rows else [])
    assert not result.more


@pytest.mark.parametrize("size", [MAX - 40, MAX - 9, MAX, 2 * MAX - 9, 2 * MAX + 5])
def test_a_row_of_sixteen_mebibytes_and_more_is_put_together(size: int) -> None:
    rows = [(b"1", b"before", None), (b"x" * size, None, b"y"), (b"2", b"behind", b"z")]
    result = read(
        packets(*map(row, rows), EOF), columns=[TableColumn("id", "mediumtext", charset="utf8mb4"), *COLUMNS[1:]]
    )
    assert [values["id"] for values in result.rows] == ["1", "x" * size, "2"]
    assert result.last == [b"2", b"behind", b"z"]


def test_the_row_that_reaches_a_bound_is_the_last_and_the_rest_is_dropped() -> None:
    rows = [(b"%d" % n, b"x" * 100, None) for n in range(10)]
    data = packets(*map(row, rows), EOF)
    by_rows, by_bytes, exact = read(data, max_rows=4), read(data, max_bytes=250), read(data, max_rows=10)
    assert (len(by_rows.rows), by_rows.last[0], by_rows.more) == (4, b"3", True)
    assert (len(by_bytes.rows), by_bytes.last[0], by_bytes.more) == (3, b"2", True)
    assert (len(exact.rows), exact.more) == (10, False)


def test_an_error_in_the_middle_of_the_rows_is_the_servers_error() -> None:
    with pytest.raises(MySQLError) as caught:
        read(packets(row((b"1", None, None)), KILLED))
    assert caught.value.args[0] == 1317


def test_an_error_in_the_middle_of_dropped_rows_is_seen_too() -> None:
    with pytest.raises(MySQLError):
        read(packets(row((b"1", None, None)), row((b"2", None, None)), KILLED), max_rows=1)


@pytest.mark.parametrize("cut", [1, 3, 4, 10])
def test_a_connection_that_ends_in_the_middle_is_lost(cut: int) -> None:
    with pytest.raises(OperationalError) as caught:
        read(packets(row((b"1", b"2", b"3")), row((b"1", b"2", b"3")))[:-cut])
    assert caught.value.args[0] == 2013


def test_a_row_of_another_shape_is_refused() -> None:
    with pytest.raises(RowUnreadable, match="columns"):
        read(packets(row((b"1", b"2", b"3", b"4")), EOF))
    with pytest.raises(RowUnreadable):
        read(packets(row((b"1", b"2")), EOF))


def test_what_cannot_be_decoded_is_named_without_its_content() -> None:
    columns = [TableColumn("id", "int"), TableColumn("title", "text", charset="utf8mb4"), TableColumn("n", "int")]
    for values, name in (((b"1", b"s3cret\xff", b"1"), "title"), ((b"1", b"s3cret", b"s3cret"), "n")):
        with pytest.raises(RowUnreadable, match=f"column {name}") as caught:
            read(packets(row(values), EOF), columns=columns)
        assert "s3cret" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__


def test_values_that_repeat_are_remembered_within_bounds() -> None:
    convert = converter(TableColumn("at", "datetime"))
    texts = [
        f"20{year:02}-{month:02}-{day:02} 10:00:00"
        for year in range(16)
        for month in range(1, 13)
        for day in range(1, 29)
    ]
    for text in [*texts, *texts]:
        assert convert(text.encode()) == text.replace(" ", "T")
    assert convert(b"2024-00-10 10:00:00") is None
    assert len(convert.__self__) <= 4096  # type: ignore[attr-defined]
