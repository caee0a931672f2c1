"""From the packets of the binlog stream to the parts of transactions that the listener writes. Pure, but for what it remembers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ingest import events, statements, tablemap
from ingest.events import Event, EventType
from ingest.gtid import Executed
from ingest.position import Position
from ingest.rowimage import ColumnUnreadable, Incomplete, RowImages
from ingest.statements import Effect
from pixtail.core.errors import SourceError, UndecodableEvent

Values: TypeAlias = dict[str, Any]
RowChange: TypeAlias = tuple[Values | None, Values | None]
"""Before and after; None where there is none."""

_DUMMY_TABLE_ID = 0x00FFFFFF  # MySQL: a row event without rows that only ends a statement
AGAIN = "then take a new snapshot under another kafka.prefix"


@dataclass(frozen=True, slots=True)
class Transaction:
    """What is known of a transaction while its rows come in. `commit_ms`: since the epoch, of the server's clock."""

    gtid: str | None
    server_id: int
    commit_ms: int


@dataclass(frozen=True, slots=True)
class Rows:
    """Row changes of the table, in order; `file` and `pos` say where their event begins."""

    transaction: Transaction
    changes: list[RowChange]
    file: str
    pos: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Truncated:
    """TRUNCATE of the table."""

    transaction: Transaction
    file: str
    pos: int


@dataclass(frozen=True, slots=True)
class Committed:
    """A transaction is complete, of whatever table; `position` lies behind it."""

    position: Position
    commit_ms: int


@dataclass(frozen=True, slots=True)
class Altered:
    """The table was altered by the transaction before: whether it can still be followed must be looked at again."""


Part: TypeAlias = Rows | Truncated | Committed | Altered


@dataclass(frozen=True, slots=True)
class Followed:
    """What is followed, and what the server knows that the binlog does not say: the character set of each collation id, which columns
    are MariaDB's JSON, and which are unsigned now."""

    database: str
    table: str
    mariadb: bool
    charset_of: Mapping[int, str]
    json: frozenset[str] = frozenset()
    unsigned: Mapping[str, bool] = field(default_factory=dict)


