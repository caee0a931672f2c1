"""Kafka through our adapter: transactions, fencing, the state, the groups, the dead letters. Against a real broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from kafka.admin import ConfigResource, ConfigResourceType, MemberToRemove

from pixtail.bus.client import admin_client
from pixtail.bus.consumer import ChangeConsumer, Consumed
from pixtail.bus.dead_letters import DeadLetter, DeadLetters
from pixtail.bus.inspection import describe_broker, group_lag, lane_group
from pixtail.bus.producer import TransactionalProducer
from pixtail.bus.reading import reading
from pixtail.bus.state import StateStore, state_record
from pixtail.bus.topics import Topics, ensure_topics
from pixtail.core.changes import Change, Op, Record, Source, Tombstone, encode
from pixtail.core.errors import BusUnreachable, Fenced, Reason, SettingError
from pixtail.core.settings import Kafka
from pixtail.servers.kafka import KafkaServer

SOURCE = "shop.images"


@pytest.fixture
def settings(kafka: KafkaServer, unique: str) -> Kafka:
    return Kafka(bootstrap=kafka.bootstrap, prefix=unique, partitions=3)


@pytest.fixture
def topics(settings: Kafka) -> Topics:
    topics = Topics(settings.prefix, SOURCE)
    ensure_topics(settings, topics)
    return topics


@pytest.fixture
def producer(settings: Kafka, topics: Topics) -> Iterator[TransactionalProducer]:
    producer = TransactionalProducer(settings, f"{settings.prefix}.listen")
    producer.open()
    yield producer
    producer.close()


def change(key: int, seq: int) -> Record:
    return encode(Change(Op.CREATE, {"id": key}, None, {"id": key}, seq, Source("shop", "images")))


def drain(consumer: ChangeConsumer, count: int) -> list[Consumed]:
    found: list[Consumed] = []
    deadline = time.monotonic() + 20
    while len(found) < count and time.monotonic() < deadline:
        found += consumer.poll(0.2, 500)
    assert len(found) == count, f"{len(found)} of {count} records came"
    return found


def test_records_and_state_of_one_commit_appear_together(
    settings: Kafka, topics: Topics, producer: TransactionalProducer
) -> None:
    store = StateStore(settings, topics)
    assert store.read(SOURCE) is None
    for n in range(5):
        batch = [change(key, n * 10 + key + 1) for key in range(10)]
        producer.commit({topics.changes: batch, topics.state: [state_record(SOURCE, {"n": n})]})
    assert store.read(SOURCE) == {"n": 4}
    assert store.read("shop.others") is None
    with reading(settings, topics.changes) as reader:
        assert len(reader.read()) == 50
        assert reader.read() == [], "each record is read once"


def test_a_key_stays_in_its_partition_and_in_order(
    settings: Kafka, topics: Topics, producer: TransactionalProducer
) -> None:
    for n in range(4):
        producer.commit({topics.changes: [change(key, n * 100 + key + 1) for key in range(20)]})
    with reading(settings, topics.changes) as reader:
        records = reader.read()
    partitions = {key: {r.partition for r in records if r.key == key} for key in {r.key for r in records}}
    assert {len(p) for p in partitions.values()} == {1}
    assert len(set.union(*partitions.values())) > 1, "all keys in one partition"
    for key in partitions:
        seqs = [int(dict(r.headers)["seq"]) for r in records if r.key == key]
        assert seqs == sorted(seqs)


def test_a_second_producer_fences_the_first(settings: Kafka, topics: Topics, producer: TransactionalProducer) -> None:
    producer.commit({topics.state: [state_record(SOURCE, {"by": "first"})]})
    second = TransactionalProducer(settings, f"{settings.prefix}.listen")
    second.open()
    try:
        with pytest.raises(Fenced, match="another listener"):
            producer.commit({topics.state: [state_record(SOURCE, {"by": "a zombie"})]})
        second.commit({topics.changes: [change(1, 1)]})
    finally:
        second.close()
    assert StateStore(settings, topics).read(SOURCE) == {"by": "first"}


def test_a_foreign_record_in_the_state_topic_is_said_plainly(
    settings: Kafka, topics: Topics, producer: TransactionalProducer
) -> None:
    producer.commit({topics.state: [Record(b'{"source":"shop.images"}', b"not ours")]})
    with pytest.raises(SettingError, match=r"state of shop\.images .* is unreadable"):
        StateStore(settings, topics).read(SOURCE)


@pytest.fixture
def consumer(settings: Kafka, topics: Topics) -> Iterator[ChangeConsumer]:
    consumer = ChangeConsumer(settings, topics.changes, lane_group(topics, "live"))
    consumer.open()
    yield consumer
    consumer.close()


def until(done: Callable[[], bool], limit_s: float = 15) -> bool:
    deadline = time.monotonic() + limit_s
    while not done() and time.monotonic() < deadline:
        time.sleep(0.02)
    return done()


def test_what_was_committed_is_not_read_again_and_the_idle_lag_is_zero(
    settings: Kafka, topics: Topics, producer: TransactionalProducer, consumer: ChangeConsumer
) -> None:
    producer.commit({topics.changes: [change(key, key + 1) for key in range(30)] + [encode(Tombstone({"id": 3}, 99))]})
    found = drain(consumer, 31)
    assert {c.entry.seq for c in found} == {*range(1, 31), 99}
    group = lane_group(topics, "live")
    assert sum((group_lag(settings, topics.changes, group) or {}).values()) >= 31, "nothing is committed yet"
    assert consumer.commit({c.partition: c.offset + 1 for c in found})

    def caught_up() -> bool:
        return consumer.poll(0.1, 10) == [] and sum((group_lag(settings, topics.changes, group) or {}).values()) == 0

    assert until(caught_up), f"transaction markers count as lag: {group_lag(settings, topics.changes, group)}"
    assert sum(consumer.lag().values()) == 0
    consumer.close()
    consumer.open()
    producer.commit({topics.changes: [change(7, 1000)]})
    assert [c.entry.seq for c in drain(consumer, 1)] == [1000]


def test_a_member_that_the_group_has_left_behind_cannot_commit(
    settings: Kafka, topics: Topics, producer: TransactionalProducer, consumer: ChangeConsumer
) -> None:
    producer.commit({topics.changes: [change(key, key + 1) for key in range(30)]})
    found = drain(consumer, 30)
    evict_everybody(settings, lane_group(topics, "live"))
    assert not consumer.commit({c.partition: c.offset + 1 for c in found})
    again = drain(consumer, 30)
    assert {c.entry.seq for c in again} == {c.entry.seq for c in found}, "what was not committed comes again"


def evict_everybody(settings: Kafka, group: str) -> None:
    """As the coordinator does with a member that was frozen past its session."""
    with admin_client(settings) as admin:
        members = admin.describe_groups([group])[group]["members"]
        admin.remove_group_members(group, [MemberToRemove(member["member_id"]) for member in members])


def letter(key: bytes, reason: Reason, seq: int = 5) -> DeadLetter:
    return DeadLetter(key, b'{"op":"c"}', seq, reason, "ein Grund ü", 2, "2026-11-21T00:00:00.000Z", "topic/0/17")


def test_dead_letters_are_seen_by_everyone_until_they_are_cleared(settings: Kafka, topics: Topics) -> None:
    ours, theirs = DeadLetters(settings, topics), DeadLetters(settings, topics)
    ours.open()
    theirs.open()
    try:
        first, second = letter(b'{"id":1}', Reason.CORRUPT), letter(b'{"id":2}', Reason.NOT_FOUND)
        ours.put([first, second])
        theirs.refresh()
        assert dict(theirs.letters) == dict(ours.letters) == {first.key: first, second.key: second}
        theirs.clear([first.key])
        ours.refresh()
        assert dict(ours.letters) == {second.key: second}
    finally:
        ours.close()
        theirs.close()


def test_the_topics_are_made_as_promised_and_only_once(settings: Kafka, topics: Topics) -> None:
    ensure_topics(settings, topics)
    with admin_client(settings) as admin:
        found = {
            t["name"]: len(t["partitions"])
            for t in admin.describe_topics([topics.changes, topics.state, topics.dead_letters])
        }
        configs = admin.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, topics.changes)], config_filter="all"
        )
    assert found == {topics.changes: 3, topics.state: 1, topics.dead_letters: 1}
    assert "compact" in str(configs)
    assert str(7 * 24 * 3600 * 1000) in str(configs)


def test_the_lag_of_a_topic_that_does_not_exist_is_unknown(settings: Kafka) -> None:
    assert group_lag(settings, f"{settings.prefix}.nothing", "g") is None


def test_a_broker_is_described(settings: Kafka) -> None:
    assert describe_broker(settings).startswith("Kafka 4.")


def test_a_broker_that_is_not_there_is_said_with_address_and_remedy() -> None:
    with pytest.raises(BusUnreachable, match=r"Kafka at 127\.0\.0\.1:1 does not answer .* kafka\.bootstrap"):
        describe_broker(Kafka(bootstrap="127.0.0.1:1"))


def test_a_hung_broker_ends_a_commit_with_an_error_instead_of_waiting_for_ever(
    unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixtail.bus.producer.COMMIT_TIMEOUT_S", 1.5)
    with KafkaServer() as server:
        settings = Kafka(bootstrap=server.bootstrap, prefix=unique)
        topics = Topics(unique, SOURCE)
        ensure_topics(settings, topics)
        producer = TransactionalProducer(settings, unique)
        producer.open()
        producer.commit({topics.changes: [change(1, 1)]})
        server.pause()
        try:
            with pytest.raises(BusUnreachable, match="did not finish"):
                producer.commit({topics.changes: [change(1, 2)]})
            producer.close()
        finally:
            server.resume()
