"""The rows that are there already: chunk by chunk in key order, without a lock, each the table's state at one known moment of the binlog.

The stream runs all the time. At a transaction's end X a chunk is requested; from then on the keys of the stream's events are remembered.
The chunk comes back read in one view V with X ⊆ V ≤ until. Emitted when the stream has passed `until`, without the remembered keys, it is
exact: what V saw beyond X, the stream has brought already and newer. (DBLog, https://arxiv.org/abs/2010.12597, with the view between the
watermarks instead of the whole SELECT.)

X ⊆ V: MariaDB names the place of a consistent snapshot; MySQL with GTIDs says when it has executed a transaction; MySQL without them
commits in binlog order, so behind a commit of our own (`watermark`). V ≤ until: a transaction stands in the binlog before it can be seen,
so the binlog's end, asked for behind the view, will do.

Whoever emits chunks throws a pending one away when the stream shows an ALTER, a TRUNCATE or a RENAME of the table, and when it reconnects.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from time import monotonic

from pymysql.err import MySQLError

from ingest import conditions, mysql, positions, tables, watermark
from ingest.mysql import Connection, Server, query, quoted
from ingest.position import Cursor, KeyValue, Place, Position
from ingest.rows import TableColumn, expression
from ingest.selection import EVERYTHING, Selection
from ingest.tables import Table
from ingest.textrows import Found, RowUnreadable, TextRows, Values
from pixtail.core.errors import DatabaseUnreachable, SourceError
from pixtail.core.settings import MysqlAddress

CHUNK_ROWS = 4000
CHUNK_BYTES = 8 << 20
FIRST_ROWS = 64  # until the rows' size is known
READ_TIMEOUT_S = 300  # a filter without an index reads long before its first row
COMMIT_TIMEOUT_S = 60  # a commit may wait for the acknowledgement of a semi-synchronous replica
_PAUSE_S = 0.002
# The table is not as described: unknown column, no such table, no such index, altered since the view was opened.
_CHANGED_SINCE = 1412  # by a TRUNCATE too, which leaves it as described
ALTERED = {1054, 1146, 1176, _CHANGED_SINCE}


class TableAltered(SourceError):
    """The table is no longer as it was described. Describe it again, and make a new reader; the stream says what happened to it."""


class _Closed(Exception):
    pass


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows in key order, as they all were at one moment that lies before `until`. `after` is where the next chunk goes on; `last`: no rows
    follow. The last chunk may be empty."""

    rows: list[Values]
    after: Cursor | None
    last: bool
    until: Place


