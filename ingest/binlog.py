"""The binlog stream: opened by mysql-replication, read by a thread of ours, and never silently reopened.

Why only opened: the library drops event types it does not know, decodes some values wrongly, and after a lost connection begins again at
its first position (mysql-replication 1.0.17). So it does the handshake and the request; each packet is then read and judged here.
"""

from __future__ import annotations

import socket
import threading
import uuid
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import pymysql
from pymysql.err import MySQLError
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.event import RotateEvent

from ingest import mysql, positions
from ingest.gtid import DomainPositions, Executed, GtidSet
from ingest.mysql import Connection, Server
from ingest.position import Position
from ingest.rowqueue import Closed, RowQueue
from ingest.sequence import now_ms
from ingest.transactions import Followed, Part, Rows, Transactions
from pixtail.core.errors import DatabaseUnreachable, PixtailError
from pixtail.core.settings import Settings

HEARTBEAT_S = 1
SILENCE_S = 20  # four heartbeats missed: the connection is dead, whatever TCP believes
MAX_ROWS = 10_000
MAX_BYTES = 64 << 20
_JOIN_S = 10.0
_DISMISS_S = 2
_NAMESPACE = uuid.UUID("0c9d6c0e-0f1a-5d57-9b5e-5a3f6d1f7a52")


class BinlogReader:
    """The parts of transactions from a position on, read ahead by a thread into a bounded queue. A context manager.

    Positions move at the end of transactions only. For one thread, besides its own.
    """

    def __init__(self, settings: Settings, server: Server, followed: Followed, position: Position) -> None:
        self._settings = settings
        self._address = settings.mysql.address
        self._server = server
        self._followed = followed
        self._position = position
        self._queue: RowQueue[Part] = RowQueue(MAX_ROWS, MAX_BYTES)
        self._stream: Any = None
        self._connection: Connection | None = None
        self._transactions: Transactions | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Connects. Raises `PositionLost` before anything is read, `DatabaseUnreachable`, `SettingError`."""
        self._confirm()
        try:
            with mysql.translated(self._address):
                self._open()
        except PixtailError as error:
            self._close()
            raise self._explained(error) from error
        self._thread = threading.Thread(target=self._read, name="binlog", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.close()
        if kind is None:
            self._dismiss()
        self._interrupt()
        if self._thread is not None:
            self._thread.join(_JOIN_S)

    def get(self, timeout_s: float) -> Part | None:
        """The next part, or None if none came in time. Raises what ended the stream, behind the parts that came before."""
        return self._queue.get(timeout_s)

    @property
    def waiting(self) -> int:
        """How many parts are here already."""
        return len(self._queue)

    # In the caller's thread

    def _confirm(self) -> None:
        connection = mysql.connect(self._address, database=None)
        try:
            with mysql.translated(self._address):
                positions.confirm(connection, self._server, self._position)
        finally:
            mysql.close(connection)

    def _open(self) -> None:
        """The first event names the file; until then the stream is the library's, afterwards ours."""
        self._stream = BinLogStreamReader(
            connection_settings=mysql.connection_arguments(self._address)
            | {"database": None, "read_timeout": SILENCE_S},
            pymysql_wrapper=self._connect,
            server_id=self._settings.server_id,
            slave_uuid=str(uuid.uuid5(_NAMESPACE, str(self._settings.server_id))),
            slave_heartbeat=HEARTBEAT_S,
            only_events=[RotateEvent],
            resume_stream=True,
            blocking=True,
            enable_logging=False,
            **self._start(),
        )
        first = self._stream.fetchone()
        if first is None or self._connection is None:
            raise DatabaseUnreachable(f"{self._server} ended the binlog stream at once")
        position = Position(self._position.gtid, first.next_binlog, first.position)
        self._transactions = Transactions(self._followed, position, self._executed())

    def _start(self) -> dict[str, Any]:
        """By GTID where there is one. MySQL's empty set means the file position; MariaDB's means its very first binlog."""
        gtid = self._position.gtid
        if self._server.flavour == "mariadb" and gtid is not None:
            return {"is_mariadb": True, "auto_position": gtid}
        if self._server.gtid and gtid:
            return {"auto_position": gtid}
        return {"log_file": self._position.file, "log_pos": self._position.pos}

    def _executed(self) -> Executed | None:
        if self._position.gtid is None:
            return None
        kind = DomainPositions if self._server.flavour == "mariadb" else GtidSet
        return kind(self._position.gtid)

    def _connect(self, **arguments: Any) -> Connection:
        """For the library: it makes two connections, the stream's and one that asks for `db` information_schema."""
        database = arguments.pop("db", None)
        connection: Connection = pymysql.connect(**arguments | {"database": database})
        if database is None:
            self._connection = connection
        return connection

    # In the reader's thread

    def _read(self) -> None:
        try:
            with mysql.translated(self._address):
                self._read_packets()
        except Closed:
            pass
        except PixtailError as error:
            self._queue.fail(self._explained(error))
        except BaseException as error:  # noqa: BLE001 - raised again in the listener's thread
            self._queue.fail(error)
        finally:
            self._close()

    def _read_packets(self) -> None:
        assert self._connection is not None
        assert self._transactions is not None
        while True:
            packet = self._connection._read_packet()  # type: ignore[no-untyped-call]
            if packet.is_eof_packet():
                raise DatabaseUnreachable(f"{self._server} at {self._address.host} ended the binlog stream")
            for part in self._transactions.feed(packet.get_all_data(), now_ms()):
                if isinstance(part, Rows):
                    self._queue.put(part, len(part.changes), part.size_bytes)
                else:
                    self._queue.put(part)

    def _explained(self, error: PixtailError) -> PixtailError:
        """Error 1236 says that the binlog cannot be sent, for many reasons. MariaDB: because it was purged. MySQL: also because another
        replica took our id; a purged position was seen before, and will be seen again at the next start."""
        number = mysql.number_of(error.__cause__) if error.__cause__ else 0
        if number != mysql.BINLOG_REFUSED:
            return error
        message = str(error.__cause__.args[-1]) if error.__cause__ else ""
        if self._server.flavour == "mariadb":
            return positions.lost(self._server, f"does not send the binlog from our position on: {message}")
        return DatabaseUnreachable(f"{self._server} at {self._address.host} ended the binlog stream: {message}")

    def _dismiss(self) -> None:
        """Ends the server's side too. It would notice our absence at its next heartbeat, and MySQL 8.0.15 takes eight seconds longer to
        shut down while one of its dump threads lives (measured). An account may kill its own threads."""
        with suppress(PixtailError, MySQLError, OSError, AttributeError):
            number = self._connection.thread_id()  # type: ignore[union-attr]
            with mysql.connect(
                self._address, database=None, connect_timeout=_DISMISS_S, read_timeout=_DISMISS_S
            ) as connection:
                mysql.query(connection, f"KILL {number}")

    def _interrupt(self) -> None:
        """Wakes the thread: closing a socket does not end a read that has begun, shutting it down does."""
        with suppress(OSError, AttributeError):
            self._connection._sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]

    def _close(self) -> None:
        with suppress(MySQLError, OSError):
            if self._stream is not None:
                self._stream.close()
