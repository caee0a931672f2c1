"""How records get into a transaction of kafka-python's producer: in whole batches, or one send() after the other.

Everything that leans on private names of kafka-python's producer stands here: those of 3.0.x. `missing_parts` says, when a producer is
opened, whether the installed one has them; the tests of both ways are the same.
"""

from __future__ import annotations

import inspect
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from operator import attrgetter
from typing import Protocol

from kafka import KafkaProducer, TopicPartition, __version__
from kafka.future import Future
from kafka.producer.producer_batch import ProducerBatch
from kafka.producer.transaction_manager import TransactionalRequestResult
from kafka.record.memory_records import MemoryRecordsBuilder

from pixtail.bus.batches import Outgoing, RecordBatch, record_batches
from pixtail.bus.client import within
from pixtail.core.errors import BusUnreachable, SettingError
from pixtail.core.settings import Kafka

MAX_BATCH_BYTES = 1 << 20  # what consumers fetch of a partition at once by default
MAX_IN_FLIGHT_BYTES = 16 << 20
_FRAME_BYTES = 256  # more than what is around key and value of a batch's only record

_KNOWN_VERSION = "3.0."
_NEEDED = {
    "_transaction_manager.begin_transaction": (),
    "_transaction_manager.maybe_add_partition_to_transaction": ("topic_partition",),
    "_transaction_manager.begin_commit": (),
    "_accumulator._appends_in_progress.increment": (),
    "_accumulator._appends_in_progress.decrement": (),
    "_accumulator._incomplete.add": ("batch",),
    "_accumulator._tp_lock": ("tp",),
    "_sender._can_split": ("batch", "error"),
    "_sender.wakeup": (),
}
# What a MemoryRecordsBuilder can do besides: for append() and for the metrics, which are off.
_UNASKED = {
    "append": ("self", "timestamp", "key", "value", "headers"),
    "skip": ("self", "offsets_to_skip"),
    "records": ("self",),
    "compression_rate": ("self",),
}


class Sender(Protocol):
    """One transaction: `begin`, `send` for each partition, then `advance` again and again, or `commit`. For one thread; of no use any
    more after an error.

    `limit` is the topic's max.message.bytes, deadlines are those of `time.monotonic`. Raises `BusUnreachable` when one has passed,
    `SettingError` for a record above the limit, and kafka-python's errors.
    """

    def begin(self) -> None: ...

    def send(self, topic: str, partition: int, records: Sequence[Outgoing], limit: int, deadline: float) -> None:
        """Hands the records over; waits while `MAX_IN_FLIGHT_BYTES` are under way."""

    def advance(self) -> bool:
        """Does what can be done without waiting: sends, then asks for the commit. True: all is committed."""

    def commit(self, deadline: float) -> None:
        """Returns when all is committed. Never asks for it before every record is acknowledged.

        kafka-python would: a batch that it gives up for a transient error does not keep its transaction from being committed.
        """


