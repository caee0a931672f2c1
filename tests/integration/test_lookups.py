"""Names from other tables: real databases, real Kafka, listeners, a worker, and the embedded store."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from encoder.fakes import FakeDeadLetters, FakeEmbedder, FakePictures
from encoder.worker import Worker
from ingest.preflight import examine
from pixtail.app.following import lookup_topics
from pixtail.bus.client import admin_client
from pixtail.bus.consumer import ChangeConsumer
from pixtail.bus.inspection import lane_group
from pixtail.bus.lookups import LookedUp, LookupTopics
from pixtail.bus.producer import TransactionalProducer
from pixtail.bus.topics import Topics, ensure_topics
from pixtail.core.changes import Change, Op, encode
from pixtail.core.changes import Source as Where
from pixtail.core.checks import Check
from pixtail.core.errors import BusUnreachable
from pixtail.core.lifecycle import Stop
from pixtail.core.metrics import Metrics
from pixtail.core.points import SetNames
from pixtail.core.ports import Applied
from pixtail.core.settings import Model, Settings
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.sql import SqlServer
from sink.edge import EdgeStore
from tests.integration.listener_kit import Listening, Source, wait_for

LOOKUPS = [
    {
        "table": "brands",
        "column": "brand_id",
        "take": {"name": "brand_name", "chinese_name": "brand_chinese_name"},
    },
    {"table": "brands", "column": "maker_id", "take": {"name": "maker_name"}},
    {"table": "models", "key": "code", "column": "model_code", "take": {"name": "model_name"}},
]
TABLES = (
    "CREATE TABLE brands (id INT UNSIGNED PRIMARY KEY, name VARCHAR(50), chinese_name VARCHAR(50), founded INT) CHARACTER SET utf8mb4",
    "CREATE TABLE models (code VARCHAR(20) PRIMARY KEY, name VARCHAR(50))",
    "CREATE TABLE images (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, file_path VARCHAR(200) NOT NULL,"
    " brand_id INT UNSIGNED, maker_id INT UNSIGNED, model_code VARCHAR(20))",
)


class WatchedStore(EdgeStore):
    """Notes what is written by filter."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "images")
        self.named: list[SetNames] = []

    def apply(self, writes: Any) -> Applied:
        self.named += [one for one in writes if isinstance(one, SetNames) and one.ids is None]
        return super().apply(writes)


class Shop(Source):
    """Three tables, their listeners, and a worker."""

    def __init__(self, server: SqlServer, kafka: KafkaServer, name: str, path: Path) -> None:
        super().__init__(server, kafka, name, lookups=LOOKUPS, rename={})
        self.sql(*TABLES)
        self.store = WatchedStore(path)

    @contextmanager
    def captured(self) -> Iterator[None]:
        """With listeners; at the end none must have failed."""
        running = [Listening(settings) for settings in (self.settings, *self.settings.of_lookups)]
        with ExitStack() as stack:
            for one in running:
                one.start()
                stack.callback(one.stop)
            yield
        for one in running:
            one.raise_failure()

    @contextmanager
    def indexed(self) -> Iterator[None]:
        """With a worker; at the end it must not have failed."""
        ensure_topics(self.settings.kafka, self.topics)
        stop, failures = Stop(), []

        def work() -> None:
            try:
                self._worker().run(stop)
            except BaseException as error:  # noqa: BLE001 - raised below
                failures.append(error)

        thread = threading.Thread(target=work, name="worker under test")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(30)
            assert not thread.is_alive()
        assert failures == []

    def _worker(self) -> Worker:
        kafka, changes = self.settings.kafka, self.topics.changes
        return Worker(
            topic=changes,
            live=ChangeConsumer(kafka, changes, lane_group(self.topics, "live"), "live"),
            backlog=ChangeConsumer(kafka, changes, lane_group(self.topics, "backlog"), "backlog"),
            dead_letters=FakeDeadLetters(),
            store=self.store,
            pictures=FakePictures({f"{name}.jpg": name.encode() for name in "abc"}),
            embedder=FakeEmbedder(),
            table=self.settings.table,
            model=Model(batch=4, max_wait_ms=5),
            metrics=Metrics(),
            lookups=lookup_topics(self.settings, self.topics, ""),
        )

    def shown(self) -> dict[Any, dict[str, Any]]:
        """Point → the names in it."""
        points = self.store.get([1, 2, 3])
        return {
            point.id: {name: value for name, value in point.payload.items() if name.endswith("_name")}
            for point in points
        }

    def wait_for(self, expected: dict[int, dict[str, Any]]) -> None:
        try:
            wait_for(lambda: self.shown() == expected, "the names")
        except AssertionError:
            assert self.shown() == expected
            raise


