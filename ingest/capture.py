"""One life of a connection to the database: the stream, the snapshot in between, and what is written of both."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from time import monotonic

import structlog

from ingest.backfill import Request, acted_on
from ingest.batch import Batch
from ingest.binlog import BinlogStream
from ingest.chunks import ChunkReader, TableAltered
from ingest.entries import Author, Outbox
from ingest.gtid import DomainPositions, Executed, GtidSet
from ingest.interleave import Interleaving
from ingest.mysql import Server
from ingest.position import Place, Position, Snapshot, State
from ingest.progress import progress
from ingest.sequence import Sequence
from ingest.statements import REFILLED
from ingest.tables import Table
from ingest.transactions import Followed, Transactions
from ingest.writer import Writer
from pixtail.core.errors import SettingError, UsageError
from pixtail.core.metrics import Metrics
from pixtail.core.settings import Settings

IDLE_S = 0.2  # how long to wait for the stream before looking around
CHUNK_WAIT_S = 0.002  # the same while a chunk is being read
LINGER_MS = 20  # with more to read all the time, a batch is written when it is as old as this
SAVE_S = 5.0  # how often a position that only other tables' transactions moved is saved
PROGRESS_S = 10.0
REQUESTS_S = 0.5

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """Row changes per Kafka transaction, rows per chunk."""

    flush_rows: int
    chunk_rows: int


@dataclass(frozen=True, slots=True)
class Source:
    """What is captured, as it is now."""

    server: Server
    table: Table
    followed: Followed


class Capture:
    """Follows the binlog from `writer.state` on, and reads the table in between while the state says so. For one thread.

    `next_request` is asked now and then for what a command wants; it may say the same again and again.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        source: Source,
        writer: Writer,
        limits: Limits,
        clock_ms: Callable[[], int],
        next_request: Callable[[], Request | None] = lambda: None,
    ) -> None:
        assert writer.state is not None
        self._settings = settings
        self._metrics = metrics
        self._source = source
        self._writer = writer
        self._limits = limits
        self._clock_ms = clock_ms
        self._next_request = next_request
        self._ended = False
        self._asked_at = monotonic()
        self._author = self._new_author(writer.state)
        self._batch = Batch(
            self._author,
            Outbox(writer.partitions),
            writer.state,
            self._executed(writer.state.position),
            limits.flush_rows,
            self._write,
        )
        self._written_at = monotonic()

    def run(self, goes_on: Callable[[], bool], started: Callable[[], None]) -> None:
        """Works while `goes_on`, or until the table is another one than it was, or a back-fill begins or ends; `started` is called once
        the stream is there.

        Raises `DatabaseUnreachable`, `PositionLost`, `TableAltered`; `BusUnreachable`, `Fenced`; `SettingError` and its kin.
        """
        assert self._writer.state is not None
        with ExitStack() as stack:
            stack.callback(self._writer.finish)  # the next life begins where this one ends
            stream = stack.enter_context(BinlogStream(self._settings, self._source.server, self._writer.state.position))
            snapshot = self._interleaving(stack)
            transactions = Transactions(self._source.followed, stream.file, stream.pos, self._batch)
            started()
            _log.info("following the binlog", source=self._name, position=str(self._writer.state.position))
            while goes_on() and not self._ended and not (transactions.altered and self._batch.whole):
                self._turn(stream, transactions, snapshot)
                if self._batch.whole and monotonic() - self._asked_at > REQUESTS_S:
                    self._look_for_requests()
            if transactions.altered in REFILLED:
                self._batch.snapshot = Snapshot(started_ms=self._clock_ms())
            if self._batch.whole:
                self._write()
        if transactions.altered is not None:
            _log.info("looking at the table again", source=self._name, because=transactions.altered.value)

    @property
    def _name(self) -> str:
        return f"{self._source.followed.database}.{self._source.followed.table}"

    def _turn(self, stream: BinlogStream, transactions: Transactions, snapshot: Interleaving | None) -> None:
        """Reads what has come, and writes what is ready."""
        batch = self._batch
        reading = snapshot is not None and not snapshot.done
        at_once = self._writer.busy or (batch.whole and not batch.empty)
        packets = stream.read(0 if at_once else CHUNK_WAIT_S if reading else IDLE_S)
        self._writer.advance()
        batch.box.now_ms = now_ms = self._clock_ms()
        transactions.feed(packets, now_ms)
        if snapshot is not None and reading and batch.whole:
            self._interleave(snapshot, Place(transactions.file, transactions.pos))
        if batch.whole and self._is_due(waiting=bool(packets)) and (reading or not self._writer.busy):
            self._write()
        elif not packets:
            self._writer.finish()  # and look again: what has come meanwhile goes into the next batch, unless it is a chunk
        self._metrics.listener_lag.set(max(now_ms - batch.commit_ms, 0) / 1000 if packets and batch.commit_ms else 0)

    def _look_for_requests(self) -> None:
        """A back-fill that begins, goes on or pauses is the business of the next run, which begins at once."""
        self._asked_at = monotonic()
        request = self._next_request()
        if request is None or request.id == self._batch.request:
            return
        state = acted_on(request, self._batch.state, self._clock_ms())
        if state is not None:
            _log.info("a back-fill is to pause" if request.pause else "a back-fill is asked for", source=self._name)
            self._batch.snapshot, self._batch.request, self._ended = state.snapshot, state.request, True

    def _is_due(self, *, waiting: bool) -> bool:
        """Must what is here be written now? `waiting`: more may have come already."""
        if self._batch.empty:
            return monotonic() - self._written_at > SAVE_S
        return not waiting or self._batch.age_ms > LINGER_MS

    def _write(self) -> None:
        if self._batch.empty and self._writer.state == self._batch.state:
            return
        self._writer.write(self._batch)
        self._written_at = monotonic()

    # The snapshot

    def _interleaving(self, stack: ExitStack) -> Interleaving | None:
        """The rows that are there, if they are not all read yet."""
        assert self._writer.state is not None
        if self._writer.state.snapshot is None or self._writer.state.snapshot.paused or not self._source.table.columns:
            return None
        table = self._source.table
        snapshot = self._writer.state.snapshot.resumed(table.order)
        if snapshot.selection is None and not snapshot.about:  # the table has just come to its name
            snapshot = replace(snapshot, about=table.rows)
        reader = ChunkReader(
            self._settings.mysql.address,
            self._source.server,
            table,
            self._settings.table.key_columns,
            snapshot.selection,
            snapshot.chunk_rows or self._limits.chunk_rows,
        )
        stack.callback(reader.close)
        reader.start()
        interleaving = Interleaving(reader, snapshot, self._author.key_of)
        self._batch.box.note = interleaving.note
        self._progress = ProgressLog(self._name, snapshot)
        return interleaving

    def _interleave(self, snapshot: Interleaving, place: Place) -> None:
        before = snapshot.snapshot.rows
        try:
            if not snapshot.step(self._batch, place):
                return
        except TableAltered:
            raise
        except (UsageError, SettingError) as error:
            self._set_aside(snapshot.snapshot, error)
            return
        self._metrics.snapshot_rows.inc(snapshot.snapshot.rows - before)
        self._progress.show(snapshot.snapshot, ended=snapshot.done)
        if snapshot.done:
            self._batch.box.note = None

    def _set_aside(self, snapshot: Snapshot, error: UsageError | SettingError) -> None:
        """A back-fill that the table does not fit must not keep the listener from its work; a first snapshot is its work."""
        if snapshot.selection is None:
            raise error
        _log.warning(
            "a back-fill cannot go on, and is paused", source=self._name, problem=error.problem, remedy=error.remedy
        )
        self._batch.snapshot, self._ended = replace(snapshot, paused=True), True

    # What it is made of

    def _new_author(self, state: State) -> Author:
        followed, key = self._source.followed, self._settings.table.key_columns
        prefix = self._settings.kafka.prefix
        return Author(prefix, followed.database, followed.table, key, Sequence(state.seq))

    def _executed(self, position: Position) -> Executed | None:
        if position.gtid is None:
            return None
        kind = DomainPositions if self._source.followed.mariadb else GtidSet
        return kind(position.gtid)


class ProgressLog:
    """Says from time to time how far a snapshot is."""

    def __init__(self, source: str, snapshot: Snapshot) -> None:
        self._source = source
        self._rows_before = snapshot.rows
        self._started = self._shown = monotonic()
        _log.info("reading the rows that are there", source=source, done=snapshot.rows, about=snapshot.about)

    def show(self, snapshot: Snapshot, *, ended: bool) -> None:
        now = monotonic()
        if not ended and now - self._shown < PROGRESS_S:
            return
        self._shown = now
        found = progress(snapshot.rows, snapshot.about, now - self._started, self._rows_before)
        told = {"source": self._source, "rows": found.rows, "rows_per_s": round(found.rows_per_s)}
        if ended:
            _log.info("all rows that were there are read", **told)
        else:
            left_s = None if found.left_s is None else round(found.left_s)
            _log.info("reading the rows that are there", **told, about=found.about, left_s=left_s)
