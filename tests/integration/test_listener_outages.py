"""Servers go and come back while the listener runs: it waits, says so once, and goes on exactly where it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from ingest import binlog
from pixtail.core.errors import BusUnreachable
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.mariadb import MariadbServer
from pixtail.servers.mysql import MysqlServer
from pixtail.servers.sql import SqlServer
from tests.conftest import serve
from tests.integration.listener_kit import IMAGES, Source, crashing, wait_for


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
    kafka: KafkaServer, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binlog, "SILENCE_S", 1)
    for server in serve(MariadbServer()):
        source = Source(server, kafka, unique)
        source.sql(IMAGES)
        with source.listening() as listening:
            listening.wait_until_ready()
            source.insert(1, 1)
            source.wait_for_entries(1)
            server.pause()
            wait_for(lambda: not listening.listener.ready(), "a listener that is not ready")
            server.resume()
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
