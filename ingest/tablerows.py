"""The rows of the table as they are now, for whoever compares: in key order, chunk by chunk, each chunk a short statement of its own.

Nothing is held between two chunks, neither lock nor transaction nor read view. So the rows are those of different moments: a row that is
changed meanwhile may come as it was before or after. Who must know better asks for it again (`having`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from pymysql.err import MySQLError

from ingest import chunks, conditions, mysql, positions, tables
from ingest.mysql import Connection, Server
from ingest.position import Cursor, Position
from ingest.rows import TableColumn
from ingest.selection import EVERYTHING, Scalar, selected
from ingest.tables import Table
from ingest.textrows import RowUnreadable, TextRows
from pixtail.core.changes import Row
from pixtail.core.errors import SourceError
from pixtail.core.settings import Settings


@dataclass(frozen=True, slots=True)
class End:
    """Where the binlog of this server ends."""

    position: Position
    server: Server

    def passed_by(self, saved: Position) -> bool:
        """Has a listener with this saved position dealt with everything before it?"""
        return positions.passes(saved, self.position, self.server)


class TableRows:
    """Reads the table of the settings, at most `chunk_rows` rows at a time. Thread-safe: each call has its own connection.

    Everything raises `DatabaseUnreachable`, and `SourceError` for a table that is not there, is altered meanwhile or has a row that
    cannot be decoded.
    """

    def __init__(self, settings: Settings, chunk_rows: int = chunks.CHUNK_ROWS) -> None:
        self._settings = settings
        self._address = settings.mysql.address
        self._chunk_rows = chunk_rows

    def about(self) -> int:
        """How many rows there are: the server's guess, of a small table the number."""
        with self._connected() as (connection, _, table):
            return chunks.about(connection, table, self._settings.table.key_columns)

    def all(self) -> Iterator[Row]:
        """Every row, in the order of the key. Memory is that of a chunk."""
        with self._connected() as (connection, _, table):
            reader = TextRows(table.columns)
            key = chunks.key_columns(table, self._settings.table.key_columns)
            after: Cursor | None = None
            asked, more = min(chunks.FIRST_ROWS, self._chunk_rows), True
            while more:
                statement = chunks.select(table, key, EVERYTHING, after, asked + 1)
                found = reader.read(connection, statement, asked, chunks.CHUNK_BYTES)
                yield from found.rows
                after, more = _cursor(table, key, found.last), found.more
                asked = chunks.next_rows(asked, found, self._chunk_rows, chunks.CHUNK_BYTES)

    def having(self, keys: Sequence[Sequence[Scalar]]) -> Sequence[Row]:
        """The rows with these keys, as many as there are: give few. Raises `UsageError` for a value that its column cannot have."""
        with self._connected() as (connection, _, table):
            key = chunks.key_columns(table, self._settings.table.key_columns)
            statement = chunks.select(table, key, selected(ids=keys), None, len(keys))
            return TextRows(table.columns).read(connection, statement, len(keys), 1 << 62).rows

    def end(self) -> End:
        """Where the binlog ends now: everything that was read before lies before it."""
        with closing(mysql.connect(self._address, database=None)) as connection, mysql.translated(self._address):
            server = mysql.look(connection, self._settings.mysql)
            return End(positions.now(connection, server), server)

    @contextmanager
    def _connected(self) -> Iterator[tuple[Connection, Server, Table]]:
        """With the table described as it is now: columns may have come since the last call."""
        address, name = self._address, self._settings.table.name
        with (
            closing(mysql.connect(address, database=None, read_timeout=chunks.READ_TIMEOUT_S)) as connection,
            mysql.translated(address),
            _readable(self._settings.source),
        ):
            server = mysql.look(connection, self._settings.mysql)
            table = tables.describe(connection, server, address.database, name)
            if table is None:
                raise SourceError(f"there is no table {self._settings.source}", "Correct table.name")
            chunks.prepare(connection)
            yield connection, server, table


@contextmanager
def _readable(source: str) -> Iterator[None]:
    try:
        yield
    except RowUnreadable as error:
        raise SourceError(f"a row of {source} cannot be read: {error}", "Correct the row or the column") from None
    except MySQLError as error:
        if mysql.number_of(error) not in chunks.ALTERED:
            raise
        raise SourceError(f"the table {source} was altered while it was read", "Do it again") from None


def _cursor(table: Table, key: Sequence[TableColumn], last: Sequence[bytes | None]) -> Cursor | None:
    if not last:
        return None
    raw = dict(zip(table.columns, last, strict=True))
    return tuple(conditions.key_value(column, raw[column] or b"") for column in key)
