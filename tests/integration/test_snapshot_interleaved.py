"""The first snapshot, and a back-fill, under hammering writers and through a kill: the topic ends as the table, and never goes back."""

from __future__ import annotations

import itertools
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pymysql
import pytest

from ingest.backfill import Request, to_json
from ingest.position import State
from ingest.selection import Selection
from pixtail.bus.reading import reading
from pixtail.bus.requests import send_request
from pixtail.core.changes import Change, Op, Tombstone, key_bytes
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.mysql import MysqlServer
from pixtail.servers.sql import SqlServer
from tests.conftest import serve
from tests.integration.listener_kit import Crash, Listening, Source, crashing, wait_for

ROWS, CHUNK_ROWS, WRITERS = 20_000, 500, 4
AHEAD = 3000  # most writes are to one of so many keys that the snapshot comes to next
END = 2 * ROWS + 2 * AHEAD

# A listener that dies by SIGKILL right behind its commit number 12. Arguments: MySQL URL, Kafka address, prefix, chunk_rows.
MORTAL = """
import os, signal, sys
from ingest.listener import Listener
from pixtail.bus.producer import TransactionalProducer
from pixtail.core.lifecycle import Stop
from pixtail.core.metrics import Metrics
from pixtail.core.settings import Settings

class Mortal(TransactionalProducer):
    commits = 0
    def begin(self, batches):
        super().begin(batches)
        self.finish()
        self.commits += 1
        if self.commits == 12:
            os.kill(os.getpid(), signal.SIGKILL)

url, bootstrap, prefix, chunk_rows = sys.argv[1:]
settings = Settings(mysql={"url": url}, kafka={"bootstrap": bootstrap, "prefix": prefix})
Listener(settings, Metrics(), chunk_rows=int(chunk_rows), make_producer=Mortal).run(Stop())
"""


@pytest.fixture(scope="module")
def filed() -> Iterator[MysqlServer]:
    """MySQL without GTIDs."""
    yield from serve(MysqlServer(gtid=False, server_id=2))


@pytest.fixture(params=["mysql", "filed", "mariadb"])
def source(request: pytest.FixtureRequest, kafka: KafkaServer, unique: str) -> Iterator[Source]:
    """`ROWS` rows with even ids. On MySQL a transaction is in the binlog some time before the engine commits it."""
    server: SqlServer = request.getfixturevalue(request.param)
    made = Source(server, kafka, unique)
    made.sql("CREATE TABLE images (id INT PRIMARY KEY, version INT NOT NULL, file_path VARCHAR(20))")
    made.sql("INSERT INTO images VALUES " + ", ".join(f"({2 * n}, 0, 'first')" for n in range(ROWS)))
    if server.name == "mysql":
        server.execute("SET GLOBAL binlog_group_commit_sync_delay = 2000")
    yield made
    if server.name == "mysql":
        server.execute("SET GLOBAL binlog_group_commit_sync_delay = 0")


class Hammer:
    """Writers with rows of their own, each version higher than all before. `near` says where they like to write."""

    def __init__(self, source: Source) -> None:
        self.near: Callable[[], int] = lambda: 0
        self.versions = itertools.count(1)
        self._source = source
        self._stop = threading.Event()
        self._failures: list[BaseException] = []
        self._busy = [threading.Lock() for _ in range(WRITERS)]
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(WRITERS)]

    def __enter__(self) -> Hammer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        assert not self._failures

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @contextmanager
    def pause(self) -> Iterator[None]:
        for lock in self._busy:
            lock.acquire()
        try:
            yield
        finally:
            for lock in self._busy:
                lock.release()

    def _run(self, number: int) -> None:
        chance = random.Random(number)
        try:
            with self._source.server.connect(self._source.name, autocommit=False) as connection:
                while not self._stop.wait(0.001):
                    with self._busy[number], suppress(pymysql.err.OperationalError):  # a deadlock: rolled back
                        self._transaction(connection, chance, number)
        except BaseException as error:  # noqa: BLE001 - for the test to look at
            self._failures.append(error)

    def _transaction(self, connection: pymysql.Connection[Any], chance: random.Random, number: int) -> None:
        with connection.cursor() as cursor:
            for _ in range(chance.randint(1, 4)):
                cursor.execute(self._statement(chance, number))
            if chance.random() < 0.3:
                cursor.execute("SAVEPOINT here")
                cursor.execute(self._statement(chance, number))
                cursor.execute("ROLLBACK TO SAVEPOINT here")
                cursor.execute(self._statement(chance, number))
        connection.commit() if chance.random() < 0.9 else connection.rollback()

    def _statement(self, chance: random.Random, number: int) -> str:
        a, b, version = self._key(chance, number), self._key(chance, number), next(self.versions)
        return chance.choice(
            [
                f"INSERT IGNORE INTO images VALUES ({a}, {version}, 'new')",
                f"UPDATE images SET version = {version} WHERE id = {a}",
                f"DELETE FROM images WHERE id = {a}",
                f"UPDATE IGNORE images SET id = {b}, version = {version} WHERE id = {a}",
            ]
        )

    def _key(self, chance: random.Random, number: int) -> int:
        low = min(self.near(), 2 * ROWS) if chance.random() < 0.7 else 0
        key = chance.randrange(low, low + AHEAD if low else 2 * ROWS)
        return key - key % WRITERS + number


