"""The worker over topics that a real Debezium wrote: the points are those of our own listener's records."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any

import numpy as np
import pymysql
import pytest

from encoder.fakes import FakeEmbedder, FakePictures
from encoder.worker import Worker
from pixtail.bus.consumer import ChangeConsumer
from pixtail.bus.dead_letters import DeadLetters
from pixtail.bus.inspection import lane_group
from pixtail.bus.reading import reading
from pixtail.bus.topics import Topics, ensure_topics
from pixtail.core import settings
from pixtail.core.changes import Change, Op, Tombstone, decode
from pixtail.core.lifecycle import Stop
from pixtail.core.metrics import Metrics
from pixtail.servers.debezium import USER, DebeziumServer, create_account
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.mysql import MysqlServer
from pixtail.servers.parts import Part
from sink.memory import MemoryStore
from tests.integration.listener_kit import Source, wait_for

TABLE = """
CREATE TABLE images (
  id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, file_path VARCHAR(200) NOT NULL, title VARCHAR(200),
  price DECIMAL(20, 2), rating FLOAT, size DOUBLE, views INT UNSIGNED, visible BOOLEAN, hidden BIT(1), flags BIT(12),
  taken DATE, made DATETIME, edited DATETIME(6), shown TIMESTAMP NULL, updated_at TIMESTAMP(3) NULL, opens TIME, year YEAR,
  thumbnail VARBINARY(20), hash BINARY(4), meta JSON, kind ENUM('car', 'truck'), tags SET('red', 'blue'), place POINT
) CHARACTER SET utf8mb4"""
ROW = (
    "'Grüße 图', -1234567.50, 0.1, 1e100, 4000000000, TRUE, b'1', b'101000000001', '1969-12-31', '2026-11-21 10:11:12', "
    "'2026-11-21 10:11:12.123450', '2026-11-21 10:11:12', '2026-11-21 10:11:12.120', '-01:02:03', 2026, x'00ff', x'6100', "
    """'{"k": [1, 2.5, true, null]}', 'truck', 'red,blue', ST_PointFromText('POINT(1 2)')"""
)
PICTURES = {f"{number}.jpg": f"picture {number}".encode() for number in range(1, 9)}

ALL_OPERATIONS = {"skipped.operations": "none"}  # by default Debezium keeps a TRUNCATE to itself
TEXTS = {"time.precision.mode": "isostring", "decimal.handling.mode": "string"}
# What a record without a schema leaves as it is, for nothing in it says what it means.
UNSAID = {
    "taken": "1969-12-31Z",
    "made": "2026-11-21T10:11:12Z",
    "edited": "2026-11-21T10:11:12.12345Z",
    "hidden": True,
    "flags": "AQo=",
    "opens": None,  # isostring has no negative times
    "meta": '{"k": [1, 2.5, true, null]}',
    "place": {"x": 1.0, "y": 2.0, "wkb": "AQEAAAAAAAAAAADwPwAAAAAAAABA", "srid": None},
}


class Index:
    """The points that a worker makes of one topic."""

    def __init__(self, kafka: KafkaServer, source: Source, prefix: str) -> None:
        self.kafka = settings.Kafka(bootstrap=kafka.bootstrap, prefix=prefix)
        self.topics = Topics(prefix, source.topics.source)
        self.store = MemoryStore()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """While a worker runs. The topic must be there."""
        ensure_topics(self.kafka, self.topics)
        worker = Worker(
            topic=self.topics.changes,
            live=ChangeConsumer(self.kafka, self.topics.changes, lane_group(self.topics, "live"), "live"),
            backlog=ChangeConsumer(self.kafka, self.topics.changes, lane_group(self.topics, "backlog"), "backlog"),
            dead_letters=DeadLetters(self.kafka, self.topics),
            store=self.store,
            pictures=FakePictures(PICTURES),
            embedder=FakeEmbedder(),
            table=settings.Table(),
            model=settings.Model(max_wait_ms=10),
            metrics=Metrics(),
        )
        stop = Stop()
        thread = threading.Thread(target=worker.run, args=(stop,), name=f"worker of {self.kafka.prefix}")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def entries(self) -> list[Any]:
        with reading(self.kafka, self.topics.changes) as reader:
            return [decode(r.key, r.value, r.headers, r.offset) for r in reader.read()]

    def payloads(self) -> dict[Any, dict[str, Any]]:
        return {point.id: dict(point.payload) for point in self.store.get(range(100))}

    def vectors(self) -> dict[Any, Any]:
        return {point.id: point.vector for point in self.store.get(range(100), with_vectors=True)}

    def letters(self) -> list[str]:
        with closing(DeadLetters(self.kafka, self.topics)) as letters:
            letters.open()
            return [letter.message for letter in letters.letters.values()]


class World:
    """One table, followed by our listener and by two connectors; an index for each of the three topics."""

    def __init__(self, mysql: MysqlServer, kafka: KafkaServer, name: str) -> None:
        self.source = Source(mysql, kafka, name)
        self.own = Index(kafka, self.source, name)
        self.defaults = Index(kafka, self.source, f"{name}d")
        self.texts = Index(kafka, self.source, f"{name}t")
        table = self.own.topics.source
        self.connectors = [
            DebeziumServer(mysql, kafka, table, f"{name}d", properties=ALL_OPERATIONS),
            DebeziumServer(mysql, kafka, table, f"{name}t", schemas=False, properties=ALL_OPERATIONS | TEXTS),
        ]

    @property
    def indices(self) -> list[Index]:
        return [self.own, self.defaults, self.texts]

    def insert(self, *ids: int) -> None:
        for number in ids:
            self.source.sql(f"INSERT INTO images VALUES ({number}, '{number}.jpg', {ROW})")

    def wait_until_caught_up(self) -> None:
        """Each index has the table's rows, with their titles and pictures."""
        rows = {
            row[0]: row[1:]
            for row in self.source.server.query(f"SELECT id, title, file_path FROM {self.source.name}.images")
        }
        for index in self.indices:
            wait_for(lambda i=index: rows == titles(i), f"the table in the index of {index.kafka.prefix}")


