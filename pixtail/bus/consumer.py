"""Reading the changes as a member of a consumer group."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import structlog
from kafka import AsyncConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors
from kafka.structs import OffsetAndMetadata

from pixtail.bus.client import client_options, reach, translated
from pixtail.bus.joining import finish_joining
from pixtail.core.changes import Entry, decode, is_read
from pixtail.core.errors import BusUnreachable, PixtailError
from pixtail.core.settings import Kafka

# Long enough for a batch of slow pictures; a frozen worker is noticed by its session long before.
MAX_POLL_INTERVAL_S = 600.0
SESSION_TIMEOUT_S = 15.0
COMMIT_TIMEOUT_S = 15.0
LEAVE_TIMEOUT_S = 3.0
# How long a poll goes on while it finds nothing but the other lane's records.
SKIP_S = 0.2
# How often it is saved how far this member is: each time costs the broker as much as a record.
SAVE_EVERY_S = 0.5

Lane: TypeAlias = Literal["live", "backlog"]
"""`live`: what has just been changed; `backlog`: rows of a snapshot or a back-fill."""
LANES: tuple[Lane, ...] = get_args(Lane)

_MOVED_ON = (
    kafka_errors.CommitFailedError,
    kafka_errors.RebalanceInProgressError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.UnknownMemberIdError,
)


@dataclass(frozen=True, slots=True)
class Consumed:
    """A record as it was read: what it says (`entry`), its bytes for the dead letters, and where it stood."""

    entry: Entry
    key: bytes | None
    value: bytes | None
    partition: int
    offset: int


class ChangeConsumer:
    """Committed records of one topic, shared out among the group's members. For one thread.

    `lane`: reads over the records of the other one; None: takes them all.
    """

    def __init__(self, kafka: Kafka, topic: str, group: str, lane: Lane | None = None) -> None:
        self._kafka = kafka
        self._topic = topic
        self._group = group
        self._lane = lane
        self._consumer: KafkaConsumer | None = None
        self._polled: dict[int, int] = {}  # partition → offset after the last record returned
        self._done: dict[int, int] = {}  # partition → offset after the last record finished
        self._saved: dict[int, int] = {}  # partition → offset committed here
        self._saved_at = 0.0

    def open(self) -> None:
        """Connects and joins. A new group starts at the topic's beginning. Raises `BusUnreachable`, `SettingError`."""
        reach(self._kafka)
        self._polled, self._done, self._saved = {}, {}, {}
        with translated(self._kafka):
            self._consumer = KafkaConsumer(
                **client_options(self._kafka),
                group_id=self._group,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                isolation_level="read_committed",
                max_poll_interval_ms=int(MAX_POLL_INTERVAL_S * 1000),
                session_timeout_ms=int(SESSION_TIMEOUT_S * 1000),
                heartbeat_interval_ms=3000,
                fetch_max_wait_ms=100,
                metadata_max_age_ms=30_000,
            )
            self._consumer.subscribe([self._topic], listener=_Before(self._save_before_partitions_move))
            # kafka-python assigns by the metadata that it had when it began to join: with none, everything would be shared out twice.
            self._consumer.topics()

    def poll(self, timeout_s: float, max_records: int) -> list[Consumed]:
        """What has come, in order per partition; empty after `timeout_s`, or when only the other lane's records come for a while. Never
        skips its own: an unreadable record is `Malformed`, and live."""
        records = self._records(timeout_s, max_records)
        if not records:
            return []
        self._polled.update({record.partition: record.offset + 1 for record in records})
        partitions = len(self._client().partitions_for_topic(self._topic))
        return [_consumed(record, partitions) for record in records]

    def _records(self, timeout_s: float, max_records: int) -> list[Any]:
        begun = time.monotonic()
        while True:
            finish_joining(self._client())
            self._save_in_time()
            with translated(self._kafka):
                batches = self._client().poll(timeout_ms=int(timeout_s * 1000), max_records=max_records)
            mine = [record for batch in batches.values() for record in batch if self._takes(record.value)]
            if mine:
                return mine
            if not batches or time.monotonic() - begun > SKIP_S:
                return []

    def _takes(self, value: bytes | None) -> bool:
        return self._lane is None or is_read(value) == (self._lane == "backlog")

    def finish(self, next_offsets: Mapping[int, int]) -> None:
        """Notes, per partition, the offset of the next record to work on: last finished + 1.

        A poll saves it, within `SAVE_EVERY_S` or before the group is shared out anew, and so does `close`. After a crash it comes again.
        """
        self._done.update(next_offsets)

    def commit(self, next_offsets: Mapping[int, int]) -> bool:
        """As `finish`, and saves it at once.

        False means that the group has moved on without this member: whatever it did for its former partitions, somebody else does again.
        """
        self.finish(next_offsets)
        return self._save(COMMIT_TIMEOUT_S)

    def _save_in_time(self) -> None:
        if time.monotonic() - self._saved_at < SAVE_EVERY_S or self._client()._coordinator._join_task is not None:
            return
        self._pass_on()
        self._save(COMMIT_TIMEOUT_S)

    def _pass_on(self) -> None:
        """Past what is not ours: the other lane's records, and the transaction markers behind the last finished one. Else what is idle
        shows a lag for ever, be it a group or one partition beside busy ones."""
        places = self._client().assignment()
        idle = [tp for tp in places if self._done.get(tp.partition, -1) >= self._polled.get(tp.partition, -1)]
        positions = {tp.partition: self._client().position(tp, timeout_ms=0) for tp in idle}
        self._done.update({p: at for p, at in positions.items() if at is not None and at > self._done.get(p, -1)})

    def _save(self, timeout_s: float) -> bool:
        self._saved_at = time.monotonic()
        unsaved = self._unsaved()
        with translated(self._kafka):
            try:
                if unsaved:
                    self._client().commit(self._as_kafka_has_them(unsaved), timeout_ms=int(timeout_s * 1000))
            except _MOVED_ON:
                structlog.get_logger().info("partitions were given to another worker", partitions=sorted(unsaved))
                self._saved = {}
                return False
        self._saved.update(unsaved)
        return True

    async def _save_before_partitions_move(self) -> None:
        """In kafka-python's thread, which `poll` waits for meanwhile. What cannot be saved is done again."""
        if self._consumer is None:
            return  # `close` has saved it
        unsaved = self._unsaved()
        offsets, timeout_ms = self._as_kafka_has_them(unsaved), int(COMMIT_TIMEOUT_S * 1000)
        with suppress(kafka_errors.KafkaError):
            await self._client()._coordinator._commit_offsets_sync_async(offsets, timeout_ms=timeout_ms)
            self._saved.update(unsaved)

    def _unsaved(self) -> dict[int, int]:
        """Of the partitions that it still has: another member may be further in the others."""
        assigned = {tp.partition for tp in self._client().assignment()}
        return {p: at for p, at in self._done.items() if p in assigned and self._saved.get(p) != at}

    def _as_kafka_has_them(self, offsets: Mapping[int, int]) -> dict[TopicPartition, OffsetAndMetadata]:
        return {TopicPartition(self._topic, p): OffsetAndMetadata(at, "", -1) for p, at in offsets.items()}

    def lag(self) -> dict[int, int]:
        """Per assigned partition, the records behind the broker's last word, as far as this member has fetched."""
        consumer = self._client()
        with translated(self._kafka):
            return {
                tp.partition: max(0, (consumer.highwater(tp) or 0) - (consumer.position(tp, timeout_ms=0) or 0))
                for tp in consumer.assignment()
            }

    def ends(self) -> dict[int, int]:
        """Where each partition of the topic ends now: the offset behind its last committed record."""
        with translated(self._kafka):
            return {tp.partition: end for tp, end in self._client().end_offsets(self._partitions()).items()}

    def committed(self) -> dict[int, int]:
        """The group's next offset in each partition of the topic, whoever has it."""
        with translated(self._kafka):
            timeout_ms = int(COMMIT_TIMEOUT_S * 1000)
            found = {tp: self._client().committed(tp, timeout_ms=timeout_ms) for tp in self._partitions()}
        return {tp.partition: offset for tp, offset in found.items() if offset is not None}

    def _partitions(self) -> list[TopicPartition]:
        numbers = self._client().partitions_for_topic(self._topic) or ()
        return [TopicPartition(self._topic, number) for number in sorted(numbers)]

    def _client(self) -> Any:
        if self._consumer is None:
            raise BusUnreachable("the consumer is not open")
        return self._consumer

    def close(self) -> None:
        """Saves what is finished, and leaves the group, so that others take the partitions over at once. Never raises for a broker that is
        away: that work is done again."""
        consumer = self._consumer
        if consumer is None:
            return
        try:
            with suppress(PixtailError):
                self._save(LEAVE_TIMEOUT_S)
        finally:
            self._consumer = None
            consumer.close(autocommit=False, timeout_ms=int(LEAVE_TIMEOUT_S * 1000))


class _Before(AsyncConsumerRebalanceListener):  # type: ignore[misc]  # it has no types
    """Does something before the group's partitions are shared out anew."""

    def __init__(self, do: Callable[[], Awaitable[None]]) -> None:
        self._do = do

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        if revoked:
            await self._do()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        pass


def _consumed(record: Any, partitions: int) -> Consumed:
    entry = decode(record.key, record.value, record.headers or (), record.offset, partitions)
    return Consumed(entry, record.key, record.value, record.partition, record.offset)
