"""From the packets of the binlog stream to the parts of transactions that the listener writes. Pure, but for what it remembers.

This is the hot path: a transaction of one row comes in five packets, and each costs about a microsecond. So headers are unpacked in place,
TABLE_MAPs are known again by their bytes, and what is made of each event is as small as can be.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

from ingest import compression, events, statements, tablemap
from ingest.events import EventType
from ingest.rowimage import ColumnUnreadable, Incomplete, RowChange, RowImages
from ingest.statements import Effect
from pixtail.core.errors import SourceError, UndecodableEvent

_DUMMY_TABLE_ID = (0x00FFFFFF).to_bytes(6, "little")  # MySQL: a row event without rows that only ends a statement
_MOST_SHAPES = 1000  # remembered TABLE_MAPs, of all tables of the server
_MOST_BEGINS = 1000  # there is one for each set of session variables that the statement depends on
_GTID, _QUERY, _TABLE_MAP, _XID = map(int, (EventType.GTID, EventType.QUERY, EventType.TABLE_MAP, EventType.XID))
_KIND, _BODY = events.KIND, events.BODY
_TABLE_ID = slice(_BODY, _BODY + 6)  # in TABLE_MAPs and row events
_SHORT = 5  # packets of a transaction of one row event
AGAIN = "then take a new snapshot: start with --on-lost-position=snapshot"


class Transaction(NamedTuple):
    """What is known of a transaction while its rows come in. `commit_ms`: since the epoch, of the server's clock."""

    gtid: str | None
    server_id: int
    commit_ms: int


_transaction = partial(tuple.__new__, Transaction)  # the same as Transaction(…), and takes half as long


class Handler(Protocol):
    """Is told, in order, what the stream brings. `file` and `pos` say where the event begins; behind a commit, where it ends."""

    def rows(self, transaction: Transaction, changes: list[RowChange], file: str, pos: int, size_bytes: int) -> None:
        """Row changes of the table, all of one kind."""

    def truncated(self, transaction: Transaction, file: str, pos: int) -> None:
        """The table lost all its rows at once."""

    def committed(self, gtid: str | None, file: str, pos: int, commit_ms: int) -> None:
        """A transaction is complete, of whatever table. Without a GTID: it has none, or only the position has moved."""


@dataclass(frozen=True, slots=True)
class Followed:
    """What is followed, and what the server knows that the binlog does not say: the character set of each collation id, which columns
    are MariaDB's JSON, which are unsigned now, and what `tablemap.columns` says of YEAR. `may_go`: a table that goes is an empty one
    (`table.on_drop`)."""

    database: str
    table: str
    mariadb: bool
    charset_of: Mapping[int, str]
    json: frozenset[str] = frozenset()
    unsigned: Mapping[str, bool] = field(default_factory=dict)
    year_is_numeric: bool | None = None
    may_go: bool = False


