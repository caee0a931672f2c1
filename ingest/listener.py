"""The listener: every committed row change reaches the topic once, in order, or the listener stops and says why."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from time import monotonic

import structlog

from ingest import mysql, tables
from ingest.batch import Batch
from ingest.binlog import BinlogReader
from ingest.entries import Author
from ingest.mysql import Connection, Server
from ingest.outage import Outage
from ingest.position import Position, Snapshot, State, from_json
from ingest.preflight import require
from ingest.sequence import Sequence, now_ms
from ingest.snapshot import CHUNK_ROWS, Chunk, SnapshotReader
from ingest.tables import Table
from ingest.transactions import Altered, Committed, Followed, Part, Rows, Truncated
from ingest.writer import Producer, Writer
from pixtail.bus.producer import TransactionalProducer
from pixtail.bus.state import StateStore
from pixtail.bus.topics import Topics, ensure_topics
from pixtail.core.changes import Op, Source, encode
from pixtail.core.errors import DatabaseUnreachable, ServerUnreachable, SettingError
from pixtail.core.lifecycle import Stop
from pixtail.core.metrics import Metrics
from pixtail.core.settings import Kafka, Settings

FLUSH_ROWS = 2000
IDLE_S = 0.2  # how long to wait for the next part before looking around
SAVE_S = 5.0  # how often a position that only other tables' transactions moved is saved
PROGRESS_S = 10.0

_log = structlog.get_logger()


class Listener:
    """Station 1. Reads the rows that are there, then follows the binlog, from where the last life stopped.

    Outages of MySQL and Kafka are lived through, at the start and later. `SettingError` and its kin (wrong password, no primary key, a lost
    position, an undecodable event) and `Fenced` (another listener has taken over) end it. `flush_rows`: row changes per Kafka transaction.
    """

    name = "listener"

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        flush_rows: int = FLUSH_ROWS,
        chunk_rows: int = CHUNK_ROWS,
        make_producer: Callable[[Kafka, str], Producer] = TransactionalProducer,
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._flush_rows = flush_rows
        self._chunk_rows = chunk_rows
        self._make_producer = make_producer
        self._clock_ms = clock_ms
        self._topics = Topics(settings.kafka.prefix, settings.source)
        self._outage = Outage()
        self._up = False

    def ready(self) -> bool:
        """True while it reads: the snapshot or the stream."""
        return self._up

    def run(self, stop: Stop) -> None:
        """Works until `stop` is set. What is not written then is read again by the next life."""
        while not stop:
            try:
                self._lead(stop)
            except ServerUnreachable as error:
                self._outage.endure(error, stop)
        _log.info("listener stopped", source=self._topics.source)

    # Owning the source

    def _lead(self, stop: Stop) -> None:
        """One life of a producer. The database is looked at first: a listener that could not work must not fence one that does."""
        require(self._settings)
        ensure_topics(self._settings.kafka, self._topics)
        identity = f"{self._topics.prefix}.listen.{self._topics.source}"
        with closing(self._make_producer(self._settings.kafka, identity)) as producer:
            producer.open()
            saved = StateStore(self._settings.kafka, self._topics).read(self._topics.source)
            writer = Writer(producer, self._topics, from_json(saved) if saved else None, self._metrics)
            self._work(writer, stop)

    def _work(self, writer: Writer, stop: Stop) -> None:
        """One life of the database after the other. Between two of them the producer is kept: opening it anew would fence a listener that
        has rightly taken over, and that may be why our stream was cut."""
        while not stop:
            try:
                self._capture(writer, stop)
            except DatabaseUnreachable as error:
                self._outage.endure(error, stop)
                writer.confirm()
            finally:
                self._set_up(False)

    def _capture(self, writer: Writer, stop: Stop) -> None:
        """One connection's life, or until the table was altered."""
        require(self._settings)
        with closing(mysql.connect(self._settings.mysql.address, database=None)) as connection:
            server, table, followed = self._look(connection)
        author = self._author(writer.state)
        if writer.state is None or writer.state.snapshot is not None:
            self._take_snapshot(writer, author, server, table, stop)
        if not stop and writer.state is not None:
            self._follow(writer, author, server, followed, stop)

    def _look(self, connection: Connection) -> tuple[Server, Table, Followed]:
        address = self._settings.mysql.address
        with mysql.translated(address):
            server = mysql.look(connection, self._settings.mysql)
            table = tables.describe(connection, server, address.database, self._settings.table.name)
            charset_of = tables.charsets(connection, server)
        if table is None:
            raise SettingError(f"the table {self._settings.source} has gone", "Restore it, or correct table.name")
        mariadb = server.flavour == "mariadb"
        return server, table, Followed(address.database, table.name, mariadb, charset_of, table.json, table.unsigned)

    def _author(self, state: State | None) -> Author:
        sequence = Sequence(state.seq if state else 0, self._clock_ms)
        table = self._settings.table
        return Author(self._topics.prefix, self._settings.mysql.address.database, table.name, table.key, sequence)

    def _set_up(self, up: bool) -> None:
        self._up = up
        self._metrics.listener_up.set(up)

    # The snapshot

    def _take_snapshot(self, writer: Writer, author: Author, server: Server, table: Table, stop: Stop) -> None:
        """Chunk by chunk, each in one Kafka transaction with its progress; broken off, it goes on behind the last chunk."""
        address, key = self._settings.mysql.address, self._settings.table.key
        with closing(SnapshotReader(address, server, table, key)) as reader:
            position = reader.open(stop)
            if writer.state is not None:
                position = writer.state.position
            done = (writer.state and writer.state.snapshot) or Snapshot()
            self._outage.over()
            self._set_up(True)
            _log.info("snapshot", source=self._topics.source, position=str(position), about=table.rows, done=done.rows)
            progress = _Progress(self._topics.source, table.rows, done.rows)
            for chunk in reader.chunks(done.after, self._chunk_rows):
                if stop:
                    return
                done = self._write_chunk(writer, author, chunk, position, done.rows)
                progress.show(done.rows)
            progress.end(done.rows)

    def _write_chunk(self, writer: Writer, author: Author, chunk: Chunk, position: Position, before: int) -> Snapshot:
        now = self._clock_ms()
        source = Source(
            author.database, author.table, author.prefix, gtid=position.gtid, file=position.file, pos=position.pos
        )
        records = [encode(entry) for entry in author.of_snapshot(chunk.rows, source, last=chunk.last, now_ms=now)]
        done = Snapshot(chunk.after, before + len(chunk.rows))
        state = State(position, author.sequence.last, snapshot=None if chunk.last else done)
        writer.write(records, state, {Op.READ: len(records)})
        self._metrics.snapshot_rows.inc(len(records))
        return done

    # The stream

    def _follow(self, writer: Writer, author: Author, server: Server, followed: Followed, stop: Stop) -> None:
        assert writer.state is not None
        batch = Batch(author, writer.partitions, writer.state, self._flush_rows, self._clock_ms)
        with BinlogReader(self._settings, server, followed, writer.state.position) as reader:
            self._set_up(True)
            _log.info("following the binlog", source=self._topics.source, position=str(writer.state.position))
            saved_at = monotonic()
            while not stop:
                part = reader.get(IDLE_S)
                self._outage.over()
                self._add(batch, part)
                if batch.full or (batch.whole and batch.records and not reader.waiting):
                    self._flush(batch, writer)
                    saved_at = monotonic()
                elif batch.whole and not batch.records and monotonic() - saved_at > SAVE_S:
                    self._save_position(batch, writer)
                    saved_at = monotonic()
                if isinstance(part, Altered):
                    _log.info("the table was altered, looking at it again", source=self._topics.source)
                    self._save_position(batch, writer)
                    return

    def _add(self, batch: Batch, part: Part | None) -> None:
        if isinstance(part, Rows):
            batch.add_rows(part)
        elif isinstance(part, Truncated):
            batch.add_truncation(part)
        elif isinstance(part, Committed):
            batch.add_commit(part)
            self._metrics.listener_lag.set(max(self._clock_ms() - part.commit_ms, 0) / 1000)
        elif part is None:
            self._metrics.listener_lag.set(0)

    def _flush(self, batch: Batch, writer: Writer) -> None:
        writer.write(batch.records, batch.state, batch.operations)
        _log.debug("written", records=len(batch.records), seq=batch.state.seq)
        batch.clear()

    def _save_position(self, batch: Batch, writer: Writer) -> None:
        if batch.state != writer.state:
            writer.write(batch.records, batch.state, batch.operations)
            batch.clear()


class _Progress:
    """Says from time to time how far the snapshot is."""

    def __init__(self, source: str, about: int, done: int) -> None:
        self._source = source
        self._about = about
        self._done = done
        self._start = self._shown = monotonic()

    def show(self, rows: int) -> None:
        if monotonic() - self._shown > PROGRESS_S:
            self._shown = monotonic()
            _log.info("snapshot", source=self._source, rows=rows, about=self._about, rows_per_s=self._rate(rows))

    def end(self, rows: int) -> None:
        _log.info("snapshot done", source=self._source, rows=rows, rows_per_s=self._rate(rows))

    def _rate(self, rows: int) -> int:
        return round((rows - self._done) / max(monotonic() - self._start, 1e-3))
