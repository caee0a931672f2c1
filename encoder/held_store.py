"""The store as the worker sees it: always there, only sometimes slow."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pixtail.core.backoff import Backoff
from pixtail.core.lifecycle import Stop
from pixtail.core.metrics import Metrics
from pixtail.core.points import PointId, Version, Write
from pixtail.core.ports import Applied, VectorStore


class HeldStore:
    """A `VectorStore` that holds while it does not answer: every call raises `Stopping` then, and never `StoreUnreachable`."""

    def __init__(self, store: VectorStore, metrics: Metrics, backoff: Backoff, stop: Stop) -> None:
        self._store = store
        self._metrics = metrics
        self._backoff = backoff
        self._stop = stop

    def prepare(self, dimension: int, fingerprint: str) -> None:
        """Raises `DimensionMismatch`, `ModelMismatch`."""
        self._backoff.call(lambda: self._store.prepare(dimension, fingerprint), self._stop)

    def versions(self, ids: Collection[PointId]) -> Mapping[PointId, Version]:
        return self._backoff.call(lambda: self._store.versions(ids), self._stop) if ids else {}

    def count(self) -> int:
        return self._backoff.call(self._store.count, self._stop)

    def apply(self, writes: Sequence[Write]) -> Applied:
        if not writes:
            return Applied(0)
        with self._metrics.stage.labels("apply").time():
            return self._backoff.call(lambda: self._store.apply(writes), self._stop)
