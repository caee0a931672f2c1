"""Whatever doctor finds wrong with Kafka's topics and with the saved state, what it prints mends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ingest import mysql as database_client
from ingest import positions, state_checks
from ingest.position import Position, State, to_json
from ingest.sequence import now_ms
from pixtail.bus.client import admin_client
from pixtail.bus.inspection import judge_cluster, leaders, look_at_cluster, saved_state
from pixtail.bus.producer import TransactionalProducer
from pixtail.bus.state import state_record
from pixtail.bus.topics import Topics, ensure_topics
from pixtail.core.checks import Check
from pixtail.core.settings import Settings
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.mariadb import MariadbServer
from pixtail.servers.mysql import MysqlServer
from pixtail.servers.sql import SqlServer
from tests.conftest import serve
from tests.integration.doctor_kit import (
    IMAGES,
    apply_setting,
    named,
    restart_kafka_with,
    run_kafka_tool,
    run_sql,
    running,
    troubles,
)


def settings_at(kafka: KafkaServer, prefix: str, **options: Any) -> Settings:
    return Settings(kafka={"bootstrap": kafka.bootstrap, "prefix": prefix, "partitions": 2, **options})


def topics_of(given: Settings) -> Topics:
    return Topics(given.kafka.prefix, given.source)


def look(given: Settings, row_bytes: int | None = None) -> list[Check]:
    cluster = look_at_cluster(given.kafka, topics_of(given))
    return list(judge_cluster(given.kafka, topics_of(given), cluster, row_bytes))


@pytest.fixture
def given(kafka: KafkaServer, unique: str) -> Settings:
    """Topics that are there, as the listener makes them."""
    found = settings_at(kafka, unique)
    ensure_topics(found.kafka, topics_of(found))
    return found


def configure(given: Settings, topic: str, **configs: str) -> None:
    """Spoils a topic: names with underscores for dots."""
    from kafka.admin import ConfigResource, ConfigResourceType

    values = {name.replace("_", "."): value for name, value in configs.items()}
    with admin_client(given.kafka) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, values)])


def test_topics_as_the_listener_makes_them_are_sound(given: Settings) -> None:
    found = look(given, row_bytes=1000)
    assert troubles(found) == []
    assert len(found) >= 12


def test_topics_that_are_not_there_yet_will_be_made(kafka: KafkaServer, unique: str) -> None:
    found = look(settings_at(kafka, unique))
    assert troubles(found) == []
    assert "it will be made with 2 partitions" in named(found, f"{unique}.app.images").detail


@pytest.mark.parametrize(
    ("config", "spoilt", "ok"),
    [
        ("cleanup.policy", "delete", False),
        ("cleanup.policy", "compact,delete", False),
        ("min.insync.replicas", "2", False),
        ("delete.retention.ms", "86400000", True),
        ("max.message.bytes", "250000", True),
    ],
)
def test_a_topic_with_a_wrong_setting_is_mended_by_kafkas_own_tool(
    given: Settings, config: str, spoilt: str, ok: bool
) -> None:
    topic = topics_of(given).changes
    configure(given, topic, **{config.replace(".", "_"): spoilt})
    found = look(given, row_bytes=200_000)
    assert troubles(found) == [f"{topic} {config}"]
    bad = named(found, f"{topic} {config}")
    assert bad.ok is ok
    run_kafka_tool(bad.remedy)
    assert troubles(look(given, row_bytes=200_000)) == []


def test_a_state_that_is_not_compacted_is_mended(given: Settings) -> None:
    topic = topics_of(given).state
    configure(given, topic, cleanup_policy="delete")
    run_kafka_tool(named(look(given), f"{topic} cleanup.policy").remedy)
    assert troubles(look(given)) == []


def test_other_partitions_than_set_are_a_warning_with_the_setting(given: Settings) -> None:
    other = Settings(kafka={**given.kafka.model_dump(), "partitions": 6})
    bad = named(look(other), f"{topics_of(given).changes} partitions")
    assert bad.ok
    assert troubles(look(apply_setting(other, bad.remedy))) == []


def test_a_state_topic_of_several_partitions_is_refused(given: Settings) -> None:
    with admin_client(given.kafka) as admin:
        admin.create_partitions({topics_of(given).state: 2})
    bad = named(look(given), f"{topics_of(given).state} partitions")
    assert not bad.ok
    assert "kafka.prefix" in bad.remedy


def test_more_replicas_than_brokers_are_refused(kafka: KafkaServer, unique: str) -> None:
    wrong = settings_at(kafka, unique, replication=3)
    bad = named(look(wrong), f"{unique}.app.images")
    assert not bad.ok
    right = apply_setting(wrong, bad.remedy)
    assert troubles(look(right)) == []
    ensure_topics(right.kafka, topics_of(right))


@pytest.fixture(scope="module")
def poor() -> Iterator[KafkaServer]:
    """One broker with the defaults of three."""
    wanted = {
        "transaction.state.log.replication.factor": "3",
        "transaction.state.log.min.isr": "2",
        "min.insync.replicas": "2",
    }
    yield from serve(KafkaServer(properties=wanted))


def test_a_broker_that_can_begin_no_transaction_is_mended(poor: KafkaServer, unique: str) -> None:
    given = settings_at(poor, unique)
    topics = topics_of(given)
    bad = look(given)
    assert [check.name for check in bad if not check.ok] == [
        "Kafka transactions",
        topics.changes,
        topics.state,
        topics.dead_letters,
    ]
    restart_kafka_with(poor, named(bad, "Kafka transactions").remedy)
    run_kafka_tool(named(bad, topics.changes).remedy)
    assert troubles(look(given)) == []
    ensure_topics(given.kafka, topics)
    write_state(given, {"x": 1})


def write_state(given: Settings, body: dict[str, Any]) -> None:
    topics = topics_of(given)
    producer = TransactionalProducer(given.kafka, f"{topics.prefix}.test")
    producer.open()
    try:
        producer.commit({topics.state: [state_record(topics.source, body)]})
    finally:
        producer.close()


# The state


@pytest.fixture
def followed(database: SqlServer, kafka: KafkaServer, unique: str) -> Settings:
    """A database whose listener has stopped at its end."""
    return stopped_at_the_end(database, kafka, unique)


def stopped_at_the_end(server: SqlServer, kafka: KafkaServer, name: str) -> Settings:
    server.create_database(name)
    server.execute(IMAGES, database=name)
    given = Settings(
        mysql={"url": f"{server.url(name)}?ssl_mode=DISABLED"}, kafka={"bootstrap": kafka.bootstrap, "prefix": name}
    )
    ensure_topics(given.kafka, topics_of(given))
    write_state(given, to_json(State(end_of(given), now_ms() << 10)))
    return given


def end_of(given: Settings) -> Position:
    with database_client.connect(given.mysql.address, database=None) as connection:
        return positions.now(connection, database_client.look(connection, given.mysql))


def state(given: Settings, clock_ms: Callable[[], int] = now_ms) -> list[Check]:
    saved = saved_state(given.kafka, topics_of(given))
    return state_checks.examine(given, saved.body, saved.written_ms, clock_ms)


def in_days(days: float) -> Callable[[], int]:
    return lambda: now_ms() + int(days * 86_400_000)


def test_without_a_state_the_listener_begins_anew(kafka: KafkaServer, unique: str) -> None:
    found = state(settings_at(kafka, unique))
    assert [check.name for check in found] == list(state_checks.NAMES)
    assert troubles(found) == []


def test_a_state_at_the_binlogs_end_is_sound_however_old_it_is(followed: Settings) -> None:
    assert troubles(state(followed)) == []
    assert troubles(state(followed, in_days(100))) == []


def test_unread_changes_that_will_soon_be_purged_are_said_and_kept_for_longer(unique: str, kafka: KafkaServer) -> None:
    servers: list[SqlServer] = [MysqlServer(), MariadbServer()]
    for server in servers:
        with running(server):
            given = stopped_at_the_end(server, kafka, f"{unique}{server.name}")
            server.execute("SET GLOBAL binlog_expire_logs_seconds = 864000")  # ten days
            server.execute("INSERT INTO images (n) VALUES (1)", database=given.mysql.address.database)
            assert troubles(state(given, in_days(4))) == []
            (bad,) = [check for check in state(given, in_days(8)) if not check.ok]
            assert bad.name == "retention against lag"
            run_sql(server, bad.remedy)
            assert troubles(state(given, in_days(8))) == []


def test_a_position_that_was_purged_is_lost(kafka: KafkaServer, unique: str) -> None:
    servers: list[SqlServer] = [MysqlServer(), MariadbServer()]
    for server in servers:
        with running(server):
            given = stopped_at_the_end(server, kafka, f"{unique}{server.name}")
            name = given.mysql.address.database
            server.execute("INSERT INTO images (n) VALUES (1)", "FLUSH BINARY LOGS", database=name)
            while len(server.query("SHOW BINARY LOGS")) > 1:  # MariaDB purges once its checkpoint has moved
                server.execute("INSERT INTO images (n) VALUES (1)", "FLUSH BINARY LOGS", database=name)
                last = server.query("SHOW BINARY LOGS")[-1][0]
                server.execute(f"PURGE BINARY LOGS TO '{last}'")
            bad = named(state(given), "saved position")
            assert not bad.ok
            assert "purged" in bad.detail
            assert bad.remedy


def test_a_state_of_another_form_is_refused(given: Settings) -> None:
    write_state(given, {"position": "?"})
    bad = named(state(given), "saved state")
    assert not bad.ok
    assert "kafka.prefix" in bad.remedy


def test_a_seq_of_the_future_is_a_warning(followed: Settings) -> None:
    bad = named(state(followed, in_days(-1)), "saved state")
    assert bad.ok
    assert bad.remedy


def test_no_listener_is_running(given: Settings) -> None:
    assert leaders(given.kafka, topics_of(given)) == []
