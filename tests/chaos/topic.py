"""The topic from outside: made so that nothing is compacted, followed while the listener is being killed, read whole at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from pixtail.bus.client import admin_client
from pixtail.bus.topics import Topics
from pixtail.core.settings import Kafka

A_WEEK_MS = 7 * 24 * 3600 * 1000
STALL_S = 60.0


def create(kafka: Kafka, topics: Topics) -> None:
    """As the listener would, but the broker may not compact a record before it is a week old: the judge would miss it."""
    configs = {"cleanup.policy": "compact", "min.compaction.lag.ms": str(A_WEEK_MS)}
    with admin_client(kafka) as admin:
        admin.create_topics(
            {topics.changes: {"num_partitions": kafka.partitions, "replication_factor": 1, "configs": configs}}
        )


@contextmanager
def _consumer(kafka: Kafka, topic: str, isolation: str) -> Iterator[KafkaConsumer]:
    options = {"enable_auto_commit": False, "auto_offset_reset": "earliest", "fetch_max_wait_ms": 50}
    with closing(KafkaConsumer(bootstrap_servers=kafka.bootstrap, isolation_level=isolation, **options)) as consumer:
        consumer.assign([TopicPartition(topic, partition) for partition in range(kafka.partitions)])
        yield consumer


def records(kafka: Kafka, topic: str, isolation: str = "read_committed") -> Iterator[Any]:
    """All of them; each partition's in order. Raises `TimeoutError` when they stop coming before the end."""
    with _consumer(kafka, topic, isolation) as consumer:
        ends = consumer.end_offsets(consumer.assignment())
        moved = time.monotonic()
        while any(consumer.position(place) < end for place, end in ends.items()):
            for batch in consumer.poll(timeout_ms=200, max_records=5000).values():
                moved = time.monotonic()
                yield from batch
            if time.monotonic() - moved > STALL_S:
                raise TimeoutError(f"the broker stopped sending {topic}")


class Tail(threading.Thread):
    """Follows what is committed. A record's seq tells when it was made: above the lowest ten bits it is milliseconds since the epoch."""

    def __init__(self, kafka: Kafka, topic: str) -> None:
        super().__init__(name="tail", daemon=True)
        self.records = 0
        self._kafka = kafka
        self._topic = topic
        self._newest_ms = 0
        self._awaited = b"\0"
        self._seen = False
        self._enough = threading.Event()
        self._news = threading.Condition()

    def run(self) -> None:
        with _consumer(self._kafka, self._topic, "read_committed") as consumer:
            while not self._enough.is_set():
                with suppress(KafkaError):
                    self._take(consumer.poll(timeout_ms=100, max_records=5000).values())

    def _take(self, batches: Any) -> None:
        with self._news:
            for batch in batches:
                self.records += len(batch)
                self._newest_ms = max(self._newest_ms, int(dict(batch[-1].headers)["seq"]) >> 10)
                self._seen = self._seen or any(self._awaited in (record.value or b"") for record in batch)
            self._news.notify_all()

    def has_made(self, since_ms: int, limit_s: float) -> bool:
        """True as soon as there is a record that was made at that moment or later."""
        with self._news:
            return self._news.wait_for(lambda: self._newest_ms >= since_ms, limit_s)

    def await_text(self, text: bytes) -> None:
        """From now on look for it in the values."""
        with self._news:
            self._awaited, self._seen = text, False

    def has_seen(self, limit_s: float) -> bool:
        with self._news:
            return self._news.wait_for(lambda: self._seen, limit_s)

    def stop(self) -> None:
        self._enough.set()
        self.join(10)
