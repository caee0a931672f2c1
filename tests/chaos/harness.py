"""A whole run: servers, writers, listeners, kills, and the verdict."""

from __future__ import annotations

import random
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql.cursors

from ingest.backfill import Request, to_json
from ingest.selection import selected
from pixtail.bus.requests import send_request
from pixtail.bus.state import StateStore
from pixtail.bus.topics import Topics, ensure_topics, partition_of
from pixtail.core.lifecycle import DRAIN_LIMIT_S
from pixtail.core.settings import Kafka
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.mariadb import MariadbServer
from pixtail.servers.mysql import MysqlServer
from pixtail.servers.sql import SqlServer
from tests.chaos import topic
from tests.chaos.judge import Findings, Judge, Truth
from tests.chaos.killer import Killer, Kind, NotRecovered, plan
from tests.chaos.listeners import Listeners
from tests.chaos.workload import DATABASE, TABLE, Session, Workload, Writer

PARTITIONS = 4
WRITERS = 5
MOST_ROWS_AT_START = 50_000
KILLS_A_BACKFILL = 15
BACKFILL_ROWS = 20_000
START_LIMIT_S = 60.0
CATCH_UP_LIMIT_S = 180.0
STAND_STILL_S = 120.0
SMALL_FILES = ("--max-binlog-size=8M",)  # many binlog files: a position is more than an offset
DATABASES: dict[str, Callable[[Path], SqlServer]] = {
    "mysql": lambda folder: MysqlServer(folder, extra=SMALL_FILES),
    "mariadb": lambda folder: MariadbServer(folder, extra=SMALL_FILES),
    "mysql-without-gtid": lambda folder: MysqlServer(folder, extra=SMALL_FILES, gtid=False),
}
PREFIX = "chaos"