class ChunkReader:
    """Reads chunks in a thread and on a connection of its own. One request at a time; `request`, `poll` and `close` are for one thread.

    `key` is the primary key, in order. A chunk has at most `max_rows` rows, and none behind the one that reaches `max_bytes` bytes.
    `notify` is called in the reader's thread whenever `poll` has something to say.
    """

    def __init__(
        self,
        address: MysqlAddress,
        server: Server,
        table: Table,
        key: tuple[str, ...],
        selection: Selection | None = None,
        max_rows: int = CHUNK_ROWS,
        max_bytes: int = CHUNK_BYTES,
        notify: Callable[[], None] = lambda: None,
    ) -> None:
        self._address = address
        self._server = server
        self._table = table
        self._key = key_columns(table, key)
        self._selection = selection or EVERYTHING
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._notify = notify
        self._rows = TextRows(table.columns)
        self._next_rows = min(FIRST_ROWS, max_rows)
        self._connection: Connection | None = None
        self._closed = threading.Event()
        self._thread = ThreadPoolExecutor(1, "chunks")
        self._pending: Future[Chunk] | None = None

    def start(self) -> None:
        """Connects in the background, so that the first chunk need not wait for it. A failure comes again with the first request."""
        self._thread.submit(self._connected)

    def request(self, after: Cursor | KeyValue | None, not_before: Position, done: int = 0) -> None:
        """Asks for the rows behind `after` (None: from the beginning), in a view that sees every transaction up to `not_before`. `done`
        rows count against the selection's limit already."""
        cursor = after if after is None or isinstance(after, tuple) else (after,)
        self._pending = self._thread.submit(self._chunk, cursor, not_before, done)
        self._pending.add_done_callback(lambda _: self._notify())

    def poll(self) -> Chunk | None:
        """The chunk that was asked for, once; None while there is none.

        Raises `DatabaseUnreachable`; `TableAltered`; `SettingError` if the server cannot make a chunk exact; `SourceError` for a row that
        cannot be decoded; `UsageError` for a selection that does not fit the table. Afterwards it may be asked again.
        """
        if self._pending is None or not self._pending.done():
            return None
        pending, self._pending = self._pending, None
        return pending.result()

    def close(self) -> None:
        """Drops a pending request. Waits for the thread, at most as long as connecting may take."""
        self._closed.set()
        with suppress(
            OSError, AttributeError
        ):  # closing a socket does not end a read that has begun, shutting it down does
            self._connection._sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
        self._thread.shutdown(cancel_futures=True)
        self._disconnect()

    # In the reader's thread

    def _chunk(self, after: Cursor | None, not_before: Position, done: int) -> Chunk:
        """After a failure the connection may stand in the middle of something: the next request makes a new one."""
        try:
            with mysql.translated(self._address), self._noticing_alterations():
                return self._read(self._connected(), after, not_before, done)
        except BaseException:
            self._disconnect()
            raise

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = mysql.connect(self._address, database=None, read_timeout=READ_TIMEOUT_S)
            try:
                with mysql.translated(self._address):
                    prepare(self._connection)
            except BaseException:
                self._disconnect()
                raise
        if self._closed.is_set():
            raise _Closed
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            mysql.close(self._connection)
            self._connection = None

    def _read(self, connection: Connection, after: Cursor | None, not_before: Position, done: int) -> Chunk:
        rows = self._next_rows if self._selection.limit is None else min(self._next_rows, self._selection.limit - done)
        if rows <= 0:
            return Chunk([], after, True, not_before.place)
        statement = select(self._table, self._key, self._selection, after, rows + 1)
        seen = self._await(connection, not_before)
        found = self._rows.read(connection, statement, rows, self._max_bytes)
        until = seen or positions.place(connection, self._server)
        if seen:
            query(connection, "ROLLBACK")
        self._next_rows = next_rows(rows, found, self._max_rows, self._max_bytes)
        last = not found.more or done + len(found.rows) == self._selection.limit
        return Chunk(found.rows, self._cursor(found) or after, last, until)

    def _cursor(self, found: Found) -> Cursor | None:
        """The last row's key; None without rows."""
        if not found.rows:
            return None
        raw = dict(zip(self._table.columns, found.last, strict=True))
        return tuple(conditions.key_value(column, raw[column] or b"") for column in self._key)

    def _await(self, connection: Connection, not_before: Position) -> Place | None:
        """Returns when a read view sees everything up to `not_before`. On MariaDB that view is open then, and its exact place returned;
        elsewhere the next statement opens it."""
        if self._server.flavour == "mariadb":
            return self._open_view(connection, not_before.place)
        if not_before.gtid is None:
            watermark.advance(connection, self._server, self._table.database, self._table.name)
        elif not positions.executed(connection, not_before.gtid, COMMIT_TIMEOUT_S):
            raise self._too_slow()
        return None

    def _open_view(self, connection: Connection, not_before: Place) -> Place:
        """The stream may bring a transaction a moment before the engine has committed it."""
        deadline = monotonic() + COMMIT_TIMEOUT_S
        while monotonic() < deadline:
            query(connection, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
            place = positions.place_of_snapshot(connection)
            if place.reaches(not_before):
                return place
            query(connection, "ROLLBACK")
            if self._closed.wait(_PAUSE_S):
                raise _Closed
        raise self._too_slow()

    def _too_slow(self) -> DatabaseUnreachable:
        return DatabaseUnreachable(
            f"{self._server} at {self._address.host} has not committed within {COMMIT_TIMEOUT_S} s what its binlog holds",
            "See what its commits wait for: SHOW PROCESSLIST",
        )

    @contextmanager
    def _noticing_alterations(self) -> Iterator[None]:
        """Tells a table that was altered meanwhile from one that cannot be read."""
        try:
            yield
        except (MySQLError, RowUnreadable) as error:
            unreadable = isinstance(error, RowUnreadable)
            number = 0 if unreadable else mysql.number_of(error)
            if not unreadable and number not in ALTERED:
                raise
            name = f"{self._table.database}.{self._table.name}"
            if number == _CHANGED_SINCE or self._is_altered():
                raise TableAltered(f"the table {name} has been altered") from None
            if not unreadable:
                raise
            raise SourceError(f"a row of {name} cannot be read: {error}", "Correct the row or the column") from None

    def _is_altered(self) -> bool:
        with closing(mysql.connect(self._address, database=None)) as connection:
            now = tables.describe(connection, self._server, self._table.database, self._table.name)
        return now is None or (now.columns, now.key) != (self._table.columns, self._table.key)


def prepare(connection: Connection) -> None:
    """A session for `textrows`. PAD_CHAR_TO_FULL_LENGTH would change values, and in READ UNCOMMITTED a statement sees no single moment, and
    what may yet be undone. Raises PyMySQL's errors."""
    query(connection, "SET SESSION sql_mode = '', character_set_results = NULL")
    query(connection, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")


def key_columns(table: Table, key: tuple[str, ...]) -> list[TableColumn]:
    """The key's columns, in its order. Raises `SourceError` if one is not there."""
    found = {column.name: column for column in table.columns}
    if missing := [name for name in key if name not in found]:
        raise SourceError(f"{table.database}.{table.name} has no column {missing[0]}", "Correct table.key")
    return [found[name] for name in key]


def select(table: Table, key: list[TableColumn], selection: Selection, after: Cursor | None, limit: int) -> str:
    """The next rows of a selection. Only where values are filtered may another index be better than the primary key."""
    columns = ", ".join(expression(column) for column in table.columns)
    hint = "" if selection.where else " FORCE INDEX (PRIMARY)"
    order = ", ".join(quoted(column.name) for column in key)
    condition = where(table, key, selection, after)
    return (
        f"SELECT {columns} FROM {quoted(table.database, table.name)}{hint}"  # noqa: S608 - quoted, and literals of ours
        f" WHERE {condition} ORDER BY {order} LIMIT {limit}"
    )


def where(table: Table, key: list[TableColumn], selection: Selection, after: Cursor | None = None) -> str:
    """The condition of a selection's rows behind `after`. Raises `UsageError` for a selection that does not fit the table."""
    found = [conditions.having(table, name, value) for name, value in selection.where.items()]
    if selection.ids:
        found.append(conditions.having_keys(key, selection.ids))
    if after is not None:
        found.append(conditions.behind(key, after))
    return " AND ".join(found) or "TRUE"


def about(connection: Connection, table: Table, key: tuple[str, ...], selection: Selection | None = None) -> int:
    """How many rows a selection has: counted where that is cheap, else the server's guess. Raises `UsageError` for a selection that does
    not fit, and PyMySQL's errors: call it within `translated`."""
    chosen = selection or EVERYTHING
    found = tables.about(connection, table, where(table, key_columns(table, key), chosen))
    return found if chosen.limit is None else min(found, chosen.limit)


def next_rows(asked: int, found: Found, max_rows: int, max_bytes: int) -> int:
    """How many rows to ask for next: as many of this size as fit, but it grows slowly, for the next ones may be longer."""
    if not found.rows:
        return asked
    fitting = max_bytes * len(found.rows) // max(found.size_bytes, 1)
    return max(1, min(4 * asked, max_rows, fitting))
