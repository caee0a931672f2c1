"""The listener: every committed row change reaches the topic once, in order, or the listener stops and says why."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from typing import Literal

import structlog

from ingest import mysql, positions, tables
from ingest.backfill import Request
from ingest.backfill import from_json as from_request
from ingest.capture import Capture, Limits, Source
from ingest.chunks import CHUNK_ROWS, TableAltered
from ingest.position import Position, Snapshot, State, from_json
from ingest.preflight import require
from ingest.sequence import now_ms
from ingest.tables import Table
from ingest.transactions import Followed
from ingest.writer import Producer, Writer
from pixtail.bus.leadership import Leadership, listen_group
from pixtail.bus.producer import TransactionalProducer
from pixtail.bus.requests import StateTopic
from pixtail.bus.topics import Topics, ensure_topics
from pixtail.core.backoff import Backoff, Stopping
from pixtail.core.errors import DatabaseUnreachable, Fenced, PositionLost, ServerUnreachable, SettingError
from pixtail.core.lifecycle import Stop
from pixtail.core.metrics import Metrics
from pixtail.core.settings import Kafka, Settings

FLUSH_ROWS = 4000
NOWHERE = Position(None, "", 0)
"""Stands for a position that the server has lost."""

_log = structlog.get_logger()


class Listener:
    """Station 1. Follows the binlog from where the last life stopped, and reads the rows that are there in between.

    Of several listeners of a source one leads, the others stand by. Outages of MySQL and Kafka are lived through, at the start and later.
    `SettingError` and its kin (wrong password, no primary key, a lost position, an undecodable event) end it. `flush_rows`: row changes
    per Kafka transaction. `on_lost_position`: "snapshot" reads the table anew when the server has lost what we have not read.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        on_lost_position: Literal["stop", "snapshot"] = "stop",
        flush_rows: int = FLUSH_ROWS,
        chunk_rows: int = CHUNK_ROWS,
        make_producer: Callable[[Kafka, str], Producer] = TransactionalProducer,
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        self.name = f"listener of {settings.table.name}" if settings.table.is_lookup else "listener"
        self._settings = settings
        self._metrics = metrics
        self._on_lost_position = on_lost_position
        self._flush_rows = flush_rows
        self._chunk_rows = chunk_rows
        self._make_producer = make_producer
        self._clock_ms = clock_ms
        self._topics = Topics(settings.kafka.prefix, settings.source)
        self._leadership = Leadership(settings.kafka, self._topics)
        self._state_topic = StateTopic(settings.kafka, self._topics)
        self._request: Request | None = None  # the newest
        self._outage = Backoff("MySQL or Kafka")
        self._up = False
        self._checked = False

    def ready(self) -> bool:
        """True while it reads, or stands by."""
        return self._up or self._leadership.standing_by

    def run(self, stop: Stop) -> None:
        """Works until `stop` is set. What is not written then is read again by the next life."""
        with closing(self._leadership), suppress(Stopping):
            while not stop:
                try:
                    self._lead(stop)
                except Fenced as error:
                    _log.warning("another listener has taken over, standing by", problem=error.problem)
                    self._leadership.close()
                except ServerUnreachable as error:
                    self._outage.failed(error, stop)
        _log.info("listener stopped", source=self._topics.source)

    # Owning the source

    def _lead(self, stop: Stop) -> None:
        """One life of a producer. The database is looked at first: a listener that could not work must not fence one that does."""
        self.check()
        self._checked = False  # so that the next life looks again
        ensure_topics(self._settings.kafka, self._topics, dead_letters=not self._settings.table.is_lookup)
        with (
            closing(self._state_topic),
            closing(self._make_producer(self._settings.kafka, listen_group(self._topics))) as producer,
        ):
            self._state_topic.open()
            if not self._leadership.acquire(stop):
                return
            producer.open()
            saved = self._state_topic.saved()
            writer = Writer(producer, self._topics, from_json(saved) if saved else None, self._metrics)
            self._work(writer, stop)

    def _work(self, writer: Writer, stop: Stop) -> None:
        """One life of the database after the other. Between two of them the producer is kept: opening it anew would fence a listener that
        has rightly taken over, and that may be why our stream was cut."""
        while self._goes_on(stop):
            try:
                self._capture(writer, stop)
                self._require()
            except DatabaseUnreachable as error:
                self._outage.failed(error, stop)
                writer.confirm()
            except TableAltered as error:
                _log.info("the table was altered while it was read", source=self._topics.source, problem=error.problem)
            except PositionLost as error:
                self._begin_anew(writer, error)
            finally:
                self._set_up(False)

    def check(self) -> None:
        """Raises what must be mended before this can work: the first thing that `run` does, unless it has been done already."""
        if not self._checked:
            self._require()
            self._checked = True

    def _require(self) -> None:
        """A table that may go may be away: then it is waited for in the stream."""
        if self._settings.table.on_drop == "stop" or self._table_exists():
            require(self._settings)
        else:
            _log.warning("the table is not there, waiting for it", source=self._topics.source)

    def _table_exists(self) -> bool:
        address = self._settings.mysql.address
        with closing(mysql.connect(address, database=None)) as connection, mysql.translated(address):
            server = mysql.look(connection, self._settings.mysql)
            return tables.describe(connection, server, address.database, self._settings.table.name) is not None

    def _goes_on(self, stop: Stop) -> bool:
        return not stop and self._leadership.held

    def _begin_anew(self, writer: Writer, error: PositionLost) -> None:
        if self._on_lost_position != "snapshot":
            raise error
        _log.warning(
            "the position is lost: taking a new snapshot. Rows deleted meanwhile stay in the index until it is verified",
            source=self._topics.source,
            problem=error.problem,
        )
        assert writer.state is not None
        writer.state = replace(writer.state, position=NOWHERE, snapshot=Snapshot(), unfinished=None)

    def _capture(self, writer: Writer, stop: Stop) -> None:
        """One connection's life, or until the table was altered."""
        source, now = self._look()
        if writer.state is None or writer.state.position is NOWHERE:
            snapshot = Snapshot(about=source.table.rows, started_ms=self._clock_ms())
            writer.state = replace(writer.state or State(now, 0), position=now, snapshot=snapshot)
        limits = Limits(self._flush_rows, self._chunk_rows)
        capture = Capture(self._settings, self._metrics, source, writer, limits, self._clock_ms, self._next_request)
        capture.run(lambda: self._goes_on(stop), self._started)

    def _look(self) -> tuple[Source, Position]:
        """The table as it is, and where the binlog ends."""
        address = self._settings.mysql.address
        with closing(mysql.connect(address, database=None)) as connection, mysql.translated(address):
            server = mysql.look(connection, self._settings.mysql)
            table = tables.describe(connection, server, address.database, self._settings.table.name)
            charset_of = tables.charsets(connection, server)
            now = positions.now(connection, server)
        may_go = self._settings.table.on_drop == "empty"
        if table is None and not may_go:
            raise SettingError(f"the table {self._settings.source} has gone", "Restore it, or correct table.name")
        table = table or Table(address.database, self._settings.table.name, (), ())
        followed = Followed(
            database=address.database,
            table=table.name,
            mariadb=server.flavour == "mariadb",
            charset_of=charset_of,
            json=table.json,
            unsigned=table.unsigned,
            year_is_numeric=server.year_is_numeric,
            may_go=may_go,
        )
        return Source(server, table, followed), now

    def _next_request(self) -> Request | None:
        """What a command has asked for last, acted on or not."""
        body = self._state_topic.request()
        if body is not None:
            self._request = from_request(body)
            if self._request is None:
                _log.warning("a request is not of this version's form: ignored", source=self._topics.source)
        return self._request

    def _started(self) -> None:
        self._outage.recovered()
        self._set_up(True)

    def _set_up(self, up: bool) -> None:
        self._up = up
        self._metrics.listener_up.set(up)