def titles(index: Index) -> dict[Any, tuple[Any, Any]]:
    return {number: (row.get("title"), row["file_path"]) for number, row in index.payloads().items()}


@pytest.fixture(scope="module")
def world(mysql: MysqlServer, kafka: KafkaServer, needs: Any) -> Iterator[World]:
    """After a snapshot of three rows and one change of each kind. The sixth row is all NULL."""
    needs(Part.DEBEZIUM)
    create_account(mysql)
    world = World(mysql, kafka, "tdebezium")
    world.source.sql(TABLE)
    world.insert(1, 2, 3)
    with ExitStack() as stack:
        stack.callback(forget, mysql)
        for connector in world.connectors:
            stack.callback(connector.close)
            stack.callback(connector.kill)  # it would take its time, and nothing of it is needed any more
        with ThreadPoolExecutor() as pool:
            list(pool.map(DebeziumServer.start, world.connectors))
        stack.enter_context(world.source.listening())
        for index in world.indices:
            wait_for(lambda i=index: len(i.entries()) >= 3, f"the snapshot in {index.topics.changes}")
            stack.enter_context(index.kept())
        world.insert(4, 5)
        world.source.sql(
            "UPDATE images SET title = 'renamed' WHERE id = 1",
            "UPDATE images SET file_path = '8.jpg' WHERE id = 2",
            "DELETE FROM images WHERE id = 3",
            "UPDATE images SET id = 7 WHERE id = 4",
            "INSERT INTO images (id, file_path) VALUES (6, '6.jpg')",
        )
        world.wait_until_caught_up()
        yield world


def forget(mysql: MysqlServer) -> None:
    """Ends what the killed connectors left in the server, which would take eight seconds longer to stop."""
    for (number,) in mysql.query(f"SELECT id FROM information_schema.processlist WHERE user = '{USER}'"):
        with suppress(pymysql.err.OperationalError):  # ended meanwhile
            mysql.execute(f"KILL {number}")


def test_with_its_defaults_each_row_is_the_point_that_our_listener_gives(world: World) -> None:
    assert world.defaults.payloads() == world.own.payloads()
    assert sorted(world.own.payloads()) == [1, 2, 5, 6, 7]


def test_without_schemas_each_row_is_that_point_as_far_as_the_record_says(world: World) -> None:
    expected = world.own.payloads()
    for number, row in expected.items():
        row |= UNSAID if number != 6 else {}
    assert without_spelling(world.texts.payloads()) == without_spelling(expected)


def without_spelling(rows: dict[Any, dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    """Debezium's snapshot and stream differ in blanks of JSON and in zeros that end a fraction; and no value is as good as NULL."""
    return {
        number: {name: _one_spelling(name, value) for name, value in row.items() if value is not None}
        for number, row in rows.items()
    }


def _one_spelling(name: str, value: Any) -> Any:
    if name == "meta":
        return value.replace(" ", "")
    return re.sub(r"0+Z$", "Z", value) if name in ("edited", "updated_at") else value


def test_the_pictures_are_those_of_the_rows_and_nothing_is_a_dead_letter(world: World) -> None:
    pictures = {1: "1.jpg", 2: "8.jpg", 5: "5.jpg", 6: "6.jpg", 7: "4.jpg"}
    for index in world.indices:
        vectors = index.vectors()
        for number, ref in pictures.items():
            np.testing.assert_allclose(vectors[number], FakeEmbedder().vector(PICTURES[ref]), rtol=1e-6)
        assert index.letters() == []


@pytest.mark.parametrize("name", ["defaults", "texts"])
def test_deletes_come_with_tombstones_and_a_changed_key_is_a_delete_and_an_insert(world: World, name: str) -> None:
    entries = getattr(world, name).entries()
    story = [
        ("tombstone" if isinstance(e, Tombstone) else e.op.value, e.key["id"])
        for e in entries
        if isinstance(e, Change | Tombstone)
    ]
    assert story[-7:] == [("u", 2), ("d", 3), ("tombstone", 3), ("d", 4), ("tombstone", 4), ("c", 7), ("c", 6)]


def test_a_truncate_empties_the_index_and_what_comes_afterwards_stays(world: World) -> None:
    world.source.sql("TRUNCATE TABLE images")
    world.insert(2, 8)
    world.wait_until_caught_up()
    assert world.defaults.payloads() == world.own.payloads()
    assert sorted(world.texts.payloads()) == [2, 8]
    assert [index.letters() for index in world.indices] == [[], [], []]
    assert any(isinstance(entry, Change) and entry.op is Op.TRUNCATE for entry in world.defaults.entries())
