"""The only hand that writes: events and state in one Kafka transaction, while the next ones are being read."""

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

    def begin(self, batches: Mapping[tuple[str, int], Sequence[Outgoing]]) -> None: ...

    def advance(self) -> bool: ...

    def finish(self) -> None: ...

    def partitions(self, topic: str) -> int: ...

    def close(self) -> None: ...


class Writer:
    """`state` is that of the last batch given to it. After an error the outcome is unknown: open a new producer and read the state.

    A batch is under way while the next one is being filled. For one thread.
    """

    def __init__(self, producer: Producer, topics: Topics, state: State | None, metrics: Metrics) -> None:
        self.state = state
        self.busy = False
        self._operations: Mapping[str, int] = {}  # of the batch under way
        self._producer = producer
        self._topics = topics
        self._metrics = metrics

    @property
    def partitions(self) -> int:
        return self._producer.partitions(self._topics.changes)

    def write(self, batch: Batch) -> None:
        """Begins to write the batch and its state, once the batch before is written; the batch is cleared.

        Raises `Fenced`, `BusUnreachable`, `SettingError`, of the batch before too.
        """
        self.finish()
        lanes = {(self._topics.changes, partition): lane for partition, lane in enumerate(batch.box.lanes) if lane}
        self._begin(lanes, batch.state)
        self._operations = dict(batch.box.operations)
        batch.clear()

    def advance(self) -> None:
        """Goes on with the batch under way, without waiting. Raises as `write`."""
        if self.busy:
            self.busy = False  # so it is after an error
            self.busy = not self._producer.advance()
            self._account()

    def finish(self) -> None:
        """Waits until nothing is under way. Raises as `write`."""
        if self.busy:
            self.busy = False
            self._producer.finish()
            self._account()

    def confirm(self) -> None:
        """Writes the state once more: raises `Fenced` if another listener has taken over meanwhile."""
        if self.state is not None:
            self.finish()
            self._begin({}, self.state)
            self.finish()

    def _begin(self, lanes: dict[tuple[str, int], list[Outgoing]], state: State) -> None:
        record = state_record(self._topics.source, to_json(state))
        self._producer.begin({**lanes, (self._topics.state, 0): [(record.key, record.value, None)]})
        self.state, self.busy = state, True

    def _account(self) -> None:
        """In the metrics, once it is written."""
        if self.busy:
            return
        if self.state is not None:
            self._metrics.listener_seq.set(self.state.seq)
        for op, number in self._operations.items():
            self._metrics.events.labels(op).inc(number)
        self._operations = {}
