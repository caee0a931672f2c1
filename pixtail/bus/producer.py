"""Exactly-once writing: everything of one call in one Kafka transaction."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

import structlog
from kafka import KafkaAdminClient, KafkaProducer, __version__
from kafka import errors as kafka_errors
from kafka.admin import TransactionState

from pixtail.bus.batches import Outgoing
from pixtail.bus.client import admin_client, client_options, discard, fenced, reach, translated
from pixtail.bus.sender import Sender, SingleRecords, WholeBatches, identity, missing_parts
from pixtail.bus.topics import message_limits, partition_of
from pixtail.core.changes import Record
from pixtail.core.errors import BusUnreachable, SettingError
from pixtail.core.settings import Kafka

OPEN_TIMEOUT_S = 30.0
COMMIT_TIMEOUT_S = 35.0
TRANSACTION_TIMEOUT_S = 60.0
DELIVERY_TIMEOUT_S = 600.0  # never reached: a batch is given up by COMMIT_TIMEOUT_S, with its producer
# Right after a commit the broker may answer CONCURRENT_TRANSACTIONS, and the sender sleeps that long: it makes the tail of small
# transactions. It also is the sender's pace while a broker hangs: 1 ms costs some 5 % of a core then.
RETRY_BACKOFF_MS = 1
SETTLE_S = 3.0  # how long to wait for the broker to be through with a successor
MAX_REQUEST_BYTES = 16 << 20

_SETTLED = {TransactionState.EMPTY, TransactionState.COMPLETE_COMMIT, TransactionState.COMPLETE_ABORT}

T = TypeVar("T")

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Topic:
    partitions: int
    limit: int  # max.message.bytes


class TransactionalProducer:
    """Writes batches of records atomically, and fences older producers of the same transactional id (KIP-98).

    For one thread. After any exception the transaction may or may not be committed, even after `Fenced`: the broker's answer
    may be what was lost. Close this producer, open a new one, which ends the old one's transaction, and read the saved state: it stands
    in the same transaction as the records and so tells whether they went through.
    """

    def __init__(self, kafka: Kafka, transactional_id: str) -> None:
        self._kafka = kafka
        self._transactional_id = transactional_id
        self._producer: KafkaProducer | None = None
        self._sender: Sender | None = None
        self._topics: dict[str, _Topic] = {}
        self._under_way = False
        self._deadline = 0.0

    def open(self) -> None:
        """Connects and fences: from here on no older producer of this id can commit.

        Raises `BusUnreachable` within some 40 seconds, `SettingError`.
        """
        reach(self._kafka)
        with translated(self._kafka):
            self._producer = KafkaProducer(
                **client_options(self._kafka),
                transactional_id=self._transactional_id,
                transaction_timeout_ms=int(TRANSACTION_TIMEOUT_S * 1000),
                max_block_ms=int(OPEN_TIMEOUT_S * 1000),
                delivery_timeout_ms=int(DELIVERY_TIMEOUT_S * 1000),
                max_request_size=MAX_REQUEST_BYTES,
                acks="all",
                compression_type="lz4",
                batch_size=1 << 18,
                linger_ms=0,
                retry_backoff_ms=RETRY_BACKOFF_MS,
                metrics_enabled=False,
            )
            _keep_requests(self._producer)
            self._producer.init_transactions()
        self._sender = _sender(self._producer, self._kafka)

    def partitions(self, topic: str) -> int:
        """The number of partitions of a topic that exists. Raises `BusUnreachable`, `SettingError`."""
        return self._topic(topic).partitions

    def write(self, batches: Mapping[tuple[str, int], Sequence[Outgoing]]) -> None:
        """`begin` and `finish`."""
        self.begin(batches)
        self.finish()

    def begin(self, batches: Mapping[tuple[str, int], Sequence[Outgoing]]) -> None:
        """Begins to write the records, by topic and partition, in one transaction; `finish` must come before the next `begin`.

        The records are on their way then, and this thread has time for something else. Holds their compressed bytes; waits while those
        are many. Raises as `finish`.
        """
        waiting = {place: records for place, records in batches.items() if records}
        if not waiting:
            return
        with self._judged():
            sender = self._open(self._sender)
            limits = {place: self._limit(*place) for place in waiting}  # before the transaction: its time runs
            self._deadline = time.monotonic() + COMMIT_TIMEOUT_S
            sender.begin()
            self._under_way = True
            for (topic, partition), records in waiting.items():
                sender.send(topic, partition, records, limits[topic, partition], self._deadline)
            sender.advance()

    def advance(self) -> bool:
        """Does what can be done without waiting; True: nothing is under way any more. Raises as `finish`."""
        with self._judged():
            self._under_way = self._under_way and not self._open(self._sender).advance()
        return not self._under_way

    def finish(self) -> None:
        """Returns when what was begun is committed. Nothing was: does nothing.

        Blocks until `COMMIT_TIMEOUT_S` after the beginning, and some 10 s more to ask the broker when it is in doubt who may write.

        Raises:
            Fenced: another producer has taken over.
            SettingError: a record is larger than its topic takes, or the brokers forbid something.
            BusUnreachable: anything else.
        """
        if self._under_way:
            with self._judged():
                self._open(self._sender).commit(self._deadline)
            self._under_way = False

    @contextmanager
    def _judged(self) -> Iterator[None]:
        try:
            with translated(self._kafka):
                yield
        except BusUnreachable as error:
            if self._has_successor():
                raise fenced() from error
            raise

    def _limit(self, topic: str, partition: int) -> int:
        found = self._topic(topic)
        if partition not in range(found.partitions):
            raise ValueError(f"the topic {topic} has no partition {partition}")
        return found.limit

    def _topic(self, name: str) -> _Topic:
        """The sender waits for ever for a topic that it has not looked up."""
        if name not in self._topics:
            with translated(self._kafka):
                partitions = len(self._open(self._producer).partitions_for(name) or ())
            self._topics[name] = _Topic(partitions, message_limits(self._kafka, [name])[name])
        return self._topics[name]

    def _has_successor(self) -> bool:
        """What the broker says of it, for the error does not always: a commit that comes while the broker is just aborting our transaction
        for a successor fails with UNKNOWN_SERVER_ERROR, since a transition is pending (TransactionMetadata.prepareTransitionTo there).
        """
        ours = identity(self._open(self._producer))
        with suppress(BusUnreachable, SettingError), admin_client(self._kafka) as admin:
            return ours is not None and _settled(admin, self._transactional_id) != ours
        return False

    def commit(self, records: Mapping[str, Sequence[Record]]) -> None:
        """As `write`, for a handful of records by topic; one without a partition goes where its key belongs."""
        batches: dict[tuple[str, int], list[Outgoing]] = defaultdict(list)
        for topic, batch in records.items():
            for record in batch:
                partition = record.partition
                if partition is None:
                    partition = partition_of(record.key, self.partitions(topic))
                batches[topic, partition].append((record.key, record.value, dict(record.headers).get("seq")))
        self.write(batches)

    @staticmethod
    def _open(part: T | None) -> T:
        if part is None:
            raise BusUnreachable("the producer is not open")
        return part

    def close(self) -> None:
        """Gives the connection back; what was not committed is lost, and the broker aborts it."""
        producer, self._producer, self._sender, self._under_way = self._producer, None, None, False
        self._topics = {}  # the next producer must look them up itself, or it would wait for them for ever
        discard(producer)


def _sender(producer: KafkaProducer, kafka: Kafka) -> Sender:
    if missing := missing_parts(producer):
        _log.warning(
            "records are sent one by one, slowly: this kafka-python is not known", version=__version__, missing=missing
        )
        return SingleRecords(producer, kafka)
    return WholeBatches(producer, kafka)


def _settled(admin: KafkaAdminClient, transactional_id: str) -> tuple[int, int]:
    """The producer id and epoch that the broker goes by, once it is not about to change them, or after `SETTLE_S`."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        found = admin.describe_transactions([transactional_id])[transactional_id]
        if found.state in _SETTLED or time.monotonic() > deadline:
            return found.producer_id, found.producer_epoch
        time.sleep(SETTLE_S / 60)


def _keep_requests(producer: KafkaProducer) -> None:
    """kafka-python 3.0.12 forgets a transactional request when the coordinator that it knows cannot be reached: await_ready raises then,
    and only after a False is the request put back (Sender._maybe_send_pending_request). The sender would spin until the commit times out,
    however soon the broker is back (measured: 30 s instead of 1 s)."""
    client = producer._sender._client
    await_ready = client.await_ready

    def patiently(*arguments: object, **options: object) -> bool:
        try:
            return bool(await_ready(*arguments, **options))
        except kafka_errors.KafkaError:
            return False

    client.await_ready = patiently
