"""Kafka through our adapter: transactions, fencing, the state, the groups, the dead letters. Against a real broker."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from kafka.admin import ConfigResource, ConfigResourceType, MemberToRemove
from kafka.errors import KafkaError
from kafka.producer.record_accumulator import RecordAccumulator
from kafka.record.memory_records import MemoryRecordsBuilder

from pixtail.bus.batches import Outgoing
from pixtail.bus.client import admin_client
from pixtail.bus.consumer import LANES, ChangeConsumer, Consumed
from pixtail.bus.dead_letters import DeadLetter, DeadLetters
from pixtail.bus.inspection import describe_broker, group_lag, lane_group, worker_lag
from pixtail.bus.producer import TransactionalProducer
from pixtail.bus.reading import reading
from pixtail.bus.sender import missing_parts
from pixtail.bus.state import StateStore, state_record
from pixtail.bus.topics import Topics, ensure_topics
from pixtail.core.changes import Change, Malformed, Op, Record, Source, Tombstone, encode
from pixtail.core.errors import BusUnreachable, Fenced, Reason, SettingError
from pixtail.core.settings import Kafka
from pixtail.servers.kafka import KafkaServer
from tests.integration.listener_kit import wait_for

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


@pytest.fixture(params=["whole batches", "single records"])
def writing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test runs twice: as usual, and as with a kafka-python that is not known."""
    if request.param == "single records":
        monkeypatch.setattr("pixtail.bus.producer.missing_parts", lambda _producer: ["pretended"])
    return str(request.param)


def opened(settings: Kafka) -> TransactionalProducer:
    producer = TransactionalProducer(settings, f"{settings.prefix}.listen")
    producer.open()
    return producer


def stored(settings: Kafka, topic: str) -> dict[int, list[Outgoing]]:
    """What is committed, by partition, in the order of the partition."""
    with reading(settings, topic) as reader:
        records = reader.read()
    found: dict[int, list[Outgoing]] = {}
    for r in sorted(records, key=lambda r: r.offset):
        found.setdefault(r.partition, []).append((r.key, r.value, dict(r.headers).get("seq")))
    return found


def limit(settings: Kafka, topic: str, max_bytes: int) -> None:
    with admin_client(settings) as admin:
        wanted = {"max.message.bytes": str(max_bytes)}
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, wanted)])


def noise(size: int) -> bytes:
    """What does not compress."""
    return random.Random(size).randbytes(size)


def write_for_ever(producer: TransactionalProducer, batches: dict[tuple[str, int], list[Outgoing]]) -> None:
    while True:
        producer.write(batches)


@pytest.mark.usefixtures("writing")
def test_what_is_written_is_what_is_read(settings: Kafka, topics: Topics) -> None:
    batches: dict[tuple[str, int], list[Outgoing]] = {
        (topics.changes, 0): [(b"a", b"1", b"1"), (b"b", None, b"2"), (b"c", b"", None), (b"a", b"x" * 9000, b"3")],
        (topics.changes, 1): [],
        (topics.changes, 2): [(b"k%d" % n, b"v%d" % n, b"%d" % n) for n in range(500)],
    }
    with closing(opened(settings)) as producer:
        producer.write(batches)
        producer.write({})
        producer.write({(topics.changes, 1): []})
    assert stored(settings, topics.changes) == {0: batches[topics.changes, 0], 2: batches[topics.changes, 2]}


@pytest.mark.usefixtures("writing")
def test_what_is_begun_is_committed_by_finish_at_the_latest(settings: Kafka, topics: Topics) -> None:
    records: list[Outgoing] = [(b"%d" % n, b"v", b"%d" % n) for n in range(3)]
    with closing(opened(settings)) as producer:
        assert producer.advance()
        for record in records:
            producer.begin({(topics.changes, 0): [record]})
            producer.finish()
            producer.finish()
            assert producer.advance()
    assert stored(settings, topics.changes) == {0: records}


def test_what_is_begun_is_committed_without_waiting(settings: Kafka, topics: Topics) -> None:
    records: list[Outgoing] = [(b"%d" % n, b"v", b"%d" % n) for n in range(3)]
    with closing(opened(settings)) as producer:
        for record in records:
            producer.begin({(topics.changes, 0): [record]})
            wait_for(producer.advance, "a commit")
    assert stored(settings, topics.changes) == {0: records}


