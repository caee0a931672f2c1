"""What the listener's integration tests share: a table, a listener in a thread or a process of its own, and what stands in the topic."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ingest.listener import Listener
from ingest.position import State, from_json
from pixtail.bus.producer import TransactionalProducer
from pixtail.bus.reading import reading
from pixtail.bus.state import StateStore
from pixtail.bus.topics import Topics
from pixtail.core.changes import Change, Malformed, Op, Tombstone, decode
from pixtail.core.lifecycle import Stop
from pixtail.core.metrics import Metrics
from pixtail.core.settings import Settings
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.sql import SqlServer

LIMIT_S = 30.0
IMAGES = "CREATE TABLE images (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, file_path VARCHAR(200) NOT NULL, n INT)"

# A listener alone in a process, to be killed. Arguments: MySQL URL, Kafka address, prefix, flush_rows, chunk_rows.
PROGRAM = """
import sys, warnings
from ingest.listener import Listener
from pixtail.core.lifecycle import Stop
from pixtail.core.metrics import Metrics
from pixtail.core.settings import Settings
url, bootstrap, prefix, flush_rows, chunk_rows = sys.argv[1:]
settings = Settings(mysql={"url": url}, kafka={"bootstrap": bootstrap, "prefix": prefix})
Listener(settings, Metrics(), flush_rows=int(flush_rows), chunk_rows=int(chunk_rows)).run(Stop())
"""


def wait_for(condition: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
    """The first true value of `condition`, or a failure that names what was waited for."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"did not come within {limit_s:g} s: {what}")


class Source:
    """A database with the table `images`, and the topics that a listener makes of it."""

    def __init__(self, server: SqlServer, kafka: KafkaServer, name: str, **table: Any) -> None:
        self.server = server
        self.kafka = kafka
        self.name = name
        self.settings = Settings(
            mysql={"url": f"{server.create_database(name)}?ssl_mode=DISABLED"},  # TLS costs 25 ms a connection
            kafka={"bootstrap": kafka.bootstrap, "prefix": name, "partitions": 3},
            table=table,
        )
        self.topics = Topics(name, f"{name}.images")

    def sql(self, *statements: str) -> None:
        self.server.execute(*statements, database=self.name)

    def insert(self, first: int, last: int) -> None:
        """Rows `first` to `last` in one transaction."""
        values = ", ".join(f"({n}, 'p{n}.jpg', {n})" for n in range(first, last + 1))
        self.sql(f"INSERT INTO images VALUES {values}")

    def entries(self) -> list[Change | Tombstone]:
        """All that is committed in the topic, in the order of seq."""
        return self.wait_for_entries(0)

    def wait_for_entries(self, number: int) -> list[Change | Tombstone]:
        """The same, as soon as there are at least so many."""
        records: list[Any] = []
        with reading(self.settings.kafka, self.topics.changes) as reader:
            wait_for(lambda: records.extend(reader.read()) or len(records) >= number, f"{number} entries")
        found = [decode(r.key, r.value, r.headers, r.offset) for r in records]
        assert not any(isinstance(entry, Malformed) for entry in found), found
        return sorted((entry for entry in found if not isinstance(entry, Malformed)), key=lambda entry: entry.seq)

    def seqs_by_partition(self) -> list[list[int]]:
        """The seqs of each partition, in the order of the partition."""
        with reading(self.settings.kafka, self.topics.changes) as reader:
            records = sorted(reader.read(), key=lambda record: record.offset)
        return [[int(dict(r.headers)["seq"]) for r in records if r.partition == p] for p in range(3)]

    def story(self) -> list[tuple[str, Any]]:
        """(operation, key) of every entry; a tombstone's operation is empty."""
        return [_told(entry) for entry in self.entries()]

    @contextmanager
    def listening(self, **options: Any) -> Iterator[Listening]:
        """A listener in a thread; at the end it is stopped, and must not have failed."""
        running = Listening(self.settings, **options)
        running.start()
        try:
            yield running
        finally:
            running.stop()
        running.raise_failure()

    def saved(self) -> State | None:
        """The last committed state."""
        body = StateStore(self.settings.kafka, self.topics).read(self.topics.source)
        return from_json(body) if body else None

    def process(self, log: Path, flush_rows: int = 2000, chunk_rows: int = 2000) -> subprocess.Popen[bytes]:
        """A listener in a process of its own; the caller kills it."""
        url = self.settings.mysql.url.get_secret_value()
        arguments = [url, self.kafka.bootstrap, self.name, str(flush_rows), str(chunk_rows)]
        with log.open("ab") as output:
            return subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], stdout=output, stderr=output)


def _told(entry: Change | Tombstone) -> tuple[str, Any]:
    operation = "" if isinstance(entry, Tombstone) else entry.op.value
    return operation, next(iter(entry.key.values()))


class Crash(Exception):
    """Stands for the end of the process."""


def crashing(
    after: int, *, committed: bool, error: Callable[[], Exception] = Crash
) -> Callable[[Any, str], TransactionalProducer]:
    """Makes producers of which one fails, once, at commit number `after` of them all: right behind the commit, or right before it."""

    class Crashing(TransactionalProducer):
        commits = 0

        def begin(self, batches: Any) -> None:
            Crashing.commits += 1
            if Crashing.commits == after and not committed:
                raise error()
            super().begin(batches)
            if Crashing.commits == after:
                super().finish()
                raise error()

    return Crashing


class Listening:
    """A listener in a thread."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        self.metrics = Metrics()
        self.listener = Listener(settings, self.metrics, **options)
        self.stop_wish = Stop()
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="test-listener")

    def _run(self) -> None:
        try:
            self.listener.run(self.stop_wish)
        except BaseException as error:  # noqa: BLE001 - for the test to look at
            self.failure = error

    def start(self) -> None:
        self._thread.start()

    def wait_until_ready(self) -> None:
        wait_for(lambda: self.listener.ready() or self.failure, "a ready listener")
        self.raise_failure()

    def wait_until_ended(self) -> BaseException | None:
        """What it failed with."""
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive(), "the listener still runs"
        return self.failure

    def stop(self) -> None:
        self.stop_wish.set()
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive(), "the listener did not stop"

    def raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure

    def counted(self, operation: Op) -> float:
        """events_total of one operation."""
        return float(self.metrics.registry.get_sample_value("pixtail_events_total", {"op": operation.value}) or 0)
