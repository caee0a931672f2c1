"""The only hand that writes: events and state in one Kafka transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ingest.batch import Batch
from ingest.position import State, to_json
from pixtail.bus.batches import Outgoing
from pixtail.bus.state import state_record
from pixtail.bus.topics import Topics
from pixtail.core.metrics import Metrics


class Producer(Protocol):
    """`pixtail.bus.producer.TransactionalProducer`, or what stands in for it in a test."""

    def open(self) -> None: ...

    def write(self, batches: Mapping[tuple[str, int], Sequence[Outgoing]]) -> None: ...

    def partitions(self, topic: str) -> int: ...

    def close(self) -> None: ...


class Writer:
    """`state` is the last one written. After an error the outcome is unknown: open a new producer and read the state. For one thread."""

    def __init__(self, producer: Producer, topics: Topics, state: State | None, metrics: Metrics) -> None:
        self.state = state
        self._producer = producer
        self._topics = topics
        self._metrics = metrics

    @property
    def partitions(self) -> int:
        return self._producer.partitions(self._topics.changes)

    def write(self, batch: Batch) -> None:
        """The batch and its state; the batch is cleared. Raises `Fenced`, `BusUnreachable`, `SettingError`."""
        state = batch.state
        lanes = {(self._topics.changes, partition): lane for partition, lane in enumerate(batch.box.lanes) if lane}
        self._write(lanes, state)
        self._metrics.listener_seq.set(state.seq)
        for op, number in batch.box.operations.items():
            self._metrics.events.labels(op).inc(number)
        batch.clear()

    def confirm(self) -> None:
        """Writes the state once more: raises `Fenced` if another listener has taken over meanwhile."""
        if self.state is not None:
            self._write({}, self.state)

    def _write(self, lanes: dict[tuple[str, int], list[Outgoing]], state: State) -> None:
        record = state_record(self._topics.source, to_json(state))
        self._producer.write({**lanes, (self._topics.state, 0): [(record.key, record.value, None)]})
        self.state = state