def test_an_error_of_what_is_under_way_comes_when_it_is_looked_at(settings: Kafka, topics: Topics) -> None:
    with closing(opened(settings)) as producer:
        producer.write({(topics.changes, 0): [(b"k", b"v", b"1")]})
        limit(settings, topics.changes, 10_000)
        producer.begin({(topics.changes, 0): [(b"k", noise(11_000), b"2")]})
        with pytest.raises(SettingError, match="TooLarge"):
            wait_for(producer.advance, "a commit")


@pytest.mark.usefixtures("writing")
def test_batches_stay_below_what_the_topic_takes(settings: Kafka, topics: Topics) -> None:
    limit(settings, topics.changes, 10_000)
    records: list[Outgoing] = [(b"%d" % n, noise(1000 + n), b"%d" % n) for n in range(50)]
    records += [(b"full", noise(9500), b"51"), (b"compressed", b"x" * 50_000, b"52")]
    with closing(opened(settings)) as producer:
        producer.write({(topics.changes, 1): records})
    assert stored(settings, topics.changes) == {1: records}


@pytest.mark.usefixtures("writing")
def test_a_record_above_the_limit_is_named_without_its_content(settings: Kafka, topics: Topics) -> None:
    limit(settings, topics.changes, 10_000)
    with closing(opened(settings)) as producer, pytest.raises(SettingError) as raised:
        producer.write({(topics.changes, 0): [(b"secret", b"secret" + noise(12_000), b"1")]})
    assert re.search(rf"takes 120\d\d bytes.*{topics.changes} takes 10000.*max\.message\.bytes", str(raised.value))
    assert "secret" not in str(raised.value)
    assert stored(settings, topics.changes) == {}


def test_a_limit_lowered_behind_the_producers_back_is_a_wrong_setting(settings: Kafka, topics: Topics) -> None:
    with closing(opened(settings)) as producer:
        producer.write({(topics.changes, 0): [(b"k", noise(20_000), b"1")]})
        limit(settings, topics.changes, 10_000)
        with pytest.raises(SettingError, match="TooLarge"):
            write_for_ever(producer, {(topics.changes, 0): [(b"k", noise(9000), b"2"), (b"k", noise(9001), b"3")]})


def test_a_partition_that_is_not_there_is_refused_at_once(settings: Kafka, topics: Topics) -> None:
    with closing(opened(settings)) as producer, pytest.raises(ValueError, match="no partition 3"):
        producer.write({(topics.changes, 3): [(b"k", b"v", b"1")]})