class Transactions:
    """Reads one stream, from `position` on. `executed` grows with each transaction (None: no GTIDs). For one thread."""

    def __init__(self, followed: Followed, position: Position, executed: Executed | None) -> None:
        self._followed = followed
        self._file = position.file
        self._executed = executed
        self._checksums = False  # until the FORMAT_DESCRIPTION, which comes first, says otherwise
        self._tables: dict[int, RowImages | None] = {}  # None: another table
        self._shapes: dict[bytes, RowImages] = {}
        self._transaction: Transaction | None = None
        self._open = False  # between BEGIN and COMMIT
        self._has_rows = False
        self._handlers = {
            EventType.QUERY: self._statement,
            EventType.EXECUTE_LOAD_QUERY: self._statement,
            EventType.ROTATE: self._rotate,
            EventType.XID: self._commit,
            EventType.TABLE_MAP: self._map,
            EventType.GTID: self._mysql_gtid,
            EventType.ANONYMOUS_GTID: self._mysql_gtid,
            EventType.MARIADB_GTID: self._mariadb_gtid,
            EventType.XA_PREPARE: self._xa_prepare,
            **dict.fromkeys(events.ROWS, self._rows),
        }

    def feed(self, packet: bytes, received_ms: int) -> Iterator[Part]:
        """What the next packet brings. Raises `UndecodableEvent` or `SourceError` rather than skip something."""
        event = events.parse(packet, self._checksums)
        if event.type == EventType.FORMAT_DESCRIPTION:
            self._checksums = events.has_checksums(packet)
            return
        handler = self._handlers.get(event.type)  # type: ignore[call-overload]
        if handler is not None:
            yield from handler(event, received_ms)
        elif event.type not in events.HARMLESS:
            self._refuse(event)

    def _refuse(self, event: Event) -> None:
        """Stops, unless the event is of another table."""
        if event.type in events.UNDECODABLE_ROWS:
            if self._table_of(event) is None:
                return
            name, remedy = events.UNDECODABLE_ROWS[event.type]
        else:
            name, remedy = events.UNDECODABLE.get(event.type, ("unknown", "Report the server's version and this type"))
        raise UndecodableEvent(
            f"the binlog event {name} (type {event.type}) at {self._at(event)} cannot be decoded", f"{remedy}; {AGAIN}"
        )

    # Transactions

    def _mysql_gtid(self, event: Event, received_ms: int) -> Iterator[Part]:
        gtid, commit_ms = events.mysql_gtid(event.body)
        anonymous = event.type == EventType.ANONYMOUS_GTID
        self._begin(None if anonymous else gtid, event, commit_ms or _commit_ms(event, received_ms))
        return iter(())

    def _mariadb_gtid(self, event: Event, received_ms: int) -> Iterator[Part]:
        gtid, self._open = events.mariadb_gtid(event)
        self._begin(gtid, event, _commit_ms(event, received_ms))
        return iter(())

    def _begin(self, gtid: str | None, event: Event, commit_ms: int) -> None:
        self._transaction = Transaction(gtid, event.server_id, commit_ms)
        self._has_rows = False

    def _commit(self, event: Event, received_ms: int) -> Iterator[Part]:
        transaction = self._current(event, received_ms)
        if self._executed is not None and transaction.gtid is not None:
            self._executed.add(transaction.gtid)
        self._transaction, self._open, self._has_rows = None, False, False
        self._tables.clear()
        yield Committed(self._position(event.end), transaction.commit_ms)

    def _xa_prepare(self, event: Event, received_ms: int) -> Iterator[Part]:
        """Its rows are not committed yet, and may never be. The event ends a group of its own, unless it commits in one phase."""
        if self._has_rows and not event.body[0]:
            raise UndecodableEvent(
                f"an XA transaction prepared at {self._at(event)} changed the table {self._name}",
                f"Write to it without XA PREPARE; {AGAIN}",
            )
        return self._commit(event, received_ms)

    def _current(self, event: Event, received_ms: int) -> Transaction:
        if self._transaction is None:  # no GTID event went before
            self._begin(None, event, _commit_ms(event, received_ms))
        assert self._transaction is not None
        return self._transaction

    # Statements

    def _statement(self, event: Event, received_ms: int) -> Iterator[Part]:
        default, text = events.statement(event)
        found = statements.effect(text, statements.Target(self._followed.database, self._followed.table, default))
        transaction = self._current(event, received_ms)
        if found in statements.STOPPING:
            raise SourceError(
                f"{found.value} of {self._name} at {self._at(event)} changed rows that the binlog does not hold",
                f"{_REMEDIES.get(found, 'Restore the table if need be')}; {AGAIN}",
            )
        if found is Effect.ROLLBACK:
            self._refuse_rollback(event)
        if found is Effect.TRUNCATED:
            yield Truncated(transaction, self._file, event.start)
        if found is Effect.BEGIN:
            self._open = True
        elif found is Effect.COMMIT or not self._open or text == Effect.ROLLBACK.value:
            yield from self._commit(event, received_ms)
        if found is Effect.ALTERED:
            yield Altered()

    def _refuse_rollback(self, event: Event) -> None:
        """Row events before a ROLLBACK exist only where a transaction mixes engines, and which of them count is not said."""
        if self._has_rows:
            raise UndecodableEvent(
                f"a transaction that changed {self._name} and mixes storage engines was rolled back at {self._at(event)}",
                f"Do not mix engines in a transaction; {AGAIN}",
            )

    # Rows

    def _map(self, event: Event, _received_ms: int) -> Iterator[Part]:
        found = tablemap.table_map(event.body)
        ours = (found.database, found.table) == (self._followed.database, self._followed.table)
        self._tables[events.table_id(event.body)] = self._shape(found.rest, event) if ours else None
        return iter(())

    def _shape(self, rest: bytes, event: Event) -> RowImages:
        """Remembered by its bytes, which stays right across ALTER TABLE and reused table ids."""
        if rest not in self._shapes:
            try:
                columns = tablemap.columns(rest, self._followed.mariadb, self._followed.unsigned)
            except tablemap.Unreadable as error:
                raise UndecodableEvent(
                    f"the TABLE_MAP of {self._name} at {self._at(event)} cannot be decoded: {error}",
                    f"SET GLOBAL binlog_row_metadata = FULL, and no compressed columns; {AGAIN}",
                ) from error
            self._shapes[rest] = RowImages(columns, self._followed.charset_of, self._followed.json)
        return self._shapes[rest]

    def _table_of(self, event: Event) -> RowImages | None:
        number = events.table_id(event.body)
        if number not in self._tables and number != _DUMMY_TABLE_ID:
            raise UndecodableEvent(f"the row event at {self._at(event)} comes without its TABLE_MAP")
        return self._tables.get(number)

    def _rows(self, event: Event, received_ms: int) -> Iterator[Part]:
        images = self._table_of(event)
        if images is None:
            return
        transaction = self._current(event, received_ms)
        self._has_rows = True
        try:
            changes = _changes(event, images)
        except Incomplete as error:
            raise UndecodableEvent(
                f"a row of {self._name} at {self._at(event)} is incomplete: {error}",
                f"SET GLOBAL binlog_row_image = FULL (sessions too); {AGAIN}",
            ) from error
        except ColumnUnreadable as error:
            raise UndecodableEvent(f"a row of {self._name} at {self._at(event)} cannot be decoded: {error}") from error
        yield Rows(transaction, changes, self._file, event.start, len(event.body))

    # Where

    def _rotate(self, event: Event, _received_ms: int) -> Iterator[Part]:
        """The real one (the first of a stream has no time) lies between transactions; without this step an idle server's file could be
        purged under a file position that nothing moves."""
        self._file, offset = events.rotation(event.body)
        if event.timestamp_s and not self._open:
            yield Committed(self._position(offset), event.timestamp_s * 1000)

    def _position(self, end: int) -> Position:
        return Position(None if self._executed is None else str(self._executed), self._file, end)

    def _at(self, event: Event) -> str:
        return f"{self._file}:{event.start}"

    @property
    def _name(self) -> str:
        return f"{self._followed.database}.{self._followed.table}"


def _changes(event: Event, images: RowImages) -> list[RowChange]:
    body = events.row_images(event)
    if event.type in events.UPDATES:
        return list(images.pairs(body))
    if event.type in events.INSERTS:
        return [(None, after) for after in images.rows(body)]
    return [(before, None) for before in images.rows(body)]


def _commit_ms(event: Event, received_ms: int) -> int:
    """The header has whole seconds: the latest moment that they allow, but no moment to come."""
    return min(received_ms, event.timestamp_s * 1000 + 999)


_REMEDIES = {
    Effect.WRITTEN: "SET GLOBAL binlog_format = ROW (sessions too)",
    Effect.RENAMED: "Correct table.name if it has another one now",
}
