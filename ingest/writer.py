"""The only hand that writes: events and state in one Kafka transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ingest.position import State, to_json
from pixtail.bus.state import state_record
from pixtail.bus.topics import Topics
from pixtail.core.changes import Op, Record
from pixtail.core.metrics import Metrics


class Producer(Protocol):
    """`pixtail.bus.producer.TransactionalProducer`, or what stands in for it in a test."""

    def open(self) -> None: ...

    def commit(self, records: Mapping[str, Sequence[Record]]) -> None: ...

    def partitions(self, topic: str) -> int: ...

    def close(self) -> None: ...


class Writer:
    """`state` is the last one written. After an error the outcome is unknown: open a new producer and read the state. For one thread."""

    def __init__(self, producer: Producer, topics: Topics, state: State | None, metrics: Metrics) -> None:
        self._producer = producer
        self._topics = topics
        self._metrics = metrics
        self.state = state

    @property
    def partitions(self) -> int:
        return self._producer.partitions(self._topics.changes)

    def write(self, records: Sequence[Record], state: State, operations: Mapping[Op, int] | None = None) -> None:
        """Raises `Fenced`, `BusUnreachable`, `SettingError`."""
        saved = state_record(self._topics.source, to_json(state))
        changes = {self._topics.changes: records} if records else {}
        self._producer.commit({**changes, self._topics.state: [saved]})
        self.state = state
        self._metrics.listener_seq.set(state.seq)
        for op, number in (operations or {}).items():
            self._metrics.events.labels(op.value).inc(number)

    def confirm(self) -> None:
        """Writes the state once more: raises `Fenced` if another listener has taken over meanwhile."""
        if self.state is not None:
            self.write((), self.state)
