"""The rows that are there already: read in key order, in chunks, from one read view, without a lock.

The binlog position is taken with the read view (MariaDB) or before it (MySQL), never after: the stream that follows repeats what happened
meanwhile with higher seqs, and so the newest state wins. A snapshot that was broken off goes on behind its last key in a new, later view,
while the stream still starts at the first position.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pymysql.converters import conversions

from ingest import mysql, positions
from ingest.mysql import Connection, Server, query, quoted
from ingest.position import KeyValue, Position
from ingest.rows import INTEGERS, converter, expression
from ingest.tables import Table
from ingest.transactions import Values
from pixtail.core.lifecycle import Stop
from pixtail.core.settings import MysqlAddress

CHUNK_ROWS = 2000
CHUNK_TIMEOUT_S = 300
# MySQL without GTIDs tells a file position that may be ahead of the engine by the transactions in the middle of their commit. They
# get this long to finish. (A watermark table would make it exact; it needs the right to write.)
SETTLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows in key order. `after` is the last one's key as the server compares it; `last`: no rows follow."""

    rows: list[Values]
    after: KeyValue | None
    last: bool


class SnapshotReader:
    """One read view of a table. `open` it, then read the chunks. For one thread."""

    def __init__(self, address: MysqlAddress, server: Server, table: Table, key: str) -> None:
        self._address = address
        self._server = server
        self._table = table
        self._key = key
        self._columns = [(column.name, converter(column)) for column in table.columns]
        self._connection: Connection | None = None

    def open(self, stop: Stop) -> Position:
        """Opens the read view and returns a position that is not behind it. Raises `DatabaseUnreachable`, `SettingError`."""
        without_decoders = {kind: encode for kind, encode in conversions.items() if not isinstance(kind, int)}
        self._connection = connection = mysql.connect(
            self._address, database=None, conv=without_decoders, read_timeout=CHUNK_TIMEOUT_S
        )
        with mysql.translated(self._address):
            query(connection, "SET SESSION sql_mode = ''")  # PAD_CHAR_TO_FULL_LENGTH would change the values
            query(connection, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            before = positions.now(connection, self._server)
            if not self._server.gtid:
                stop.wait(SETTLE_S)
            query(connection, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
            return positions.of_snapshot(connection) if self._server.flavour == "mariadb" else before

    def chunks(self, after: KeyValue | None, rows: int = CHUNK_ROWS) -> Iterator[Chunk]:
        """The rows behind the key `after` (None: all). The last chunk may be empty. Raises `DatabaseUnreachable`, `SettingError`."""
        last = False
        while not last:
            with mysql.translated(self._address):
                found = self._select(after, rows + 1)
            last = len(found) <= rows
            found = found[:rows]
            if found:
                after = self._key_value(found[-1])
            yield Chunk([self._values(row) for row in found], after, last)

    def _select(self, after: KeyValue | None, limit: int) -> list[mysql.Row]:
        assert self._connection is not None
        columns = ", ".join(expression(column) for column in self._table.columns)
        behind = f"WHERE {quoted(self._key)} > %s" if after is not None else ""
        statement = (
            f"SELECT {columns} FROM {quoted(self._table.database, self._table.name)} {behind}"  # noqa: S608 - quoted
            f" ORDER BY {quoted(self._key)} LIMIT {limit}"
        )
        return query(self._connection, statement, (after,) if after is not None else ())

    def _values(self, row: mysql.Row) -> Values:
        converted = zip(self._columns, row, strict=True)
        return {name: None if value is None else convert(value) for (name, convert), value in converted}

    def _key_value(self, row: mysql.Row) -> KeyValue:
        """An integer must be compared as one: as a text it would be compared as a double."""
        index = [name for name, _ in self._columns].index(self._key)
        value: KeyValue = row[index]
        return int(value) if self._table.columns[index].data_type in INTEGERS else value

    def close(self) -> None:
        if self._connection is not None:
            mysql.close(self._connection)
            self._connection = None
