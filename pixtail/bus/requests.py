"""What a command asks of a running listener: one record per source in the state topic, the newest counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from pixtail.bus.client import client_options, discard, reach, translated
from pixtail.bus.topics import Topics
from pixtail.core.changes import key_bytes
from pixtail.core.errors import BusUnreachable
from pixtail.core.settings import Kafka

WRITE_TIMEOUT_S = 15.0


def _key(topics: Topics) -> bytes:
    return key_bytes({"request": topics.source})


class Requests:
    """Reads them. For one thread."""

    def __init__(self, kafka: Kafka, topics: Topics) -> None:
        self._kafka = kafka
        self._topics = topics
        self._consumer: KafkaConsumer | None = None

    def open(self) -> None:
        """Raises `BusUnreachable`, `SettingError`."""
        reach(self._kafka)
        place = TopicPartition(self._topics.state, 0)
        with translated(self._kafka):
            self._consumer = KafkaConsumer(
                **client_options(self._kafka), enable_auto_commit=False, isolation_level="read_committed"
            )
            self._consumer.assign([place])
            self._consumer.seek_to_beginning(place)

    def newest(self) -> dict[str, Any] | None:
        """The newest one that has come since the last call, old ones at the first calls; None without any. Does not wait.

        Raises `BusUnreachable`. What is no request of this program's is passed over: a later one may be.
        """
        if self._consumer is None:
            raise BusUnreachable("the requests are not open")
        with translated(self._kafka):
            batches = self._consumer.poll(timeout_ms=0)
        wanted = _key(self._topics)
        found = [record.value for batch in batches.values() for record in batch if record.key == wanted]
        return _parsed(found[-1]) if found else None

    def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()


def _parsed(value: bytes | None) -> dict[str, Any] | None:
    try:
        body = orjson.loads(value or b"null")
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def send_request(kafka: Kafka, topics: Topics, body: Mapping[str, Any]) -> None:
    """Writes one; returns when the brokers have it. Raises `BusUnreachable`, `SettingError`."""
    reach(kafka)
    producer = None
    try:
        with translated(kafka):
            producer = KafkaProducer(**client_options(kafka), acks="all")
            producer.send(topics.state, orjson.dumps(dict(body)), _key(topics), partition=0).get(WRITE_TIMEOUT_S)
    finally:
        discard(producer)