_CONFIG = """
mysql.url = "{url}?ssl_mode=DISABLED"
kafka.bootstrap = "{bootstrap}"
kafka.prefix = "{prefix}"
kafka.partitions = {partitions}
metrics.port = 0
"""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to run. Without `kinds` they are drawn."""

    database: str = "mysql"
    kills: int = 1000
    rows: int = 1_000_000
    seed: int = 1
    kinds: Sequence[Kind] = ()


@dataclass(slots=True)
class Report:
    """What came out. `broken`: why the run did not come to its end, or came to it in disorder."""

    wish: Wish
    rows: int = 0
    truncations: int = 0
    records: int = 0
    aborted: int = 0
    kills: Counter[Kind] = field(default_factory=Counter)
    starts: int = 0
    ends: Counter[int] = field(default_factory=Counter)
    recoveries: dict[Kind, list[float]] = field(default_factory=dict)
    backfills: int = 0
    findings: Findings = field(default_factory=Findings)
    broken: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return self.findings.ok and not self.broken

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "database": self.wish.database,
            "seed": self.wish.seed,
            "rows": self.rows,
            "truncations": self.truncations,
            "records": self.records,
            "aborted_records": self.aborted,
            "backfills": self.backfills,
            "kills": self.kills.total(),
            "kills_by_kind": dict(self.kills),
            "listener_starts": self.starts,
            "listener_ends": {str(status): count for status, count in self.ends.items()},
            "recovery_s": {kind: spread(times) for kind, times in self.recoveries.items()},
            **self.findings.numbers,
            "broken": self.broken,
            "seconds": round(self.seconds),
        }


def spread(times: Sequence[float]) -> dict[str, float]:
    return {"count": len(times), "p50": round(statistics.median(times), 2), "max": round(max(times), 2)}


class Pace:
    """Lets the writers come to their end when the killer does. Between two kills it grows evenly, at the pace that there was so far."""

    def __init__(self, rows: int, kills: int, now: Callable[[], float] = time.monotonic) -> None:
        self._rows_a_kill = rows / max(kills, 1)
        self._now = now
        self._begun = self._killed_at = now()
        self._kills = 0

    def killed(self) -> None:
        self._kills += 1
        self._killed_at = self._now()

    def allowed(self) -> float:
        """Rows that may have been written by now."""
        usual_s = (self._killed_at - self._begun) / self._kills if self._kills else 1.0
        share = min((self._now() - self._killed_at) / max(usual_s, 0.1), 1.0)
        return (self._kills + share) * self._rows_a_kill


class Run:
    """One run in `folder`, where everything stays: logs, binlogs, the topic's files."""

    def __init__(self, wish: Wish, folder: Path, say: Callable[[str], None]) -> None:
        self.report = Report(wish)
        self._wish = wish
        self._folder = folder
        self._say = say
        self._chance = random.Random(wish.seed)
        self._kinds = list(wish.kinds) or plan(wish.kills, self._chance)
        self._pace = Pace(wish.rows, len(self._kinds))
        self._topics = Topics(PREFIX, f"{DATABASE}.{TABLE}")

    def run(self) -> Report:
        begun = time.monotonic()
        with ExitStack() as stack:
            database = stack.enter_context(DATABASES[self._wish.database](self._folder / "database"))
            broker = stack.enter_context(KafkaServer(self._folder / "kafka"))
            kafka = Kafka(bootstrap=broker.bootstrap, prefix=PREFIX, partitions=PARTITIONS)
            self._go(database, broker, kafka, stack)
        self.report.seconds = time.monotonic() - begun
        return self.report

    def _go(self, database: SqlServer, broker: KafkaServer, kafka: Kafka, stack: ExitStack) -> None:
        workload = Workload(database, self._pace.allowed)
        workload.create(min(self._wish.rows // 20, MOST_ROWS_AT_START))
        truth = Truth(dict(database.query(f"SELECT id, version FROM {TABLE}", DATABASE)))
        topic.create(kafka, self._topics)
        ensure_topics(kafka, self._topics)
        tail = topic.Tail(kafka, self._topics.changes)
        tail.start()
        stack.callback(tail.stop)
        listeners = stack.enter_context(closing(self._listen(database, broker)))
        self._wait_for_state(kafka)
        writers = [Writer(workload, self._wish.seed * 100 + n) for n in range(WRITERS)]
        for writer in writers:
            writer.start()
        killer = Killer(listeners, broker, database, workload, tail, self._chance)
        try:
            killer.run(self._kinds, lambda kind: self._tell(kind, kafka, workload))
            self._write_the_rest(workload)
        except NotRecovered as error:
            self.report.broken.append(str(error))
        finally:
            workload.enough.set()
            for writer in writers:
                writer.join()
        if workload.failure is not None:
            raise workload.failure
        self._finish(listeners, workload, tail)
        self._count(killer, listeners)
        self._judge(truth, database, kafka)

    def _listen(self, database: SqlServer, broker: KafkaServer) -> Listeners:
        home = self._folder / "listeners"
        home.mkdir()
        (home / "pixtail.toml").write_text(
            _CONFIG.format(url=database.url(DATABASE), bootstrap=broker.bootstrap, prefix=PREFIX, partitions=PARTITIONS)
        )
        return Listeners(home, Kafka(bootstrap=broker.bootstrap, prefix=PREFIX), self._topics)

    def _wait_for_state(self, kafka: Kafka) -> None:
        """From here on every change must be in the topic: the position is saved."""
        limit = time.monotonic() + START_LIMIT_S
        while StateStore(kafka, self._topics).read(self._topics.source) is None:
            if time.monotonic() > limit:
                raise TimeoutError(f"the first listener saved no state within {START_LIMIT_S:.0f} s")
            time.sleep(0.02)

    def _tell(self, kind: Kind, kafka: Kafka, workload: Workload) -> None:
        self.report.kills[kind] += 1
        number = self.report.kills.total()
        self._pace.killed()
        self._say(f"{number} of {len(self._kinds)}, {workload.written} rows written; {kind}")
        if number % KILLS_A_BACKFILL == KILLS_A_BACKFILL // 4:
            self._backfill(kafka)

    def _backfill(self, kafka: Kafka) -> None:
        """Rows are read again while everything goes on; a former one that is not done yet is given up for it."""
        self.report.backfills += 1
        request = Request(f"chaos-{self.report.backfills}", selected(limit=BACKFILL_ROWS + self.report.backfills))
        send_request(kafka, self._topics, to_json(request))

    def _write_the_rest(self, workload: Workload) -> None:
        while workload.written < self._wish.rows and workload.failure is None:
            self._pace.killed()
            time.sleep(0.05)

    def _finish(self, listeners: Listeners, workload: Workload, tail: topic.Tail) -> None:
        """A last row, behind which nothing comes; when it is in the topic, all is. Then a stop in good order."""
        version = workload.versions.take(1)
        tail.await_text(b'"version":%d,' % version)
        with Session(workload.server) as session:
            session.run("BEGIN")
            key = workload.ids.take(1)
            session.insert([key], version, "the last one")
            session.journal([(key, "c", None, version)])
            session.run("COMMIT")
        limit = time.monotonic() + CATCH_UP_LIMIT_S
        while not tail.has_seen(1):
            listeners.look_after()
            if time.monotonic() > limit:
                self.report.broken.append(
                    f"the last row was not in the topic {CATCH_UP_LIMIT_S:.0f} s after its commit"
                )
                return
        self._stop(listeners)

    def _stop(self, listeners: Listeners) -> None:
        try:
            status = listeners.leader.stop(DRAIN_LIMIT_S + 5)
        except subprocess.TimeoutExpired:
            self.report.broken.append("the last listener did not stop when it was asked to")
            return
        if status:
            self.report.broken.append(f"the last listener ended with status {status} when it was asked to stop")

    def _count(self, killer: Killer, listeners: Listeners) -> None:
        self.report.starts = listeners.started
        self.report.ends = listeners.ends
        self.report.recoveries = killer.recoveries
        self.report.broken += listeners.unwanted_ends

    def _judge(self, truth: Truth, database: SqlServer, kafka: Kafka) -> None:
        self._say("reading the truth")
        read_journal(database, truth)
        self.report.rows, self.report.truncations = truth.rows, truth.truncations
        self._say("reading the topic")
        judge = Judge(truth, PARTITIONS, 1 + self.report.backfills, partition_of)
        for record in topic.records(kafka, self._topics.changes):
            judge.take(record)
        self.report.records = judge.records
        self.report.findings = judge.verdict()
        every = sum(1 for _ in topic.records(kafka, self._topics.changes, "read_uncommitted"))
        self.report.aborted = every - judge.records
        table = dict(database.query(f"SELECT id, version FROM {TABLE}", DATABASE))
        if truth.table() != table:
            self.report.broken.append("the journal and the table do not say the same: the harness is wrong")
        if self.report.findings.ok and judge.table() != table:
            self.report.broken.append("the topic and the table do not say the same")


def read_journal(database: SqlServer, truth: Truth) -> None:
    options = {"cursorclass": pymysql.cursors.SSCursor}
    with database.connect(DATABASE, **options) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id, op, old, new FROM aside.journal ORDER BY n")
        for key, op, old, new in cursor:
            truth.add(key, op, old, new)