@pytest.fixture
def shop(database: SqlServer, kafka: KafkaServer, unique: str, tmp_path: Path) -> Iterator[Shop]:
    made = Shop(database, kafka, unique, tmp_path / "store")
    yield made
    made.store.close()


def test_points_show_the_names_of_other_tables_as_they_are_now(shop: Shop) -> None:
    """Those that were there before, that come late, that change, that go, that are pointed to anew; with the worker there and away."""
    shop.sql(
        "INSERT INTO brands VALUES (1, 'Acme', '顶峰', 1900)",
        "INSERT INTO images VALUES (1, 'a.jpg', 1, 2, 'T'), (2, 'b.jpg', 2, NULL, NULL)",
    )
    with shop.captured():
        with shop.indexed():
            acme = {"brand_name": "Acme", "brand_chinese_name": "顶峰"}
            shop.wait_for({1: acme, 2: {}})
            shop.sql("INSERT INTO models VALUES ('T', 'Model T')", "INSERT INTO brands VALUES (2, 'Bolt', NULL, 1950)")
            shop.wait_for({1: {**acme, "maker_name": "Bolt", "model_name": "Model T"}, 2: {"brand_name": "Bolt"}})
            shop.sql(
                "UPDATE brands SET name = 'BOLT' WHERE id = 2", "INSERT INTO images VALUES (3, 'c.jpg', 2, 1, 'x')"
            )
            three = {"brand_name": "BOLT", "maker_name": "Acme"}
            shop.wait_for(
                {1: {**acme, "maker_name": "BOLT", "model_name": "Model T"}, 2: {"brand_name": "BOLT"}, 3: three}
            )
            shop.sql("DELETE FROM brands WHERE id = 1", "UPDATE images SET brand_id = 2 WHERE id = 1")
            shop.wait_for(
                {
                    1: {"brand_name": "BOLT", "maker_name": "BOLT", "model_name": "Model T"},
                    2: {"brand_name": "BOLT"},
                    3: {"brand_name": "BOLT"},
                }
            )
        shop.store.named.clear()
        shop.sql("UPDATE brands SET name = 'Blitz', founded = 1 WHERE id = 2", "TRUNCATE models")
        with shop.indexed():
            shop.wait_for(
                {
                    1: {"brand_name": "Blitz", "maker_name": "Blitz"},
                    2: {"brand_name": "Blitz"},
                    3: {"brand_name": "Blitz"},
                }
            )
            shop.sql("UPDATE brands SET founded = 2", "INSERT INTO models VALUES ('x', 'X')")
            shop.wait_for(
                {
                    1: {"brand_name": "Blitz", "maker_name": "Blitz"},
                    2: {"brand_name": "Blitz"},
                    3: {"brand_name": "Blitz", "model_name": "X"},
                }
            )
    assert sorted((one.column, one.value) for one in shop.store.named) == [
        ("brand_id", 2),
        ("maker_id", 2),
        ("model_code", "T"),
        ("model_code", "x"),
    ]


# --- the topics --------------------------------------------------------------------------------------------------------------


class Brands:
    """A topic of a lookup, and a producer for it."""

    def __init__(self, kafka: KafkaServer, unique: str) -> None:
        self.settings = Settings(kafka={"bootstrap": kafka.bootstrap, "prefix": unique, "partitions": 2}).kafka
        self.topics = Topics(unique, "shop.brands")
        ensure_topics(self.settings, self.topics, dead_letters=False)
        self.producer = TransactionalProducer(self.settings, f"{unique}.test")
        self.producer.open()
        self.seq = 0

    def send(self, *keys: int) -> None:
        for key in keys:
            self.seq += 1
            change = Change(Op.UPDATE, {"id": key}, None, {"id": key}, self.seq, Where("shop", "brands"))
            self.producer.commit({self.topics.changes: [encode(change)]})

    @contextmanager
    def reader(self, meaning: str = "names") -> Iterator[LookupTopics]:
        reader = LookupTopics(self.settings, {self.topics.changes: "brands"}, f"{self.topics.prefix}.group", meaning)
        reader.open()
        yield reader
        reader.close()


@pytest.fixture
def brands(kafka: KafkaServer, unique: str) -> Iterator[Brands]:
    made = Brands(kafka, unique)
    yield made
    made.producer.close()