class Transactions:
    """Reads one stream, which begins in `file` at offset `pos`. For one thread.

    Between transactions, `file` and `pos` say how far it has read, of whatever tables. `altered` is set once a statement has made another
    table of ours.
    """

    def __init__(self, followed: Followed, file: str, pos: int, handler: Handler) -> None:
        self.file = file
        self.pos = pos
        self.altered: Effect | None = None
        self._followed = followed
        self._handler = handler
        self._received_ms = 0
        self._offset = pos  # behind the event at hand; counted for MariaDB only
        self._checksum_bytes = 0  # until the FORMAT_DESCRIPTION, which comes first, says otherwise
        self._tables: dict[bytes, RowImages | None] = {}  # by table id; None: another table
        self._shapes: dict[bytes, RowImages | None] = {}  # by the bytes of the TABLE_MAP
        self._begins: set[bytes] = set()  # QUERY events that say BEGIN, without their first eight bytes
        self._sids: dict[bytes, str] = {}
        self._transaction: Transaction | None = None
        self._open = False  # between BEGIN and COMMIT
        self._has_rows = False
        self._takes: dict[int, Callable[[bytes, int], None]] = {
            EventType.QUERY: self._query,
            EventType.EXECUTE_LOAD_QUERY: self._load,
            EventType.ROTATE: self._rotate,
            EventType.FORMAT_DESCRIPTION: self._format,
            EventType.XID: self._xid,
            EventType.TABLE_MAP: self._map,
            EventType.GTID: self._mysql_gtid,
            EventType.ANONYMOUS_GTID: self._mysql_gtid,
            EventType.MARIADB_GTID: self._mariadb_gtid,
            EventType.XA_PREPARE: self._xa_prepare,
            EventType.GTID_TAGGED: self._tagged_gtid,
            EventType.HEARTBEAT: self._heartbeat,
            EventType.TRANSACTION_PAYLOAD: self._payload,
            EventType.QUERY_COMPRESSED: self._compressed,
            **dict.fromkeys(events.COMPRESSED_ROWS, self._compressed_rows),
            **dict.fromkeys(events.INSERTS, self._inserts),
            **dict.fromkeys(events.UPDATES, self._updates),
            **dict.fromkeys(events.DELETES, self._deletes),
        }

    def feed(self, packets: Sequence[bytes], received_ms: int) -> None:
        """Tells the handler what the packets bring. Stops behind the transaction that set `altered`: what follows must be read anew.

        Raises `UndecodableEvent` or `SourceError` rather than skip something.
        """
        self._received_ms = received_ms
        takes, counts = self._takes, self._followed.mariadb
        at, number = 0, len(packets)
        while at < number:
            packet = packets[at]
            kind = packet[_KIND]
            if kind == _GTID and at + _SHORT <= number and self._short(*packets[at : at + _SHORT]):
                at += _SHORT
                continue
            at += 1
            if counts:
                self._count(packet)
            take = takes.get(kind)
            if take is not None:
                take(packet, len(packet) - self._checksum_bytes)
            else:
                self._pass_or_refuse(packet)
            if self.altered is not None and not self._open:
                return

    def _short(self, opening: bytes, begin: bytes, described: bytes, rows: bytes, xid: bytes) -> bool:
        """A transaction of one row event, the commonest there is, in one go: nothing of it has to be remembered.

        False: it is another one, or something about it is new or wrong; nothing has been done then.
        """
        if xid[_KIND] != _XID or described[_KIND] != _TABLE_MAP or begin[_KIND] != _QUERY:
            return False
        decode, checksum = _DECODE.get(rows[_KIND]), self._checksum_bytes
        if decode is None or rows[_TABLE_ID] != described[_TABLE_ID]:
            return False
        if begin[_BODY + 8 : len(begin) - checksum] not in self._begins:
            return False
        try:
            images = self._shapes[described[_BODY + 8 : len(described) - checksum]]
            timestamp_s, _, server_id, sid, number, commit_ms = events.mysql_gtid(opening, len(opening) - checksum)
            gtid = f"{self._sids[sid]}:{number}"
            changes = images and decode(images, rows, events.rows_start(rows), len(rows) - checksum)
        except (KeyError, Incomplete, ColumnUnreadable):
            return False
        commit_ms = commit_ms or self._commit_ms(timestamp_s)
        if changes:
            size, end = events.size_and_end(rows)
            self._handler.rows(_transaction((gtid, server_id, commit_ms)), changes, self.file, end - size, len(rows))
        self._end(gtid, events.end(xid), commit_ms)
        return True

    def _count(self, packet: bytes) -> None:
        """MariaDB 11.8 writes no offsets into the events inside a transaction (seen): they are counted from the last one that has one."""
        if behind := events.end(packet):
            self._offset = behind
        elif events.timestamp_s(packet) and packet[events.KIND] not in events.OUTSIDE_FILE:
            self._offset += events.size(packet)

    def _pass_or_refuse(self, packet: bytes) -> None:
        if packet[events.KIND] not in events.HARMLESS:
            self._refuse(packet)
        self.pos = events.end(packet) or self.pos

    def _refuse(self, packet: bytes) -> None:
        """Stops, unless the event is of another table."""
        kind = packet[events.KIND]
        if kind in events.UNDECODABLE_ROWS:
            if self._images(packet) is None:
                return
            name, remedy = events.UNDECODABLE_ROWS[kind]
        else:
            name, remedy = events.UNDECODABLE.get(kind, ("unknown", "Report the server's version and this type"))
        raise UndecodableEvent(
            f"the binlog event {name} (type {kind}) at {self._at(packet)} cannot be decoded", f"{remedy}; {AGAIN}"
        )

    # Transactions

    def _mysql_gtid(self, packet: bytes, stop: int) -> None:
        timestamp_s, kind, server_id, sid, number, commit_ms = events.mysql_gtid(packet, stop)
        gtid = f"{self._sids.get(sid) or self._sid(sid)}:{number}" if kind == _GTID else None
        self._transaction = Transaction(gtid, server_id, commit_ms or self._commit_ms(timestamp_s))
        self._has_rows = False

    def _tagged_gtid(self, packet: bytes, stop: int) -> None:
        _, _, server_id, _, _, _ = events.HEADER.unpack_from(packet)
        try:
            gtid, commit_ms = events.tagged_gtid(packet[events.BODY : stop])
        except ValueError as error:
            raise UndecodableEvent(f"the GTID at {self._at(packet)} cannot be decoded: {error}") from error
        self._transaction = Transaction(gtid, server_id, commit_ms)
        self._has_rows = False

    def _sid(self, sid: bytes) -> str:
        self._sids[sid] = text = str(uuid.UUID(bytes=sid))
        return text

    def _mariadb_gtid(self, packet: bytes, _stop: int) -> None:
        timestamp_s, _, server_id, _, _, _ = events.HEADER.unpack_from(packet)
        gtid, self._open = events.mariadb_gtid(packet, server_id)
        self._transaction = Transaction(gtid, server_id, self._commit_ms(timestamp_s))
        self._has_rows = False

    def _commit_ms(self, timestamp_s: int) -> int:
        """The header has whole seconds: the latest moment that they allow, but no moment to come."""
        return min(self._received_ms, timestamp_s * 1000 + 999)

    def _xid(self, packet: bytes, _stop: int) -> None:
        transaction = self._transaction or self._current(packet)
        self._end(transaction.gtid, events.end(packet), transaction.commit_ms)

    def _end(self, gtid: str | None, end: int, commit_ms: int) -> None:
        self._transaction, self._open, self._has_rows = None, False, False
        self._tables.clear()
        self.pos = end or self.pos
        self._handler.committed(gtid, self.file, self.pos, commit_ms)

    def _xa_prepare(self, packet: bytes, stop: int) -> None:
        """Its rows are not committed yet, and may never be. The event ends a group of its own, unless it commits in one phase."""
        if self._has_rows and not packet[events.BODY]:
            raise UndecodableEvent(
                f"an XA transaction prepared at {self._at(packet)} changed the table {self._name}",
                f"Write to it without XA PREPARE; {AGAIN}",
            )
        self._xid(packet, stop)

    def _current(self, packet: bytes) -> Transaction:
        if self._transaction is None:  # no GTID event went before
            timestamp_s, _, server_id, _, _, _ = events.HEADER.unpack_from(packet)
            self._transaction = Transaction(None, server_id, self._commit_ms(timestamp_s))
            self._has_rows = False
        return self._transaction

    # Statements

    def _query(self, packet: bytes, stop: int) -> None:
        text = packet[events.BODY + 8 : stop]
        if text in self._begins:
            self._open = True
            return
        start = events.text_start(packet, events.QUERY_FIXED)
        if packet[start:stop] == b"BEGIN" and len(self._begins) < _MOST_BEGINS:
            self._begins.add(text)
        self._statement(packet, start, stop)

    def _load(self, packet: bytes, stop: int) -> None:
        self._statement(packet, events.text_start(packet, events.LOAD_FIXED), stop)

    def _statement(self, packet: bytes, start: int, stop: int) -> None:
        text = packet[start:stop].decode(errors="replace")
        default = events.default_database(packet, start)
        effect = statements.effect(text, statements.Target(self._followed.database, self._followed.table, default))
        transaction = self._current(packet)
        self._stop_at(effect, packet)
        if effect is Effect.TRUNCATED or effect in statements.GONE:
            self._handler.truncated(transaction, self.file, self._start(packet))
        if effect is Effect.BEGIN:
            self._open = True
        elif effect is Effect.COMMIT or not self._open or text == Effect.ROLLBACK.value:
            self._xid(packet, stop)
        if effect in statements.ALTERING:
            self.altered = effect

    def _stop_at(self, effect: Effect, packet: bytes) -> None:
        """At what changed rows and does not say which."""
        if effect in statements.STOPPING or (effect in statements.GONE and not self._followed.may_go):
            raise SourceError(
                f"{effect.value} of {self._name} at {self._at(packet)} changed rows that the binlog does not hold",
                f"{_REMEDIES.get(effect, 'Restore the table if need be')}; {AGAIN}",
            )
        if effect is Effect.ROLLBACK:
            self._refuse_rollback(packet)

    def _refuse_rollback(self, packet: bytes) -> None:
        """Row events before a ROLLBACK exist only where a transaction mixes engines, and which of them count is not said."""
        if self._has_rows:
            raise UndecodableEvent(
                f"a transaction that changed {self._name} and mixes storage engines was rolled back at {self._at(packet)}",
                f"Do not mix engines in a transaction; {AGAIN}",
            )

    # Rows

    def _map(self, packet: bytes, stop: int) -> None:
        """Known again by its bytes, which stays right across ALTER TABLE and reused table ids."""
        described = packet[events.BODY + 8 : stop]
        try:
            images = self._shapes[described]
        except KeyError:
            images = self._shape(described, packet)
        self._tables[packet[events.BODY : events.BODY + 6]] = images

    def _shape(self, described: bytes, packet: bytes) -> RowImages | None:
        if len(self._shapes) >= _MOST_SHAPES:
            self._shapes.clear()
        found = tablemap.table_map(described)
        ours = (found.database, found.table) == (self._followed.database, self._followed.table)
        self._shapes[described] = images = self._compile(found.rest, packet) if ours else None
        return images

    def _compile(self, rest: bytes, packet: bytes) -> RowImages:
        try:
            columns = tablemap.columns(
                rest, self._followed.mariadb, self._followed.unsigned, self._followed.year_is_numeric
            )
            return RowImages(columns, self._followed.charset_of, self._followed.json)
        except (tablemap.Unreadable, ColumnUnreadable) as error:
            raise UndecodableEvent(
                f"the TABLE_MAP of {self._name} at {self._at(packet)} cannot be decoded: {error}",
                f"SET GLOBAL binlog_row_metadata = FULL; {AGAIN}",
            ) from error

    def _images(self, packet: bytes) -> RowImages | None:
        """None: of another table."""
        number = packet[events.BODY : events.BODY + 6]
        images = self._tables.get(number)
        if images is None and number not in self._tables and number != _DUMMY_TABLE_ID:
            raise UndecodableEvent(f"the row event at {self._at(packet)} comes without its TABLE_MAP")
        return images

    def _inserts(self, packet: bytes, stop: int) -> None:
        self._rows(packet, stop, RowImages.inserts)

    def _updates(self, packet: bytes, stop: int) -> None:
        self._rows(packet, stop, RowImages.updates)

    def _deletes(self, packet: bytes, stop: int) -> None:
        self._rows(packet, stop, RowImages.deletes)

    def _rows(self, packet: bytes, stop: int, decode: Callable[[RowImages, bytes, int, int], list[RowChange]]) -> None:
        images = self._images(packet)
        if images is None:
            return
        self._has_rows = True
        try:
            changes = decode(images, packet, events.rows_start(packet), stop)
        except Incomplete as error:
            raise UndecodableEvent(
                f"a row of {self._name} at {self._at(packet)} is incomplete: {error}",
                f"SET GLOBAL binlog_row_image = FULL (sessions too); {AGAIN}",
            ) from error
        except ColumnUnreadable as error:
            raise UndecodableEvent(f"a row of {self._name} at {self._at(packet)} cannot be decoded: {error}") from error
        if changes:
            transaction = self._transaction or self._current(packet)
            self._handler.rows(transaction, changes, self.file, self._start(packet), len(packet))

    # What is compressed

    def _payload(self, packet: bytes, stop: int) -> None:
        """The events of a whole transaction. Their offsets mean nothing; they get those of the event that they are in, and its checksum's
        room."""
        with self._torn(packet):
            for event in compression.inner_events([packet[events.BODY : stop]]):
                inner = b"".join((b"\0", event[:9], packet[10:18], event[17:], bytes(self._checksum_bytes)))
                self.feed([inner], self._received_ms)

    def _compressed_rows(self, packet: bytes, stop: int) -> None:
        if self._images(packet) is not None:
            self._compressed(packet, stop)

    def _compressed(self, packet: bytes, stop: int) -> None:
        with self._torn(packet):
            kind, body = compression.plain(packet[events.KIND], packet[events.BODY : stop])
        plain = b"".join((packet[: events.KIND], bytes([kind]), packet[events.KIND + 1 : events.BODY], body))
        self._takes[kind](plain, len(plain))

    @contextmanager
    def _torn(self, packet: bytes) -> Iterator[None]:
        try:
            yield
        except compression.Torn as error:
            raise UndecodableEvent(f"the compressed event at {self._at(packet)} cannot be decoded: {error}") from error

    # Where

    def _format(self, packet: bytes, _stop: int) -> None:
        self._checksum_bytes = events.checksum_bytes(packet)
        self.pos = events.end(packet) or self.pos

    def _rotate(self, packet: bytes, stop: int) -> None:
        """The real one (the first of a stream has no time) lies between transactions; without this step an idle server's file could be
        purged under a file position that nothing moves."""
        self.file, self.pos = events.rotation(packet[events.BODY : stop])
        timestamp_s = events.timestamp_s(packet)
        if timestamp_s and not self._open:
            self._handler.committed(None, self.file, self.pos, timestamp_s * 1000)

    def _heartbeat(self, packet: bytes, stop: int) -> None:
        """Names the file, and in its header the offset up to which the server has nothing more for us."""
        self.file, self.pos = packet[events.BODY : stop].decode(), events.end(packet) or self.pos

    def _start(self, packet: bytes) -> int:
        """The offset where an event begins."""
        size, end = events.size_and_end(packet)
        return max((end or self._offset) - size, 0)

    def _at(self, packet: bytes) -> str:
        return f"{self.file}:{self._start(packet)}"

    @property
    def _name(self) -> str:
        return f"{self._followed.database}.{self._followed.table}"


_DECODE: dict[int, Callable[[RowImages, bytes, int, int], list[RowChange]]] = {
    EventType.WRITE_ROWS: RowImages.inserts,
    EventType.UPDATE_ROWS: RowImages.updates,
    EventType.DELETE_ROWS: RowImages.deletes,
}
_REMEDIES = {
    Effect.WRITTEN: "SET GLOBAL binlog_format = ROW (sessions too)",
    Effect.RENAMED: "Correct table.name if it has another one now",
    Effect.DROPPED: 'Restore the table, or set table.on_drop = "empty"',
}
