"""Servers go and come back while the listener runs: it waits, says so once, and goes on exactly where it was."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog

from ingest import binlog
from pixtail.core.errors import BusUnreachable
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.mariadb import MariadbServer
from pixtail.servers.mysql import MysqlServer
from pixtail.servers.sql import SqlServer
from tests.conftest import serve
from tests.integration.listener_kit import IMAGES, PROGRAM, Source, crashing, wait_for


def end(server: SqlServer) -> None:
    """In good order, but for MySQL 8.0.15, which then waits eight seconds for its dump threads."""
    server.stop() if server.name == "mariadb" else server.kill()


@pytest.fixture(params=[MysqlServer, MariadbServer], ids=["mysql", "mariadb"])
def own_database(request: pytest.FixtureRequest) -> Iterator[SqlServer]:
    yield from serve(request.param())


def outages(logs: list[structlog.typing.EventDict]) -> list[str]:
    return [entry["event"] for entry in logs if entry["event"].startswith("server is")]


def test_a_database_that_restarts_loses_nothing_and_is_logged_once(
    own_database: SqlServer, kafka: KafkaServer, unique: str
) -> None:
    source = Source(own_database, kafka, unique)
    source.sql(IMAGES)
    with structlog.testing.capture_logs() as logs, source.listening() as listening:
        listening.wait_until_ready()
        source.insert(1, 2)
        source.wait_for_entries(2)
        own_database.kill()
        wait_for(lambda: not listening.listener.ready(), "a listener that is not ready")
        own_database.start()
        source.insert(3, 4)
        source.wait_for_entries(4)
        end(own_database)
        own_database.start()
        source.sql("UPDATE images SET n = 0 WHERE id = 1")
        source.wait_for_entries(5)
    assert source.story() == [("c", 1), ("c", 2), ("c", 3), ("c", 4), ("u", 1)]
    assert outages(logs) == ["server is away, trying again", "server is back"] * 2


def test_a_database_that_falls_silent_is_given_up_and_found_again(
    own_database: SqlServer, kafka: KafkaServer, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binlog, "SILENCE_S", 1)
    source = Source(own_database, kafka, unique)
    source.sql(IMAGES)
    with source.listening() as listening:
        listening.wait_until_ready()
        source.insert(1, 1)
        source.wait_for_entries(1)
        own_database.pause()
        wait_for(lambda: not listening.listener.ready(), "a listener that is not ready")
        own_database.resume()
        source.insert(2, 2)
        source.wait_for_entries(2)
    assert source.story() == [("c", 1), ("c", 2)]


def test_it_waits_for_a_database_that_starts_after_it(kafka: KafkaServer, unique: str) -> None:
    for server in serve(MariadbServer()):
        source = Source(server, kafka, unique)
        source.sql(IMAGES)
        server.stop()
        with structlog.testing.capture_logs() as logs, source.listening() as listening:
            wait_for(lambda: outages(logs), "a logged outage")
            server.start()
            listening.wait_until_ready()
            source.insert(1, 1)
            source.wait_for_entries(1)
        assert outages(logs) == ["server is away, trying again", "server is back"]


@pytest.mark.parametrize("committed", [False, True], ids=["before-commit", "after-commit"])
def test_a_kafka_that_fails_in_a_commit_gets_each_change_once(
    mariadb: MariadbServer, kafka: KafkaServer, unique: str, committed: bool
) -> None:
    source = Source(mariadb, kafka, unique)
    source.sql(IMAGES)
    source.insert(1, 2)
    failing = crashing(2, committed=committed, error=lambda: BusUnreachable("Kafka does not answer"))
    with structlog.testing.capture_logs() as logs, source.listening(make_producer=failing) as listening:
        listening.wait_until_ready()
        source.insert(3, 4)
        source.wait_for_entries(4)
        source.insert(5, 5)
        source.wait_for_entries(5)
    assert source.story() == [("r", 1), ("r", 2), ("c", 3), ("c", 4), ("c", 5)]
    assert outages(logs) == ["server is away, trying again", "server is back"]


@pytest.fixture
def own_kafka() -> Iterator[KafkaServer]:
    yield from serve(KafkaServer())


def test_a_kafka_that_starts_late_restarts_and_dies_gets_each_change_once(
    mariadb: MariadbServer, own_kafka: KafkaServer, unique: str
) -> None:
    source = Source(mariadb, own_kafka, unique)
    source.sql(IMAGES)
    own_kafka.stop()
    with structlog.testing.capture_logs() as logs, source.listening(flush_rows=3) as listening:
        wait_for(lambda: outages(logs), "a logged outage")
        own_kafka.start()
        listening.wait_until_ready()
        wait_until_following(source)
        for n, end_it in enumerate((own_kafka.stop, own_kafka.kill)):
            with writing(source, 100 * n + 1, 100):
                source.wait_for_entries(100 * n + 20)
                end_it()
            own_kafka.start()
            source.wait_for_entries(100 * (n + 1))
    assert source.story() == [("c", n) for n in range(1, 201)]
    for seqs in source.seqs_by_partition():
        assert seqs == sorted(set(seqs))


def wait_until_following(source: Source) -> None:
    """Behind the snapshot: what is inserted from now on is `c`."""
    wait_for(lambda: (saved := source.saved()) and saved.snapshot is None, "the end of the snapshot")


@contextmanager
def writing(source: Source, first: int, rows: int) -> Iterator[None]:
    """Meanwhile a thread inserts rows one by one; leaving waits for the last."""

    def write() -> None:
        with source.server.connect(source.name) as connection, connection.cursor() as cursor:
            for n in range(first, first + rows):
                cursor.execute("INSERT INTO images VALUES (%s, 'p', 0)", (n,))
                time.sleep(0.005)

    thread = threading.Thread(target=write, name="writing")
    thread.start()
    try:
        yield
    finally:
        thread.join()


# A listener alone in a process whose patience with Kafka is short: the hang outlasts every time limit.
IMPATIENT = """
from pixtail.bus import client, producer
client.CONNECT_TIMEOUT_S, client.REQUEST_TIMEOUT_S = 1.0, 2.0
producer.OPEN_TIMEOUT_S = producer.COMMIT_TIMEOUT_S = 2.0
"""
HANG_S = 8.0
MOST_MB = 150
ROWS = 50_000
WIDE = "p" * 1000


def test_a_kafka_that_hangs_under_a_heavy_stream_costs_no_memory_and_no_row(
    mariadb: MariadbServer, own_kafka: KafkaServer, unique: str, tmp_path: Path
) -> None:
    source = Source(mariadb, own_kafka, unique)
    source.sql(IMAGES.replace("VARCHAR(200)", "VARCHAR(1000)"))
    with impatient(source, tmp_path / "listener.log") as process:
        try:
            wait_until_following(source)
            own_kafka.pause()
            for first in range(1, ROWS, 1000):
                source.sql(f"INSERT INTO images SELECT seq, '{WIDE}', 0 FROM seq_{first}_to_{first + 999}")
            time.sleep(HANG_S)  # that nothing happens cannot be waited for
            assert process.poll() is None
            own_kafka.resume()
            source.wait_for_entries(ROWS)
            assert peak_mb(process.pid) < MOST_MB
        finally:
            process.kill()
    assert source.story() == [("c", n) for n in range(1, ROWS + 1)]


def impatient(source: Source, log: Path) -> subprocess.Popen[bytes]:
    """A listener in a process of its own."""
    address = source.settings.mysql.url.get_secret_value()
    arguments = [address, source.kafka.bootstrap, source.name, "2000", "2000"]
    with log.open("ab") as output:
        return subprocess.Popen([sys.executable, "-c", IMPATIENT + PROGRAM, *arguments], stdout=output, stderr=output)


def peak_mb(pid: int) -> float:
    """The most memory that it ever held. https://man7.org/linux/man-pages/man5/proc_pid_status.5.html"""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024
