"""What the worker shows of the state around it, read now and then."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

from pixtail.bus.dead_letters import DeadLetter
from pixtail.core.errors import Reason, StoreUnreachable
from pixtail.core.metrics import Metrics
from pixtail.core.ports import VectorStore

EVERY_S = 1.0
COUNT_EVERY_S = 5.0


class Gauges:
    """Lag, points and open dead letters. A window is shorter than it takes to look at them all; counting points even asks the store."""

    def __init__(self, metrics: Metrics, store: VectorStore) -> None:
        self._metrics = metrics
        self._store = store
        self._partitions: set[int] = set()
        self._shown_at = self._counted_at = float("-inf")

    def due(self) -> bool:
        """True every second."""
        now_s = time.monotonic()
        if now_s - self._shown_at < EVERY_S:
            return False
        self._shown_at = now_s
        return True

    def lag(self, records: Mapping[int, int]) -> None:
        """Partitions that went to another worker vanish here, rather than stand still at their last lag."""
        for lost in self._partitions - records.keys():
            self._metrics.consumer_lag.remove(str(lost))
        for partition, behind in records.items():
            self._metrics.consumer_lag.labels(str(partition)).set(behind)
        self._partitions = set(records)

    def letters(self, letters: Mapping[bytes, DeadLetter]) -> None:
        by_reason = Counter(letter.reason for letter in letters.values())
        for reason in Reason:
            self._metrics.dlq_open.labels(reason.value).set(by_reason[reason])

    def points(self) -> None:
        """Every few seconds. A store that is away shows in `store_errors` already."""
        if time.monotonic() - self._counted_at < COUNT_EVERY_S:
            return
        with suppress(StoreUnreachable):
            self._metrics.points.set(self._store.count())
        self._counted_at = time.monotonic()
