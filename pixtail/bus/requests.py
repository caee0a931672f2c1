"""The state topic as a mailbox: what commands ask of the listener stands there as one record per source, beside its state. The newest
counts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from pixtail.bus.client import client_options, discard, reach, translated
from pixtail.bus.reading import TopicReader, read_to
from pixtail.bus.state import parsed, state_of
from pixtail.bus.topics import Topics
from pixtail.core.changes import key_bytes
from pixtail.core.errors import BusUnreachable
from pixtail.core.settings import Kafka

WRITE_TIMEOUT_S = 15.0
RECENT_MS = 60_000
# The listener reads its own states past, hundreds a second at times: once in a while it must get all that have come.
POLL_RECORDS = 50_000
POLL_BYTES = 8 << 20


def _key(topics: Topics) -> bytes:
    return key_bytes({"request": topics.source})


class StateTopic:
    """The listener's side: its own last state, and what is asked of it. For one thread."""

    def __init__(self, kafka: Kafka, topics: Topics) -> None:
        self._kafka = kafka
        self._topics = topics
        self._place = TopicPartition(topics.state, 0)
        self._consumer: KafkaConsumer | None = None
        self._newest: dict[bytes, bytes | None] = {}  # by key

    def open(self) -> None:
        """Connects. Does not wait for the topic: kafka-python takes a tenth of a second to look it up, in a thread of its own.

        Raises `BusUnreachable`, `SettingError`.
        """
        reach(self._kafka)
        with translated(self._kafka):
            self._consumer = KafkaConsumer(
                **client_options(self._kafka),
                enable_auto_commit=False,
                isolation_level="read_committed",
                fetch_max_wait_ms=50,
                max_poll_records=POLL_RECORDS,
                max_partition_fetch_bytes=POLL_BYTES,
            )
            self._consumer.assign([self._place])
            self._consumer.seek_to_beginning(self._place)

    def saved(self) -> dict[str, Any] | None:
        """The last committed state, or None for a source that never started. Call it after fencing, never before.

        Raises `BusUnreachable`; `SettingError` if the record is not ours.
        """
        consumer = self._open()
        with translated(self._kafka):
            self._note(read_to(consumer, consumer.end_offsets([self._place]), self._kafka))
        return state_of(self._newest.get(key_bytes({"source": self._topics.source})), self._topics)

    def request(self) -> dict[str, Any] | None:
        """The newest one that has come since the last call, whoever wrote it; None without any. Does not wait. Raises `BusUnreachable`."""
        with translated(self._kafka):
            for records in self._open().poll(timeout_ms=0).values():
                self._note(records)
        return parsed(self._newest.pop(_key(self._topics), None))

    def _note(self, records: Iterable[Any]) -> None:
        self._newest.update((record.key, record.value) for record in records)

    def _open(self) -> KafkaConsumer:
        if self._consumer is None:
            raise BusUnreachable("the state topic is not open")
        return self._consumer

    def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        self._newest.clear()
        if consumer is not None:
            consumer.close()


def send_request(kafka: Kafka, topics: Topics, body: Mapping[str, Any]) -> None:
    """Writes one; returns when the brokers have it. Raises `BusUnreachable`, `SettingError`."""
    reach(kafka)
    producer = None
    try:
        with translated(kafka):
            producer = KafkaProducer(**client_options(kafka), acks="all", compression_type="lz4")
            value, key = orjson.dumps(dict(body)), _key(topics)
            producer.send(topics.state, value, key, partition=0).get(WRITE_TIMEOUT_S)
    finally:
        discard(producer)


@dataclass(frozen=True, slots=True)
class Written:
    """A state, and when it was written, by the clock of its writer."""

    at_ms: int
    body: dict[str, Any] | None


class StateWatch:
    """The commands' side: follows what the listener says of itself, and what is asked of it. For one thread.

    `request` is the newest one as of the last `look`; None without one, or for one that is unreadable.
    """

    def __init__(self, kafka: Kafka, topics: Topics) -> None:
        self.request: dict[str, Any] | None = None
        self._topics = topics
        self._reader = TopicReader(kafka, topics.state)
        self._recent: deque[tuple[int, bytes | None]] = deque()

    def open(self) -> None:
        """Raises `BusUnreachable`, `SettingError`."""
        self._reader.open()

    def look(self) -> None:
        """Reads what has been written since the last time; waits for the brokers alone. Raises `BusUnreachable`."""
        records = self._reader.read()
        wanted = key_bytes({"source": self._topics.source})
        self._recent.extend((int(record.timestamp), record.value) for record in records if record.key == wanted)
        while self._recent and self._recent[0][0] < self._recent[-1][0] - RECENT_MS:
            self._recent.popleft()
        for record in records:
            if record.key == _key(self._topics):
                self.request = parsed(record.value)

    @property
    def state(self) -> dict[str, Any] | None:
        """The newest one; None for a source that never started. Raises `SettingError` if the record is not ours."""
        return self._written(-1).body

    @property
    def recent(self) -> tuple[Written, Written]:
        """The newest state, and before it the oldest one of the minute that ended with it, of those that compaction has left."""
        return self._written(0), self._written(-1)

    def _written(self, index: int) -> Written:
        at_ms, value = self._recent[index] if self._recent else (0, None)
        return Written(at_ms, state_of(value, self._topics))

    def close(self) -> None:
        self._reader.close()