def rows_read(listening: Listening) -> int:
    return int(listening.metrics.registry.get_sample_value("pixtail_snapshot_rows_total") or 0)


class Topic:
    """What the topic says, entry by entry in the order of seq. No row may be older than what it has said of the key before, and none that
    was there may be read twice."""

    def __init__(self) -> None:
        self.standing: dict[int, int] = {}  # versions by key
        self.reads: Counter[tuple[str, int]] = Counter()
        self._oldest: dict[int, int] = {}  # the oldest version that may still come
        self._oldest_of_all = 0
        self._newest = 0

    def take(self, entry: Change | Tombstone) -> None:
        if isinstance(entry, Tombstone):
            assert entry.key["id"] not in self.standing
        elif entry.op is Op.TRUNCATE:  # one in each partition
            self.standing.clear()
            self._oldest_of_all = self._newest + 1
        else:
            self._take_row(entry)

    def _take_row(self, entry: Change) -> None:
        row = entry.after or entry.before
        assert row is not None
        key, version = row["id"], row["version"]
        assert version >= max(self._oldest.get(key, 0), self._oldest_of_all), entry
        self._newest = max(self._newest, version)
        self._oldest[key] = version + (entry.op is Op.DELETE)
        if entry.op is Op.DELETE:
            self.standing.pop(key, None)  # it may not have been read yet
            return
        self.standing[key] = version
        if entry.op is Op.READ:
            kind = "back-fill" if entry.source.snapshot == "incremental" else "snapshot"
            self.reads[kind, key] += 1
            assert self.reads[kind, key] == 1, entry


def first_life(source: Source, tmp_path: Path) -> None:
    """One that dies in the middle of the snapshot: by SIGKILL where a test can afford to wait for the takeover."""
    if source.server.name == "mariadb":
        arguments = [source.settings.mysql.url.get_secret_value(), source.kafka.bootstrap, source.name, str(CHUNK_ROWS)]
        with (tmp_path / "listener.log").open("wb") as log:
            killed = subprocess.run(
                [sys.executable, "-c", MORTAL, *arguments], stdout=log, stderr=log, timeout=30, check=False
            )
        assert killed.returncode == -signal.SIGKILL, (tmp_path / "listener.log").read_text()
        return
    listening = Listening(source.settings, chunk_rows=CHUNK_ROWS, make_producer=crashing(12, committed=False))
    listening.start()
    failure = listening.wait_until_ended()
    assert isinstance(failure, Crash), failure


def test_whatever_is_written_meanwhile_the_topic_ends_as_the_table(source: Source, tmp_path: Path) -> None:
    with Hammer(source) as hammer:
        first_life(source, tmp_path)
        state = source.saved()
        assert isinstance(state, State)
        assert state.snapshot is not None
        before = state.snapshot.rows
        assert 0 < before < ROWS
        with source.listening(chunk_rows=CHUNK_ROWS) as listening:
            hammer.near = lambda: 2 * (before + rows_read(listening))
            wait_for(lambda: (now := source.saved()) and now.snapshot is None, "the end of the snapshot")
            first = rows_read(listening)
            hammer.near = lambda: 2 * (rows_read(listening) - first)
            send_request(source.settings.kafka, source.topics, to_json(Request("again", Selection())))
            wait_for(lambda: rows_read(listening) > first + ROWS / 10, "a back-fill under way")
            if source.server.name == "mariadb":
                with hammer.pause():
                    source.sql("TRUNCATE TABLE images")
            wait_for(lambda: (now := source.saved()) and now.snapshot is None, "the end of the back-fill")
            hammer.stop()
            source.sql(f"INSERT INTO images VALUES ({END}, {next(hammer.versions)}, 'end')")
            with reading(source.settings.kafka, source.topics.changes) as reader:
                wait_for(lambda: key_bytes({"id": END}) in {record.key for record in reader.read()}, "the last row")
    topic = Topic()
    for entry in source.entries():
        topic.take(entry)
    assert topic.standing == dict(source.server.query("SELECT id, version FROM images", source.name))
    assert sum(kind == "snapshot" for kind, _ in topic.reads) > ROWS / 2
    for seqs in source.seqs_by_partition():
        assert seqs == sorted(set(seqs))