def test_a_transaction_larger_than_what_may_be_under_way_goes_through(
    settings: Kafka, topics: Topics, writing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixtail.bus.sender.MAX_IN_FLIGHT_BYTES", 300_000)
    monkeypatch.setattr("pixtail.bus.sender.MAX_BATCH_BYTES", 100_000)
    records: list[Outgoing] = [(b"%d" % n, noise(5000), b"%d" % n) for n in range(400)]
    with closing(opened(settings)) as producer:
        producer.write({(topics.changes, n): records for n in range(3)})
    assert stored(settings, topics.changes) == dict.fromkeys(range(3), records), writing


def test_the_installed_kafka_python_is_known_and_another_one_would_not_be(
    producer: TransactionalProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert missing_parts(producer._producer) == []
    monkeypatch.setattr("pixtail.bus.sender.__version__", "3.1.0")
    monkeypatch.setattr(RecordAccumulator, "_tp_lock", lambda self, topic, partition: None)
    monkeypatch.setattr(MemoryRecordsBuilder, "set_producer_state", lambda self, producer_id: None)
    monkeypatch.delattr("kafka.producer.transaction_manager.TransactionManager.begin_commit")
    assert missing_parts(producer._producer) == [
        "_transaction_manager.begin_commit",
        "_accumulator._tp_lock",
        "version 3.0.x",
        "MemoryRecordsBuilder",
    ]


STEPS = ["begin", "send", "commit", "end"]


@pytest.mark.usefixtures("writing")
@pytest.mark.parametrize("step", STEPS)
def test_a_successor_at_any_step_fences(step: str, settings: Kafka, topics: Topics) -> None:
    first, second = opened(settings), TransactionalProducer(settings, f"{settings.prefix}.listen")
    with closing(first), closing(second):
        first.write({(topics.changes, 0): [(b"k", b"before", b"1")]})
        take_over_before(step, first, second)
        with pytest.raises(Fenced, match="another listener"):
            first.write({(topics.changes, n): [(b"k", b"of a zombie", b"2")] for n in range(3)})
        second.write({(topics.changes, 0): [(b"k", b"after", b"3")]})
    assert stored(settings, topics.changes) == {0: [(b"k", b"before", b"1"), (b"k", b"after", b"3")]}


def take_over_before(step: str, first: TransactionalProducer, second: TransactionalProducer) -> None:
    """Opens `second` when `first` comes to the step; `end`: all is acknowledged, and only the commit is to be asked for."""
    sender: Any = first._sender
    target, name = (sender, step) if step != "end" else (sender, "_finish")
    action = getattr(target, name)

    def disturbed(*arguments: Any) -> None:
        setattr(target, name, action)
        if step != "end":
            second.open()
            action(*arguments)
        else:
            action(*arguments)
            second.open()

    setattr(target, name, disturbed)


@pytest.mark.parametrize(("taken_over", "error"), [(True, Fenced), (False, BusUnreachable)])
def test_in_doubt_the_broker_is_asked_who_may_write(
    taken_over: bool, error: type[Exception], settings: Kafka, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = opened(settings), TransactionalProducer(settings, f"{settings.prefix}.listen")

    def fail(_deadline: float) -> None:
        if taken_over:
            second.open()
        raise KafkaError("Unhandled error in EndTxnResponse: UnknownError")

    with closing(first), closing(second):
        monkeypatch.setattr(first._sender, "commit", fail)
        with pytest.raises(error):
            first.write({(topics.changes, 0): [(b"k", b"v", b"1")]})


def test_a_race_with_a_successor_never_looks_like_an_outage(settings: Kafka, topics: Topics) -> None:
    """A commit that meets the broker while it is fencing its producer fails there with UNKNOWN_SERVER_ERROR."""
    holders = [opened(settings)]
    batches: dict[tuple[str, int], list[Outgoing]] = {
        (topics.changes, n): [(b"k", b"v" * 500, b"1")] * 50 for n in range(3)
    }
    delays = random.Random(7)
    for _ in range(12):
        holders[-1].write(batches)
        successor = TransactionalProducer(settings, f"{settings.prefix}.listen")
        opening = threading.Timer(delays.uniform(0.0, 0.04), successor.open)
        opening.start()
        with pytest.raises(Fenced):
            write_for_ever(holders[-1], batches)
        opening.join()
        holders.append(successor)
    for holder in holders:
        holder.close()
    found = [len(records) for records in stored(settings, topics.changes).values()]
    assert len(found) == 3
    assert len(set(found)) == 1, "a transaction is there in parts"
    assert found[0] % 50 == 0


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


SHARED_OUT_S = (
    60.0  # a group may share out its partitions anew when the session of a member that never came to be has ended
)


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

    ends = consumer.ends()
    assert len(ends) == 3, "of all partitions"
    assert consumer.committed() != ends
    assert until(caught_up), f"transaction markers count as lag: {group_lag(settings, topics.changes, group)}"
    assert sum(consumer.lag().values()) == 0
    assert consumer.committed() == ends
    consumer.close()
    consumer.open()
    producer.commit({topics.changes: [change(7, 1000)]})
    assert [c.entry.seq for c in drain(consumer, 1)] == [1000]


def next_offsets(found: list[Consumed]) -> dict[int, int]:
    return {c.partition: c.offset + 1 for c in found}


def test_what_is_finished_is_saved_by_a_later_poll_and_by_close(
    settings: Kafka,
    topics: Topics,
    producer: TransactionalProducer,
    consumer: ChangeConsumer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    producer.commit({topics.changes: [change(key, key + 1) for key in range(30)]})
    consumer.finish(next_offsets(drain(consumer, 30)))
    assert until(lambda: consumer.poll(0.1, 10) == [] and consumer.committed() == consumer.ends())

    monkeypatch.setattr("pixtail.bus.consumer.SAVE_EVERY_S", 1e9)
    producer.commit({topics.changes: [change(key, key + 100) for key in range(30)]})
    consumer.finish(next_offsets(drain(consumer, 30)))
    assert consumer.poll(0.1, 10) == []
    assert consumer.committed() != consumer.ends()
    consumer.close()
    consumer.open()
    producer.commit({topics.changes: [change(7, 1000)]})
    assert [c.entry.seq for c in drain(consumer, 1)] == [1000]


def test_what_is_finished_is_saved_before_the_group_is_shared_out_anew(
    settings: Kafka,
    topics: Topics,
    producer: TransactionalProducer,
    consumer: ChangeConsumer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pixtail.bus.consumer.SAVE_EVERY_S", 1e9)
    producer.commit({topics.changes: [change(key, key + 1) for key in range(30)]})
    consumer.finish(next_offsets(drain(consumer, 30)))
    again: list[Consumed] = []
    with closing(ChangeConsumer(settings, topics.changes, lane_group(topics, "live"))) as other:
        other.open()

        def shared() -> bool:
            again.extend(consumer.poll(0.05, 10) + other.poll(0.05, 10))
            return {len(consumer.lag()), len(other.lag())} == {1, 2}

        assert until(shared, SHARED_OUT_S)
        producer.commit({topics.changes: [change(key, key + 100) for key in range(30)]})
        assert until(lambda: shared() and len(again) >= 30)
    assert {c.entry.seq for c in again} == set(range(100, 130)), "and nothing a second time"


def test_what_is_not_finished_is_never_saved_however_often_the_group_is_shared_out_anew(
    settings: Kafka,
    topics: Topics,
    producer: TransactionalProducer,
    consumer: ChangeConsumer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pixtail.bus.consumer.SAVE_EVERY_S", 0.0)
    producer.commit({topics.changes: [change(key, key + 1) for key in range(30)]})
    consumer.finish({0: next_offsets(drain(consumer, 30))[0]})
    for _ in range(2):
        with closing(ChangeConsumer(settings, topics.changes, lane_group(topics, "live"))) as other:
            other.open()

            def shared(other: ChangeConsumer = other) -> bool:
                consumer.poll(0, 10)
                other.poll(0, 10)
                return {len(consumer.lag()), len(other.lag())} == {1, 2}

            assert until(shared, SHARED_OUT_S)
        assert until(lambda: consumer.poll(0, 10) == [] and len(consumer.lag()) == 3, SHARED_OUT_S)
        assert {p for p, at in consumer.committed().items() if at} == {0}


def test_a_join_that_is_answered_between_two_polls_is_not_begun_anew(
    settings: Kafka, topics: Topics, consumer: ChangeConsumer
) -> None:
    """As with workers that embed for seconds and poll for no time at all."""
    with closing(ChangeConsumer(settings, topics.changes, lane_group(topics, "live"))) as other:
        other.open()

        def shared() -> bool:
            for member in (consumer, other):
                member.poll(0, 10)
                until(lambda member=member: answered(member), 1.0)  # type: ignore[misc]
            return {len(consumer.lag()), len(other.lag())} == {1, 2}

        assert until(shared, SHARED_OUT_S)
        assert max(generation(consumer), generation(other)) <= 3, "each alone, then both"


def answered(member: ChangeConsumer) -> bool:
    join = member._client()._coordinator._join_task
    return join is None or join.succeeded() or join.failed()


def generation(member: ChangeConsumer) -> int:
    return int(member._client()._coordinator._generation.generation_id)


def test_each_lane_reads_over_the_others_records(
    settings: Kafka, topics: Topics, producer: TransactionalProducer
) -> None:
    ops = [Op.READ, Op.CREATE, Op.READ, Op.UPDATE, Op.DELETE]
    records = [encode(changed(ops[number % 5], number)) for number in range(500)]
    records += [encode(Tombstone({"id": 3}, 1000)), Record(b'{"id":4}', b"nonsense")]
    producer.commit({topics.changes: records})
    found: dict[str, set[int]] = {}
    for lane in LANES:
        with closing(ChangeConsumer(settings, topics.changes, lane_group(topics, lane), lane)) as consumer:
            consumer.open()
            mine = drain(consumer, 200 if lane == "backlog" else 302)
            found[lane] = {c.entry.seq for c in mine if not isinstance(c.entry, Malformed)}
            ours = {p: max(c.offset for c in mine if c.partition == p) + 1 for p in {c.partition for c in mine}}
            assert consumer.commit(ours)
            assert until(
                lambda: consumer.poll(0.1, 10) == [] and consumer.committed() == consumer.ends(), SHARED_OUT_S
            ), lane
    assert found["backlog"] == {number + 1 for number in range(500) if number % 5 in (0, 2)}
    assert found["live"] == {number + 1 for number in range(500) if number % 5 not in (0, 2)} | {1000}
    assert worker_lag(settings, topics) == 0


def test_a_lane_without_records_of_its_own_is_not_behind(
    settings: Kafka, topics: Topics, producer: TransactionalProducer
) -> None:
    producer.commit({topics.changes: [change(key, key + 1) for key in range(30)]})
    with closing(ChangeConsumer(settings, topics.changes, lane_group(topics, "backlog"), "backlog")) as consumer:
        consumer.open()
        assert until(lambda: consumer.poll(0.1, 10) == [] and consumer.committed() == consumer.ends(), SHARED_OUT_S)


def test_what_is_read_over_beside_a_record_of_ones_own_is_passed_too(
    settings: Kafka, topics: Topics, producer: TransactionalProducer
) -> None:
    """Partition 0 has the other lane's records only, partition 1 one of ours, and both come in one poll."""
    other = [replace(change(key, key + 1), partition=0) for key in range(30)]
    producer.commit({topics.changes: [*other, replace(encode(changed(Op.READ, 50)), partition=1)]})
    with closing(ChangeConsumer(settings, topics.changes, lane_group(topics, "backlog"), "backlog")) as consumer:
        consumer.open()
        [mine] = drain(consumer, 1)
        consumer.commit({1: mine.offset + 1})
        assert until(lambda: consumer.poll(0.1, 10) == [] and consumer.committed() == consumer.ends(), SHARED_OUT_S), (
            consumer.committed()
        )


def test_a_partition_that_is_done_is_passed_while_another_one_is_busy(
    settings: Kafka, topics: Topics, producer: TransactionalProducer, consumer: ChangeConsumer
) -> None:
    """Its transaction markers, that is; what is in hand of the other one is not."""
    producer.commit({topics.changes: [replace(change(0, 1), partition=0), replace(change(1, 2), partition=1)]})
    assert consumer.commit({c.partition: c.offset + 1 for c in drain(consumer, 2)})
    before = consumer.committed()

    def passed() -> bool:
        producer.commit({topics.changes: [replace(change(1, 3), partition=1)]})
        in_hand = consumer.poll(1, 10)
        return bool(in_hand) and consumer.committed()[0] == consumer.ends()[0]

    assert until(passed), (consumer.committed(), consumer.ends())
    assert consumer.committed()[1] == before[1]


def changed(op: Op, number: int) -> Change:
    image = {"id": number, "json": {"op": "r", "ts_ms": 1, "text": '"op":"r"'}}
    return Change(op, {"id": number}, None, None if op is Op.DELETE else image, number + 1, Source("shop", "images"))


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


def test_a_member_that_polls_shortly_while_it_joins_anew_is_not_lost(
    settings: Kafka, topics: Topics, producer: TransactionalProducer, consumer: ChangeConsumer
) -> None:
    """The topic grows; the leader of the group is to share it out anew, and its poll ends before the group has answered."""
    producer.commit({topics.changes: [change(key, key + 1) for key in range(30)]})
    assert consumer.commit({c.partition: c.offset + 1 for c in drain(consumer, 30)})
    for partitions in range(4, 10):
        with admin_client(settings) as admin:
            admin.create_partitions({topics.changes: partitions})

        def grown(partitions: int = partitions) -> bool:
            consumer._client()._cluster.request_update()
            consumer.poll(0, 10)
            return len(consumer.lag()) == partitions

        assert until(grown), f"reads {sorted(consumer.lag())} of {partitions} partitions"
    assert consumer.commit(consumer.ends())


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
            with pytest.raises(BusUnreachable, match="did not finish a transaction in time"):
                producer.commit({topics.changes: [change(1, 2)]})
            producer.close()
        finally:
            server.resume()