def told(reader: LookupTopics, number: int) -> list[tuple[str, int, bool]]:
    """What the next so many records say. A transaction is committed a moment before it can be read."""
    records: list[LookedUp] = []
    wait_for(lambda: records.extend(reader.read()) or len(records) >= number, f"{number} records")
    return sorted((one.table, one.entry.seq, one.followed) for one in records)


def test_everything_is_read_once_and_what_was_followed_is_known_to_the_next_reader(brands: Brands) -> None:
    brands.send(1, 2, 3)
    with brands.reader() as first, brands.reader() as second:
        assert told(first, 3) == [("brands", 1, False), ("brands", 2, False), ("brands", 3, False)]
        first.commit()
        brands.send(1)
        assert told(first, 1) == [("brands", 4, False)]
        assert first.read() == []
        assert len(told(second, 4)) == 4
        second.commit()
    brands.send(2)
    with brands.reader() as third:
        assert told(third, 5) == [("brands", n, True) for n in (1, 2, 3, 4)] + [("brands", 5, False)]


def test_what_was_followed_for_other_settings_counts_for_nothing(brands: Brands) -> None:
    brands.send(1)
    with brands.reader() as reader:
        assert told(reader, 1) == [("brands", 1, False)]
        reader.commit()
    with brands.reader("other names") as reader:
        assert told(reader, 1) == [("brands", 1, False)]


def test_what_was_followed_in_a_topic_that_has_been_made_anew_counts_for_nothing(brands: Brands) -> None:
    brands.send(1, 1, 1)
    with brands.reader() as reader:
        told(reader, 3)
        reader.commit()
    with admin_client(brands.settings) as admin:
        admin.delete_topics([brands.topics.changes])
        wait_for(lambda: brands.topics.changes not in admin.list_topics(), "the topic gone")
    ensure_topics(brands.settings, brands.topics, dead_letters=False)
    brands.producer.close()
    brands.producer.open()
    brands.send(1)
    with brands.reader() as reader:
        assert told(reader, 1) == [("brands", 4, False)]


def test_a_topic_that_is_not_there_is_waited_for(kafka: KafkaServer, unique: str) -> None:
    settings = Settings(kafka={"bootstrap": kafka.bootstrap, "prefix": unique}).kafka
    reader = LookupTopics(settings, {f"{unique}.shop.brands": "brands"}, unique, "")
    with pytest.raises(BusUnreachable, match=r"shop\.brands is not there"):
        reader.open()
    reader.close()


# --- the checks --------------------------------------------------------------------------------------------------------------


def troubles(settings: Settings) -> list[Check]:
    return [check for check in examine(settings).checks if not check.ok or (check.remedy and check.name == "lookups")]


def given(shop: Shop, **lookup: Any) -> Settings:
    table = {"lookups": [{**LOOKUPS[0], **lookup}], "rename": {}}
    return Settings(mysql={"url": shop.settings.mysql.url.get_secret_value()}, table=table)


def test_sound_lookups_pass_every_check(shop: Shop) -> None:
    for settings in (shop.settings, *shop.settings.of_lookups):
        assert troubles(settings) == []


@pytest.mark.parametrize(
    ("lookup", "words"),
    [
        ({"column": "brand"}, ["brand, which", "brand_id"]),
        ({"take": {"nam": "brand_name"}}, ["nam, which brands does not have", "chinese_name"]),
        ({"take": {"name": "model_code"}}, ["model_code, which is a column of"]),
        ({"column": "model_code"}, ["model_code is varchar", "MODIFY `model_code` INT"]),
    ],
)
def test_lookups_that_do_not_fit_the_table_are_named(shop: Shop, lookup: dict[str, Any], words: list[str]) -> None:
    (found,) = troubles(given(shop, **lookup))
    assert found.name == "lookups"
    assert [word for word in words if word not in f"{found.detail} {found.remedy}"] == []


def test_a_lookups_own_table_is_checked_like_any_other(shop: Shop) -> None:
    (settings,) = given(shop, key="name").of_lookups
    (found,) = troubles(settings)
    assert (found.name, found.remedy) == ("primary key", 'Set key in the [[table.lookups]] of brands = "id"')
    (settings,) = given(shop, table="brnds").of_lookups
    missing = troubles(settings)[0]
    assert missing.name == "table"
    assert "table in the [[table.lookups]] of brnds" in missing.remedy
