"""The binlog stream: opened by mysql-replication, read from its socket in big pieces, and never silently reopened.

Why only opened: the library drops event types it does not know, decodes some values wrongly, and after a lost connection begins again at
its first position (mysql-replication 1.0.17). So it does the handshake and the request; each packet is then judged by us. There is no
thread: what is not read yet waits in the kernel's buffers, then in the server, so memory is bounded however long the bus hangs.
"""

from __future__ import annotations

import select
import ssl
import uuid
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import pymysql
from pymysql.err import MySQLError
from pymysqlreplication import BinLogStreamReader, binlogstream
from pymysqlreplication.event import RotateEvent

from ingest import mysql, positions
from ingest.gtid import GtidSet
from ingest.mysql import Connection, Server
from ingest.packets import PacketSplitter
from ingest.position import Position
from pixtail.core.errors import DatabaseUnreachable, PixtailError
from pixtail.core.settings import Settings

HEARTBEAT_S = (
    1  # whole seconds: MySQL 8.0.15 takes a fraction for nothing, and sends one for each event it skips (seen)
)
SILENCE_S = 20.0  # twenty heartbeats missed: the connection is dead, whatever TCP believes
PIECE_BYTES = 256 << 10
_RECORDS = 16  # of TLS, read at once
_DISMISS_S = 2
_ERR = 0xFF
_NAMESPACE = uuid.UUID("0c9d6c0e-0f1a-5d57-9b5e-5a3f6d1f7a52")


class SentGtids:
    """A GTID set as the library sends it: its own class does not know tags (MySQL 8.3)."""

    def __init__(self, text: str) -> None:
        self._encoded = GtidSet(text).encoded()
        self.encoded_length = len(self._encoded)

    def encoded(self) -> bytes:
        return self._encoded


binlogstream.GtidSet = SentGtids


class BinlogStream:
    """The packets of the binlog from a position on. A context manager, for one thread.

    `file` and `pos` say where the server began. Leaving it ends the server's side too.
    """

    def __init__(self, settings: Settings, server: Server, position: Position) -> None:
        self.file = ""
        self.pos = 0
        self._settings = settings
        self._address = settings.mysql.address
        self._server = server
        self._position = position
        self._splitter = PacketSplitter()
        self._stream: Any = None
        self._connection: Connection | None = None
        self._socket: Any = None
        self._encrypted = False
        self._poll = select.poll()
        self._silent_s = 0.0
        self._early: list[bytes] = []

    def __enter__(self) -> Self:
        """Connects. Raises `PositionLost` before anything is read, `DatabaseUnreachable`, `SettingError`."""
        self._confirm()
        try:
            with mysql.translated(self._address):
                self._open()
        except PixtailError as error:
            self._close()
            raise self._explained(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._dismiss()
        self._close()

    def read(self, timeout_s: float) -> list[bytes]:
        """The packets that have come, or none after `timeout_s`. Raises what ended the stream."""
        try:
            with mysql.translated(self._address):
                return self._read(timeout_s)
        except PixtailError as error:
            raise self._explained(error) from error

    def _read(self, timeout_s: float) -> list[bytes]:
        if self._early:
            packets, self._early = self._early, []
            return packets
        if not self._readable(timeout_s):
            self._silent_s += timeout_s
            if self._silent_s > SILENCE_S:
                raise DatabaseUnreachable(f"{self._server} at {self._address.host} has been silent for {SILENCE_S:g} s")
            return []
        self._silent_s = 0.0
        packets = self._splitter.feed(self._received())
        for packet in packets:
            if packet[0]:
                self._raise_end(packet)
        return packets

    def _received(self) -> bytes:
        """What is there; of TLS several records, each of which is read by a call of its own and has 16 kB at most."""
        pieces: list[bytes] = []
        with suppress(ssl.SSLWantReadError, BlockingIOError):
            while not pieces or (self._encrypted and len(pieces) < _RECORDS):
                pieces.append(self._socket.recv(PIECE_BYTES))
                if not pieces[-1]:
                    raise DatabaseUnreachable(f"{self._server} at {self._address.host} closed the binlog stream")
        return b"".join(pieces)

    def _readable(self, timeout_s: float) -> bool:
        unseen = self._encrypted and self._socket.pending()  # decrypted, and not seen by poll any more
        return bool(unseen or self._poll.poll(timeout_s * 1000))

    def _raise_end(self, packet: bytes) -> None:
        """Neither an event nor anything else may follow an ERR or EOF."""
        if packet[0] == _ERR:
            pymysql.err.raise_mysql_exception(packet)
        raise DatabaseUnreachable(f"{self._server} at {self._address.host} ended the binlog stream")

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
        self.file, self.pos = first.next_binlog, first.position
        self._take_over()

    def _take_over(self) -> None:
        """What PyMySQL has read too much goes first; then its socket is ours."""
        self._socket = self._connection._sock  # type: ignore[union-attr]
        self._encrypted = isinstance(self._socket, ssl.SSLSocket)
        self._socket.settimeout(0)
        self._poll.register(self._socket, select.POLLIN)
        with suppress(OSError):  # nothing there
            self._early = self._splitter.feed(self._connection._rfile.read1(PIECE_BYTES))  # type: ignore[union-attr]

    def _start(self) -> dict[str, Any]:
        """By GTID where there is one. MySQL's empty set means the file position; MariaDB's means its very first binlog."""
        gtid = self._position.gtid
        if self._server.flavour == "mariadb" and gtid is not None:
            return {"is_mariadb": True, "auto_position": gtid}
        if self._server.gtid and gtid:
            return {"auto_position": gtid}
        return {"log_file": self._position.file, "log_pos": self._position.pos}

    def _connect(self, **arguments: Any) -> Connection:
        """For the library: it makes two connections, the stream's and one that asks for `db` information_schema."""
        database = arguments.pop("db", None)
        connection = mysql.open_connection(**arguments | {"database": database})
        if database is None:
            self._connection = connection
        return connection

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

    def _close(self) -> None:
        with suppress(MySQLError, OSError):
            if self._stream is not None:
                self._stream.close()