class WholeBatches:
    """About 15 times as fast as send(). The batches lie in the accumulator as if its append() had just filled them."""

    def __init__(self, producer: KafkaProducer, kafka: Kafka) -> None:
        self._kafka = kafka
        self._transactions = producer._transaction_manager
        self._accumulator = producer._accumulator
        self._sender = producer._sender
        # It would split a batch that the broker finds too large, and never tell its future. Ours are as small as they should be.
        self._sender._can_split = lambda batch, error: False
        self._under_way: deque[ProducerBatch] = deque()
        self._bytes_under_way = 0
        self._waiting = False  # for the sender to be told
        self._commit: TransactionalRequestResult | None = None  # once it is asked for

    def begin(self) -> None:
        self._commit = None
        self._transactions.begin_transaction()

    def send(self, topic: str, partition: int, records: Sequence[Outgoing], limit: int, deadline: float) -> None:
        place = TopicPartition(topic, partition)
        for batch in record_batches(records, min(limit, MAX_BATCH_BYTES), int(time.time() * 1000)):
            _require_fit(batch, topic, limit)
            self._hand_over(ProducerBatch(place, batch))
            if self._bytes_under_way > MAX_IN_FLIGHT_BYTES:
                self._finish(MAX_IN_FLIGHT_BYTES // 2, deadline)

    def advance(self) -> bool:
        self._set_off()
        while self._under_way and self._under_way[0].produce_future.is_done:
            self._take_answer()
        if self._under_way:
            return False
        return bool(self._asked().is_done and self._asked().wait())

    def commit(self, deadline: float) -> None:
        self._finish(0, deadline)
        if not self._asked().wait(_left_s(deadline) * 1000):
            raise too_slow(self._kafka)

    def _asked(self) -> TransactionalRequestResult:
        if self._commit is None:
            self._commit = self._transactions.begin_commit()
            self._sender.wakeup()
        return self._commit

    def _hand_over(self, batch: ProducerBatch) -> None:
        place = batch.topic_partition
        self._transactions.maybe_add_partition_to_transaction(place)
        self._accumulator._appends_in_progress.increment()
        try:
            with self._accumulator._tp_lock(place):
                self._accumulator._batches[place].append(batch)
                self._accumulator._incomplete.add(batch)
        finally:
            self._accumulator._appends_in_progress.decrement()
        self._under_way.append(batch)
        self._waiting = True
        self._bytes_under_way += batch.records.size_in_bytes()

    def _finish(self, remaining_bytes: int, deadline: float) -> None:
        """Waits for the oldest batches until no more than `remaining_bytes` are under way."""
        self._set_off()
        while self._bytes_under_way > remaining_bytes:
            if not self._under_way[0].produce_future.wait(_left_s(deadline)):
                raise too_slow(self._kafka)
            self._take_answer()

    def _set_off(self) -> None:
        """Not before all partitions are there: they are then added to the transaction in one request, and sent in another."""
        if self._waiting:
            self._waiting = False
            self._sender.wakeup()

    def _take_answer(self) -> None:
        """Of the oldest batch, which has one."""
        batch = self._under_way.popleft()
        _, _, error_of = batch.produce_future.value
        if error_of is not None:
            raise error_of(0)
        self._bytes_under_way -= batch.records.size_in_bytes()


class SingleRecords:
    """By kafka-python's public methods alone."""

    def __init__(self, producer: KafkaProducer, kafka: Kafka) -> None:
        self._producer = producer
        self._kafka = kafka
        self._under_way: deque[tuple[Future, int]] = deque()
        self._bytes_under_way = 0

    def begin(self) -> None:
        self._producer.begin_transaction()

    def send(self, topic: str, partition: int, records: Sequence[Outgoing], limit: int, deadline: float) -> None:
        for key, value, seq in records:
            size = len(key) + len(value or b"") + _FRAME_BYTES
            if size > limit:  # it may still fit when it is compressed
                _require_fit(next(record_batches(((key, value, seq),), limit, 0)), topic, limit)
            headers = [] if seq is None else [("seq", seq)]
            future = self._producer.send(topic, value, key, headers, partition)
            self._under_way.append((future, size))
            self._bytes_under_way += size
            if self._bytes_under_way > MAX_IN_FLIGHT_BYTES:
                self._finish(MAX_IN_FLIGHT_BYTES // 2, deadline)

    def advance(self) -> bool:
        return False

    def commit(self, deadline: float) -> None:
        self._finish(0, deadline)
        within(_left_s(deadline), self._commit, "a transaction", self._kafka)

    def _commit(self) -> bool:
        self._producer.commit_transaction()
        return True

    def _finish(self, remaining_bytes: int, deadline: float) -> None:
        while self._bytes_under_way > remaining_bytes:
            future, size = self._under_way.popleft()
            future.get(_left_s(deadline))
            self._bytes_under_way -= size


def missing_parts(producer: KafkaProducer) -> list[str]:
    """What `WholeBatches` needs and this kafka-python has not, or has otherwise; empty: it can be used."""
    missing = [name for name, parameters in _NEEDED.items() if _parameters_of(producer, name) != parameters]
    if not __version__.startswith(_KNOWN_VERSION):
        missing.append(f"version {_KNOWN_VERSION}x")
    if not isinstance(getattr(producer._accumulator, "_batches", None), defaultdict):
        missing.append("_accumulator._batches")
    if _methods(MemoryRecordsBuilder) != _methods(RecordBatch) | _UNASKED:
        missing.append("MemoryRecordsBuilder")
    return missing


def _parameters_of(producer: KafkaProducer, name: str) -> tuple[str, ...] | None:
    try:
        return tuple(inspect.signature(attrgetter(name)(producer)).parameters)
    except (AttributeError, TypeError, ValueError):
        return None


def _methods(of: type) -> dict[str, tuple[str, ...]]:
    """The public ones, with the names of their parameters."""
    found = inspect.getmembers(of, inspect.isfunction)
    return {name: tuple(inspect.signature(method).parameters) for name, method in found if name[0] != "_"}


def identity(producer: KafkaProducer) -> tuple[int, int] | None:
    """Its producer id and epoch, by which the broker knows it; None if this kafka-python keeps them elsewhere."""
    try:
        current = producer._transaction_manager.producer_id_and_epoch
        return current.producer_id, current.epoch
    except AttributeError:
        return None


def too_slow(kafka: Kafka) -> BusUnreachable:
    return BusUnreachable(
        f"Kafka at {kafka.bootstrap} did not finish a transaction in time", "Look at the broker's log"
    )


def _left_s(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0)


def _require_fit(batch: RecordBatch, topic: str, limit: int) -> None:
    """A batch that is too large holds a single record."""
    if batch.size_in_bytes() > limit:
        raise SettingError(
            f"a record takes {batch.size_in_bytes()} bytes, compressed, and the topic {topic} takes {limit}",
            f"Set max.message.bytes of {topic} to {2 * batch.size_in_bytes()} or more, and start again",
        )
