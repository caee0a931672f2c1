"""What commands ask of the listener, through the state topic: one record per source beside its state, the newest counts."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from pixtail.bus.client import REQUEST_TIMEOUT_S, client_options, discard, reach, translated
from pixtail.bus.reading import TopicReader
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


class Requests:
    """The listener's side: reads them. For one thread."""

    def __init__(self, kafka: Kafka, topics: Topics) -> None:
        self._kafka = kafka
        self._topics = topics
        self._consumer: KafkaConsumer | None = None
        self._found: dict[str, Any] | None = None

    def open(self) -> None:
        """Reads what stands there. Raises `BusUnreachable`, `SettingError`."""
        reach(self._kafka)
        place = TopicPartition(self._topics.state, 0)
        with translated(self._kafka):
            self._consumer = KafkaConsumer(
                **client_options(self._kafka),
                enable_auto_commit=False,
                isolation_level="read_committed",
                fetch_max_wait_ms=50,
                max_poll_records=POLL_RECORDS,
                max_partition_fetch_bytes=POLL_BYTES,
            )
            self._consumer.assign([place])
            self._consumer.seek_to_beginning(place)
            self._catch_up(place)

    def _catch_up(self, place: TopicPartition) -> None:
        consumer = self._open()
        (end,) = consumer.end_offsets([place]).values()
        deadline = time.monotonic() + REQUEST_TIMEOUT_S
        while consumer.position(place) < end:
            if self._poll(timeout_ms=100):
                deadline = time.monotonic() + REQUEST_TIMEOUT_S
            elif time.monotonic() > deadline:
                raise BusUnreachable(
                    f"Kafka at {self._kafka.bootstrap} stopped sending {place.topic}", "Look at the broker's log"
                )

    def newest(self) -> dict[str, Any] | None:
        """The newest one that has come since the last call, whoever wrote it; None without any. Does not wait. Raises `BusUnreachable`."""
        with translated(self._kafka):
            self._poll(timeout_ms=0)
        found, self._found = self._found, None
        return found

    def _poll(self, timeout_ms: int) -> bool:
        batches = self._open().poll(timeout_ms=timeout_ms)
        wanted = _key(self._topics)
        for record in (record for batch in batches.values() for record in batch if record.key == wanted):
            self._found = parsed(record.value)
        return bool(batches)

    def _open(self) -> KafkaConsumer:
        if self._consumer is None:
            raise BusUnreachable("the requests are not open")
        return self._consumer

    def close(self) -> None:
        consumer, self._consumer = self._consumer, None
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
