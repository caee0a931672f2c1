"""Reading a small compacted topic whole: the state and the dead letters."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from pixtail.bus.client import REQUEST_TIMEOUT_S, client_options, reach, translated
from pixtail.core.errors import BusUnreachable
from pixtail.core.settings import Kafka


class TopicReader:
    """All committed records of a topic from its start, each once. For one thread; belongs to no consumer group."""

    def __init__(self, kafka: Kafka, topic: str) -> None:
        self._kafka = kafka
        self._topic = topic
        self._consumer: KafkaConsumer | None = None

    def open(self) -> None:
        """Raises `BusUnreachable`, `SettingError`. A topic that does not exist yet is empty."""
        reach(self._kafka)
        with translated(self._kafka):
            self._consumer = KafkaConsumer(
                **client_options(self._kafka),
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                isolation_level="read_committed",
                fetch_max_wait_ms=50,
            )
            self._assign()

    def _assign(self) -> bool:
        consumer = self._client()
        found = consumer.partitions_for_topic(self._topic) or ()
        consumer.assign([TopicPartition(self._topic, p) for p in sorted(found)])
        return bool(found)

    def read(self) -> list[Any]:
        """What is committed now and was not returned before; waits until all of it is here."""
        with translated(self._kafka):
            if not self._client().assignment() and not self._assign():
                return []
            ends = self._client().end_offsets(self._client().assignment())
            return list(read_to(self._client(), ends, self._kafka))

    def _client(self) -> Any:
        if self._consumer is None:
            raise BusUnreachable("the reader is not open")
        return self._consumer

    def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()


def read_to(consumer: KafkaConsumer, ends: Mapping[TopicPartition, int], kafka: Kafka) -> Iterator[Any]:
    """The records up to `ends`, waiting until all of them are here. `ends` are last stable offsets: open transactions lie beyond them."""
    deadline = time.monotonic() + REQUEST_TIMEOUT_S
    while any(consumer.position(tp) < end for tp, end in ends.items()):
        batch = consumer.poll(timeout_ms=100)
        yield from (record for part in batch.values() for record in part)
        if batch:
            deadline = time.monotonic() + REQUEST_TIMEOUT_S
        elif time.monotonic() > deadline:
            topics = ", ".join({tp.topic for tp in ends})
            raise BusUnreachable(f"Kafka at {kafka.bootstrap} stopped sending {topics}", "Look at the broker's log")


@contextmanager
def reading(kafka: Kafka, topic: str) -> Iterator[TopicReader]:
    """An open reader, closed at the end."""
    reader = TopicReader(kafka, topic)
    reader.open()
    try:
        yield reader
    finally:
        reader.close()
