"""Exactly-once writing: everything of one call in one Kafka transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kafka import KafkaProducer

from pixtail.bus.client import client_options, discard, reach, translated, within
from pixtail.bus.topics import partition_of
from pixtail.core.changes import Record
from pixtail.core.errors import BusUnreachable
from pixtail.core.settings import Kafka

DELIVERY_TIMEOUT_S = 30.0
COMMIT_TIMEOUT_S = 35.0
TRANSACTION_TIMEOUT_S = 60.0


class TransactionalProducer:
    """Writes batches of records atomically, and fences older producers of the same transactional id (KIP-98).

    For one thread. After any error the outcome of the last call is unknown: close this one, open a new one, and read the saved state,
    which stands in the same transaction and so tells whether it went through.
    """

    def __init__(self, kafka: Kafka, transactional_id: str) -> None:
        self._kafka = kafka
        self._transactional_id = transactional_id
        self._producer: KafkaProducer | None = None
        self._partitions: dict[str, int] = {}

    def open(self) -> None:
        """Connects and fences: from here on no older producer of this id can commit.

        Raises `BusUnreachable`, `SettingError`.
        """
        reach(self._kafka)
        with translated(self._kafka):
            self._producer = KafkaProducer(
                **client_options(self._kafka),
                transactional_id=self._transactional_id,
                transaction_timeout_ms=int(TRANSACTION_TIMEOUT_S * 1000),
                max_block_ms=int(DELIVERY_TIMEOUT_S * 1000),
                delivery_timeout_ms=int(DELIVERY_TIMEOUT_S * 1000),
                acks="all",
                compression_type="lz4",
                batch_size=1 << 18,
                linger_ms=0,
                retry_backoff_ms=10,  # CONCURRENT_TRANSACTIONS answers right after a commit: halves the tail
            )
            self._producer.init_transactions()

    def partitions(self, topic: str) -> int:
        """The number of partitions of a topic that exists."""
        if topic not in self._partitions:
            with translated(self._kafka):
                self._partitions[topic] = len(self._open().partitions_for(topic) or ())
        return self._partitions[topic]

    def commit(self, records: Mapping[str, Sequence[Record]]) -> None:
        """Writes the records of all topics in one transaction; returns when it is committed.

        Raises `Fenced` when another producer has taken over, else `BusUnreachable`, `SettingError`.
        """
        with translated(self._kafka):
            within(COMMIT_TIMEOUT_S, lambda: self._transaction(records), "a transaction", self._kafka)

    def _transaction(self, records: Mapping[str, Sequence[Record]]) -> bool:
        producer = self._open()
        producer.begin_transaction()
        for topic, batch in records.items():
            partitions = self.partitions(topic)
            for record in batch:
                self._send(producer, topic, record, partitions)
        producer.commit_transaction()
        return True

    def _send(self, producer: KafkaProducer, topic: str, record: Record, partitions: int) -> None:
        partition = partition_of(record.key, partitions) if record.partition is None else record.partition
        producer.send(topic, record.value, record.key, list(record.headers), partition)

    def _open(self) -> Any:
        if self._producer is None:
            raise BusUnreachable("the producer is not open")
        return self._producer

    def close(self) -> None:
        """Gives the connection back; what was not committed is lost, and the broker aborts it."""
        producer, self._producer = self._producer, None
        discard(producer)
