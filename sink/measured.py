"""Store metrics, in the one place that every store passes through."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixtail.core.errors import PixtailError
from pixtail.core.metrics import Metrics
from pixtail.core.points import Hit, PointId, StoredPoint, Version, Write
from pixtail.core.ports import NOTHING, Applied, VectorStore

if TYPE_CHECKING:
    from pixtail.core.points import Vector


class MeasuredStore:
    """Any store, with `store_seconds{operation}` for what succeeds and `store_errors_total{kind}` for what fails. As thread-safe as it."""

    def __init__(self, store: VectorStore, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics

    def prepare(self, dimension: int, fingerprint: str, made_by: Mapping[str, str] = NOTHING) -> None:
        with self._counted():
            self._store.prepare(dimension, fingerprint, made_by)

    def check(self) -> str:
        with self._counted():
            return self._store.check()

    def dimension(self) -> int | None:
        with self._counted():
            return self._store.dimension()

    def versions(self, ids: Collection[PointId]) -> Mapping[PointId, Version]:
        with self._timed("versions"):
            return self._store.versions(ids)

    def apply(self, writes: Sequence[Write]) -> Applied:
        with self._timed("apply"):
            return self._store.apply(writes)

    def begin_bulk(self) -> None:
        with self._counted():
            self._store.begin_bulk()

    def end_bulk(self) -> bool:
        with self._counted():
            return self._store.end_bulk()

    def snapshot(self, file: Path) -> int:
        with self._timed("snapshot"):
            return self._store.snapshot(file)

    def forget(self, below: int) -> None:
        with self._timed("forget"):
            self._store.forget(below)

    def get(self, ids: Sequence[PointId], *, with_vectors: bool = False) -> list[StoredPoint]:
        with self._timed("get"):
            return self._store.get(ids, with_vectors=with_vectors)

    def scan(self, *, after: PointId | None = None, with_vectors: bool = False) -> Iterator[StoredPoint]:
        with self._counted():
            yield from self._store.scan(after=after, with_vectors=with_vectors)

    def search(
        self,
        vector: Vector,
        *,
        limit: int,
        offset: int = 0,
        where: Mapping[str, Any] | None = None,
        min_score: float | None = None,
        exclude: Collection[PointId] = (),
    ) -> list[Hit]:
        with self._timed("search"):
            return self._store.search(
                vector, limit=limit, offset=offset, where=where, min_score=min_score, exclude=exclude
            )

    def count(self) -> int:
        with self._timed("count"):
            return self._store.count()

    def close(self) -> None:
        self._store.close()

    @contextmanager
    def _timed(self, operation: str) -> Iterator[None]:
        started = time.perf_counter()
        with self._counted():
            yield
        self._metrics.store.labels(operation).observe(time.perf_counter() - started)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except PixtailError as error:
            self._metrics.store_errors.labels(kind_of(error)).inc()
            raise


def kind_of(error: PixtailError) -> str:
    """The label: `StoreUnreachable` → `store_unreachable`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
