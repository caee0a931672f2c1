"""What the tests of chunks share: a table, its chunks, and a stream of its binlog that knows what the table held at each place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pymysql
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.event import GtidEvent, HeartbeatLogEvent, RotateEvent, XidEvent
from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent

from ingest import mysql, positions, tables
from ingest.chunks import Chunk, ChunkReader
from ingest.gtid import GtidSet
from ingest.mysql import Server
from ingest.position import Cursor, Place, Position
from ingest.tables import Table
from pixtail.core.settings import Mysql
from pixtail.servers.sql import SqlServer
from tests.integration.listener_kit import wait_for

Rows = dict[int, dict[str, Any]]


class Chunked:
    """A table of a database, to be read in chunks."""

    def __init__(
        self, server: SqlServer, database: str, options: str = "?ssl_mode=DISABLED", user: str = "root"
    ) -> None:
        self.server = server
        self.database = database
        self.settings = Mysql(url=f"{server.url(database, user)}{options}")
        self.address = self.settings.address

    def sql(self, *statements: str) -> None:
        self.server.execute(*statements, database=self.database)

    def look(self) -> tuple[Server, Table]:
        with closing(mysql.connect(self.address)) as connection:
            server = mysql.look(connection, self.settings)
            table = tables.describe(connection, server, self.database, "images")
        assert table is not None
        return server, table

    def now(self) -> Position:
        with closing(mysql.connect(self.address)) as connection:
            return positions.now(connection, mysql.look(connection, self.settings))

    @contextmanager
    def reader(self, key: tuple[str, ...] = ("id",), **options: Any) -> Iterator[ChunkReader]:
        server, table = self.look()
        reader = ChunkReader(self.address, server, table, key, **options)
        reader.start()
        try:
            yield reader
        finally:
            reader.close()

    def chunks(self, key: tuple[str, ...] = ("id",), **options: Any) -> list[Chunk]:
        """All of them."""
        with self.reader(key, **options) as reader:
            return list(read_all(reader, self.now()))


def taken(reader: ChunkReader, after: Cursor | None, not_before: Position, done: int = 0) -> Chunk:
    """The next chunk, waited for."""
    reader.request(after, not_before, done)
    chunk = wait_for(reader.poll, "a chunk")
    assert isinstance(chunk, Chunk)
    return chunk


def read_all(reader: ChunkReader, not_before: Position) -> Iterator[Chunk]:
    after, done, last = None, 0, False
    while not last:
        chunk = taken(reader, after, not_before, done)
        yield chunk
        after, done, last = chunk.after, done + len(chunk.rows), chunk.last


class Replica:
    """The table `images` as the binlog tells it, from a position on at which it was empty. `feed` it in one thread."""

    def __init__(self, chunked: Chunked, position: Position, server_id: int) -> None:
        self.rows: Rows = {}
        self.place = position.place
        self.changed: set[int] = set()
        self._executed = (
            GtidSet(position.gtid) if position.gtid is not None and chunked.server.name == "mysql" else None
        )
        self._gtid = ""
        self._inside = False  # of a transaction
        self._stream = BinLogStreamReader(
            pymysql_wrapper=_connect,
            connection_settings={"host": chunked.address.host, "port": chunked.address.port, "user": "root"},
            server_id=server_id,
            log_file=position.file,
            log_pos=position.pos,
            resume_stream=True,
            blocking=True,
            slave_heartbeat=0.05,
            only_schemas=[chunked.database],
        )

    def feed(self) -> None:
        """The next event."""
        event = self._stream.fetchone()
        if isinstance(event, WriteRowsEvent | UpdateRowsEvent | DeleteRowsEvent):
            self._inside = True
            for row in event.rows if event.table == "images" else ():
                self._apply(
                    row.get("before_values", row.get("values")), row.get("after_values", row.get("values")), event
                )
        elif isinstance(event, GtidEvent):
            self._gtid = event.gtid
        elif isinstance(event, XidEvent | RotateEvent | HeartbeatLogEvent):
            self._end(isinstance(event, XidEvent))

    def _apply(self, before: Any, after: Any, event: Any) -> None:
        if not isinstance(event, WriteRowsEvent):
            del self.rows[before["id"]]
            self.changed.add(before["id"])
        if not isinstance(event, DeleteRowsEvent):
            self.rows[after["id"]] = after
            self.changed.add(after["id"])

    def _end(self, is_commit: bool) -> None:
        """A heartbeat tells the place that an idle stream has reached."""
        self._inside = False
        self.place = Place(self._stream.log_file, self._stream.log_pos)
        if is_commit and self._executed is not None:
            self._executed.add(self._gtid)

    @property
    def between_transactions(self) -> bool:
        return not self._inside

    @property
    def position(self) -> Position:
        gtid = None if self._executed is None else str(self._executed)
        return Position("" if gtid is None else gtid, self.place.file, self.place.pos)

    def feed_until(self, condition: Callable[[], bool]) -> None:
        while not (self.between_transactions and condition()):
            self.feed()

    def close(self) -> None:
        self._stream.close()


def _connect(**arguments: Any) -> Any:
    """The library still says `db`."""
    database = arguments.pop("db", None)
    return pymysql.connect(**arguments | {"database": database})
