"""Store metrics, the choice of the store, and the knobs of the in-memory one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixtail.core.errors import DimensionMismatch, SettingError, StoreBusy, StoreUnreachable
from pixtail.core.metrics import Metrics
from pixtail.core.settings import Qdrant, Settings
from sink.edge import EdgeStore
from sink.measured import MeasuredStore, kind_of
from sink.memory import MemoryStore
from sink.open import open_store
from sink.qdrant import QdrantStore
from tests.support.points import DIMENSION, direction, upsert


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_every_operation_is_timed_under_its_name() -> None:
    metrics = Metrics()
    store = MeasuredStore(MemoryStore(), metrics)
    store.prepare(DIMENSION, "f00d")
    store.apply([upsert(1, 1)])
    assert store.versions([1]).keys() == {1}
    assert [hit.point.id for hit in store.search(direction(1), limit=1)] == [1]
    assert [point.id for point in store.get([1])] == [1]
    assert store.count() == 1
    assert store.dimension() == DIMENSION
    assert "in-memory" in store.check()
    store.close()
    for operation in ("apply", "versions", "search", "get", "count"):
        assert sample(metrics, "pixtail_store_seconds_count", operation=operation) == 1, operation


def test_failures_are_counted_by_kind_and_pass_through() -> None:
    metrics, inner = Metrics(), MemoryStore()
    store = MeasuredStore(inner, metrics)
    inner.fail_with = StoreUnreachable("away")
    for _ in range(2):
        with pytest.raises(StoreUnreachable, match="away"):
            store.count()
    assert sample(metrics, "pixtail_store_errors_total", kind="store_unreachable") == 2
    assert sample(metrics, "pixtail_store_seconds_count", operation="count") == 0


def test_kinds_are_named_after_the_errors() -> None:
    assert kind_of(DimensionMismatch("x")) == "dimension_mismatch"
    assert kind_of(StoreBusy("x")) == "store_busy"


def test_the_memory_store_fails_where_and_as_long_as_it_is_told() -> None:
    store = MemoryStore()
    store.prepare(DIMENSION, "f00d")
    store.fail_with, store.fail_in = StoreUnreachable("away"), {"apply"}
    assert store.count() == 0
    with pytest.raises(StoreUnreachable):
        store.apply([upsert(1, 1)])
    store.fail_with = None
    assert store.apply([upsert(1, 1)]).written == 1


def test_the_url_decides_between_server_and_embedded_store(tmp_path: Path) -> None:
    path = tmp_path / "data"
    assert isinstance(open_store(Settings(qdrant=Qdrant(path=path))), EdgeStore)
    assert isinstance(open_store(Settings(qdrant=Qdrant(url="http://qdrant:6333"))), QdrantStore)
    assert isinstance(open_store(Settings(), metrics=Metrics()), MeasuredStore)
    assert not path.exists(), "nothing is opened yet"
    with pytest.raises(SettingError, match=r"qdrant\.url"):
        open_store(Settings(qdrant=Qdrant(url="gopher://qdrant")))
