"""What every `VectorStore` promises, over all: in memory, embedded, Qdrant's local mode, a real server where QDRANT_URL is given."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixtail.core.errors import DimensionMismatch, ModelMismatch, PixtailError, SettingError, UsageError
from pixtail.core.points import Delete, Gone, PointId, SetNames, StoredPoint, Sync, Truncate, Write, lookup_version
from pixtail.core.ports import VectorStore
from sink.memory import MemoryStore
from sink.verify import digest
from tests.support.points import DIMENSION, direction, set_payload, sync, upsert
from tests.support.stores import (
    FINGERPRINT,
    EdgeHarness,
    Harness,
    MemoryHarness,
    ids_of,
    local_qdrant,
    local_qdrant_by_grpc,
    prepared,
    real_qdrant,
)

UUID = "6c84fb90-12c4-11e1-840d-7b25c5ee775a"
LAST_ID = (1 << 64) - 1
FOR_EVER = 1 << 52
NEAR_2_53 = 7_350_000_000_000_000

QDRANT_URL = os.environ.get("QDRANT_URL")
SERVERS = ["qdrant-grpc", "qdrant-rest"] if QDRANT_URL else []
KINDS = [*map(pytest.param, ["memory", "edge", "qdrant-local", "qdrant-local-grpc"])]
KINDS += [pytest.param(kind, marks=pytest.mark.qdrant_server) for kind in SERVERS]


@pytest.fixture(params=KINDS)
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    """A store without a collection."""
    made = harness_of(request.param, tmp_path)
    yield made
    made.close()


@pytest.fixture
def harness(bare: Harness) -> Harness:
    return prepared(bare)


@pytest.fixture
def store(harness: Harness) -> VectorStore:
    return harness.store


def harness_of(kind: str, path: Path) -> Harness:
    if kind == "memory":
        return MemoryHarness()
    if kind == "edge":
        return EdgeHarness(path / "store")
    if kind == "qdrant-local":
        return local_qdrant()
    if kind == "qdrant-local-grpc":
        return local_qdrant_by_grpc()
    return real_qdrant(str(QDRANT_URL), os.environ.get("QDRANT_API_KEY"), grpc=kind == "qdrant-grpc")


def test_a_scan_sees_every_point_once_in_the_order_of_ids(store: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sink.edge", "sink.qdrant"):
        monkeypatch.setattr(f"{module}.PAGE", 3)
    ids: list[PointId] = [7, 2, 10, UUID, LAST_ID, 1, 0, UUID.replace("6", "a"), 1 << 63, 300]
    store.apply([upsert(point_id, 1) for point_id in ids])
    in_order = [0, 1, 2, 7, 10, 300, 1 << 63, LAST_ID, UUID, UUID.replace("6", "a")]
    assert [point.id for point in store.scan()] == in_order
    assert [point.id for point in store.scan(after=10)] == in_order[5:]
    assert [point.id for point in store.scan(after=11)] == in_order[5:]
    assert [point.id for point in store.scan(after=UUID)] == in_order[-1:]
    assert all(point.sync == sync(1) and point.vector is None for point in store.scan())
    assert all(np.allclose(point.vector, direction(1), atol=1e-5) for point in store.scan(with_vectors=True))


def test_a_store_without_a_collection_has_nothing_to_scan(bare: Harness) -> None:
    assert list(bare.store.scan()) == []


def test_points_that_go_while_a_scan_is_under_way_cost_it_none_of_the_others(
    store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("sink.edge", "sink.qdrant"):
        monkeypatch.setattr(f"{module}.PAGE", 2)
    store.apply([upsert(point_id, 1) for point_id in range(10)])
    scanned = store.scan()
    seen = [next(scanned).id]
    store.apply([Delete(point_id, 2) for point_id in (2, 3, 6)])
    seen += [point.id for point in scanned]
    assert [i for i in seen if i not in (2, 3, 6)] == [0, 1, 4, 5, 7, 8, 9]


@pytest.mark.qdrant_server
def test_the_suite_runs_over_a_real_server() -> None:
    if not QDRANT_URL:
        pytest.skip("set QDRANT_URL (and QDRANT_API_KEY) to run this file over a real server too")
    assert SERVERS


def seq_of(store: VectorStore, point_id: PointId) -> int | None:
    found = store.versions([point_id]).get(point_id)
    return found.seq if isinstance(found, Sync) else None


def title_of(store: VectorStore, point_id: PointId) -> Any:
    return next((point.payload.get("title") for point in store.get([point_id])), "no point")


# --- reading what was written ------------------------------------------------------------------------------------------------


def test_a_point_is_read_as_it_was_written(store: VectorStore) -> None:
    payload = {
        "image_id": 42,
        "title": "桂林的山水 — Ångström 🐈",
        "price": 12.5,
        "published": True,
        "tags": ["山", "水"],
        "extra": {"brand": {"名": "小米"}, "sizes": [1, 2.5, None, {"x": False}]},
    }
    assert store.apply([upsert(42, 7, payload)]).written == 1
    [point] = store.get([42], with_vectors=True)
    assert point.id == 42
    assert point.payload == payload
    assert point.sync == sync(7)
    assert np.allclose(point.vector, direction(7), atol=1e-5)
    assert store.get([42])[0].vector is None


@pytest.mark.parametrize("point_id", [0, 1, LAST_ID, UUID])
def test_ids_of_every_kind_are_found_searched_and_deleted(store: VectorStore, point_id: PointId) -> None:
    store.apply([upsert(point_id, 1), upsert(77, 2)])
    assert store.versions([point_id]) == {point_id: sync(1)}
    assert [hit.point.id for hit in store.search(direction(1), limit=1)] == [point_id]
    assert [hit.point.id for hit in store.search(direction(1), limit=5, exclude=[point_id])] == [77]
    store.apply([Delete(point_id, 3)])
    assert store.versions([point_id, 77]) == {point_id: Gone(3), 77: sync(2)}
    assert store.count() == 1


def test_get_keeps_the_order_of_the_ids_and_leaves_out_what_is_not_there(store: VectorStore) -> None:
    store.apply([upsert(3, 1), upsert(1, 2), upsert(UUID, 3)])
    assert [point.id for point in store.get([UUID, 99, 1, 3])] == [UUID, 1, 3]
    assert store.get([]) == []
    assert store.versions([]) == {}


def test_integers_beyond_63_bits_come_back_as_text(store: VectorStore) -> None:
    store.apply([upsert(1, 1, {"image_id": LAST_ID, "nested": [LAST_ID], "small": -(1 << 63)})])
    assert store.get([1])[0].payload == {"image_id": str(LAST_ID), "nested": [str(LAST_ID)], "small": -(1 << 63)}
    assert [hit.point.id for hit in store.search(direction(1), limit=1, where={"image_id": LAST_ID})] == [1]


def test_count_is_exact(store: VectorStore) -> None:
    assert store.count() == 0
    store.apply([upsert(i, 1) for i in range(300)])
    assert store.count() == 300
    store.apply([Delete(i, 2) for i in range(100)])
    assert store.count() == 200


# --- search ------------------------------------------------------------------------------------------------------------------


def along(*weights: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    vector = np.zeros(DIMENSION, dtype=np.float32)
    vector[: len(weights)] = weights
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


@pytest.fixture
def fan(store: VectorStore) -> VectorStore:
    """Points 0 … 4 ever farther from the first axis, point 5 opposite."""
    columns = [
        {"category": "cat", "stars": 1, "price": 1.0, "on": True, "a b": "x"},
        {"category": "dog", "stars": 2, "price": 2.0, "on": False},
        {"category": "cat", "stars": 2, "price": 2.5, "名": "值"},
        {"category": ["cat", "dog"], "stars": True},
        {"category": None},
    ]
    fan_out = [upsert(i, 10 + i, columns[i], along(10 - i, i)) for i in range(5)]
    store.apply([*fan_out, upsert(5, 20, {"category": "far"}, along(-1.0))])
    return store


def test_search_returns_the_nearest_first_with_their_cosine(fan: VectorStore) -> None:
    query = along(1.0)
    hits = fan.search(query, limit=10)
    assert [hit.point.id for hit in hits] == [0, 1, 2, 3, 4, 5]
    wanted = [float(along(10 - i, i) @ query) for i in range(5)] + [-1.0]
    assert [hit.score for hit in hits] == pytest.approx(wanted, abs=1e-5)
    assert hits[0].point.sync == sync(10)
    assert hits[0].point.payload["category"] == "cat"


def test_search_pages_with_limit_and_offset(fan: VectorStore) -> None:
    assert [hit.point.id for hit in fan.search(along(1.0), limit=2, offset=3)] == [3, 4]
    assert fan.search(along(1.0), limit=2, offset=6) == []
    assert fan.search(along(1.0), limit=0) == []


def test_search_leaves_out_what_scores_too_low_or_is_excluded(fan: VectorStore) -> None:
    low = float(along(8, 2) @ along(1.0)) - 0.001
    assert [hit.point.id for hit in fan.search(along(1.0), limit=10, min_score=low)] == [0, 1, 2]
    assert [hit.point.id for hit in fan.search(along(1.0), limit=2, exclude=[0, 2])] == [1, 3]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({"category": "cat"}, [0, 2, 3]),
        ({"category": "cat", "stars": 2}, [2]),
        ({"stars": 1}, [0]),
        ({"stars": True}, [3]),
        ({"on": False}, [1]),
        ({"price": 2.5}, [2]),
        ({"stars": 2.0}, [1, 2]),
        ({"category": None}, [4]),
        ({"名": "值"}, [2]),
        ({"a b": "x"}, [0]),
        ({"_sync.seq": 10}, []),
        ({"nothing": "here"}, []),
        ({}, [0, 1, 2, 3, 4, 5]),
    ],
    ids=str,
)
def test_where_asks_for_equality_of_columns(fan: VectorStore, where: dict[str, Any], found: list[int]) -> None:
    assert [hit.point.id for hit in fan.search(along(1.0), limit=10, where=where)] == found


@pytest.mark.parametrize("where", [{"category": {"a": 1}}, {"category": ["cat"]}], ids=str)
def test_where_refuses_what_cannot_be_compared(fan: VectorStore, where: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="category"):
        fan.search(along(1.0), limit=1, where=where)


# --- conditions --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [0, NEAR_2_53])
def test_only_a_newer_upsert_replaces(store: VectorStore, base: int) -> None:
    store.apply([upsert(1, base + 5)])
    for older in (base + 4, base + 5):
        applied = store.apply([upsert(1, older, {"title": "stale"})])
        assert (applied.written, applied.stale) == (0, {1})
    assert title_of(store, 1) == f"v{base + 5}"
    assert store.apply([upsert(1, base + 6, {"other": 1})]) == type(applied)(1)
    assert store.get([1])[0].payload == {"other": 1}, "an upsert replaces all columns"


def test_only_a_newer_payload_is_set(store: VectorStore) -> None:
    store.apply([upsert(1, 5, {"title": "a", "brand": "b", "gone": 1})])
    for older in (4, 5):
        assert store.apply([set_payload(1, older)]).stale == {1}
    applied = store.apply([set_payload(1, 6, {"title": "new", "gone": None, "extra": [1]})])
    assert (applied.written, applied.stale) == (1, frozenset())
    [point] = store.get([1], with_vectors=True)
    assert point.payload == {"title": "new", "brand": "b", "extra": [1]}
    assert point.sync == sync(6)
    assert np.allclose(point.vector, direction(5), atol=1e-5), "the vector stays"


def test_the_bookkeeping_is_replaced_as_a_whole(harness: Harness) -> None:
    harness.write_foreign(1, direction(1), {"_sync": {**sync(1).as_payload(), "leftover": 1}, "title": "a"})
    harness.store.apply([set_payload(1, 2)])
    raw = harness.store.get([1])[0]
    assert raw.sync == sync(2)
    assert harness.store.search(direction(1), limit=1, where={"_sync": None}) == []


def test_columns_are_set_over_the_version_that_was_seen_only(store: VectorStore) -> None:
    """Between the look and the write somebody may have brought another picture."""
    store.apply([upsert(1, 5), set_payload(1, 7, over=4)])
    assert title_of(store, 1) == "v5"
    store.apply([set_payload(1, 7, over=5)])
    assert title_of(store, 1) == "p7"


def test_a_payload_without_a_point_makes_none(store: VectorStore) -> None:
    assert store.apply([set_payload(1, 6)]).stale == frozenset()
    assert store.versions([1]) == {}


def test_columns_come_back_with_the_digest_that_they_were_written_with(store: VectorStore) -> None:
    """A verification takes every difference for a fault: of numbers that are integers and floats, of depths, of empty things."""
    columns = {
        "text": "Ä\u0000\n😀",
        "empty": "",
        "integer": 5,
        "float": 5.0,
        "small": 1e-300,
        "large": 1.7976931348623157e308,
        "exact": 0.1,
        "wide": LAST_ID,
        "yes": True,
        "none": None,
        "document": {"b": [1, 2.0, None, {"x": {}}, []], "a": {"n": None, "deep": [[LAST_ID]]}},
        "list": [],
    }
    store.apply([upsert(1, 1, columns), upsert(2, 1, {"text": "old"})])
    store.apply([set_payload(2, 2, columns)])
    assert [digest(point.payload) for point in store.get([1, 2])] == [digest(columns)] * 2
    assert [digest(point.payload) for point in store.scan()] == [digest(columns)] * 2


def test_a_null_column_is_absent_whichever_way_it_was_written(store: VectorStore) -> None:
    store.apply([upsert(1, 1, {"a": None, "b": 1}), upsert(2, 1, {"a": 1, "b": 1})])
    store.apply([set_payload(2, 2, {"a": None})])
    assert [point.payload for point in store.get([1, 2])] == [{"b": 1}, {"b": 1}]


@pytest.mark.parametrize("base", [0, NEAR_2_53])
def test_a_delete_removes_its_own_version_and_older_ones(store: VectorStore, base: int) -> None:
    store.apply([upsert(1, base + 5), upsert(2, base + 5)])
    assert store.apply([Delete(1, base + 4)]).stale == {1}
    assert store.apply([Delete(1, base + 5), Delete(2, base + 6), Delete(3, base + 7)]).stale == frozenset()
    assert store.get([1, 2, 3]) == []
    assert store.versions([1, 2, 3, 4]) == {1: Gone(base + 5), 2: Gone(base + 6), 3: Gone(base + 7)}


def test_what_comes_later_than_its_delete_stays_away(store: VectorStore) -> None:
    store.apply([Delete(1, 5)])
    assert store.apply([upsert(1, 4), set_payload(1, 3)]).stale == {1}
    assert store.get([1]) == []
    assert store.apply([Delete(1, 3)]).stale == {1}
    assert store.versions([1]) == {1: Gone(5)}


@pytest.mark.parametrize("seq", [5, 6])
def test_a_version_comes_back_that_is_not_older_than_the_delete(store: VectorStore, seq: int) -> None:
    """The same version: its picture failed once, and was tried again."""
    store.apply([Delete(1, 5)])
    assert store.apply([upsert(1, seq)]).stale == frozenset()
    assert store.versions([1]) == {1: sync(seq)}
    assert store.apply([upsert(1, 4)]).stale == {1}


def test_what_comes_later_than_a_truncate_stays_away(store: VectorStore) -> None:
    store.apply([Truncate(5)])
    assert store.apply([upsert(1, 4), upsert(2, 5)]).stale == {1}
    assert [point.id for point in store.get([1, 2])] == [2]
    store.apply([Truncate(3)])
    assert store.apply([upsert(3, 4)]).stale == {3}, "the later TRUNCATE counts"


def test_tombstones_are_kept_until_they_are_to_be_forgotten(harness: Harness) -> None:
    store = harness.store
    store.apply([Delete(1, 5), Delete(2, 7), Truncate(4)])
    store.forget(6)
    assert harness.another().versions([1, 2, 3]) == {2: Gone(7)}
    assert store.apply([upsert(1, 3), upsert(2, 3)]).stale == {2}


def test_repeating_writes_changes_nothing(store: VectorStore) -> None:
    writes: list[Write] = [upsert(1, 1), upsert(2, 2), set_payload(1, 3, over=1), Delete(2, 4), upsert(3, 5)]
    store.apply(writes)
    before = store.get([1, 2, 3], with_vectors=True)
    store.apply([upsert(1, 1), set_payload(1, 3, over=1), Delete(2, 4), upsert(3, 5)])
    assert store.get([1, 2, 3], with_vectors=True) == before


def test_truncate_removes_what_is_older_and_nothing_else(harness: Harness) -> None:
    harness.write_foreign(9, direction(9), {"title": "not ours"})
    store = harness.store
    store.apply([upsert(1, 4), upsert(2, 5), upsert(3, 6), upsert(UUID, 1)])
    assert store.apply([Truncate(5)]).written == 1
    assert [point.id for point in store.get([1, 2, 3, 9, UUID])] == [2, 3, 9]
    assert store.versions([1, 2, 3, UUID]) == {1: Gone(5), 2: sync(5), 3: sync(6), UUID: Gone(5)}


def test_a_point_of_another_program_is_adopted(harness: Harness) -> None:
    harness.write_foreign(1, direction(9), {"title": "not ours", "own": 1})
    assert harness.store.versions([1]) == {1: None}
    assert harness.store.get([1])[0].sync is None
    assert harness.store.apply([set_payload(1, 5)]) == harness.store.apply([set_payload(1, 5)])
    assert harness.store.versions([1]) == {1: None}, "columns are set over a version that was seen"
    assert harness.store.apply([upsert(1, 0)]).stale == frozenset()
    assert harness.store.versions([1]) == {1: sync(0)}
    assert harness.store.get([1])[0].payload == {"title": "v0"}


def test_a_point_of_another_program_goes_with_its_row(harness: Harness) -> None:
    harness.write_foreign(1, direction(9), {"title": "not ours"})
    assert harness.store.apply([Delete(1, 3)]).stale == frozenset()
    assert harness.store.count() == 0


# --- batches -----------------------------------------------------------------------------------------------------------------


def test_writes_of_one_call_are_done_in_their_order(store: VectorStore) -> None:
    applied = store.apply(
        [
            upsert(1, 1),
            set_payload(1, 2),
            upsert(2, 3),
            Truncate(2),
            Delete(2, 4),
            upsert(2, 5),
            upsert(3, 6),
            upsert(1, 1),
        ]
    )
    assert (applied.written, applied.stale) == (7, {1})
    assert {i: seq_of(store, i) for i in (1, 2, 3)} == {1: 2, 2: 5, 3: 6}
    assert title_of(store, 1) == "p2"


def test_one_batch_may_hold_newer_and_older_writes(store: VectorStore) -> None:
    """The whole batch goes under its lowest seq; what is stored between that and a write's own seq needs an operation of its own."""
    store.apply([upsert(i, 50) for i in range(10)])
    applied = store.apply([upsert(i, 46 + i) for i in range(10)] + [upsert(20, 10)])
    assert applied.stale == {0, 1, 2, 3, 4}
    assert applied.written == 6
    assert {i: seq_of(store, i) for i in range(10)} == {i: max(50, 46 + i) for i in range(10)}
    applied = store.apply([Delete(i, 47 + i) for i in range(10)])
    assert applied.stale == {0, 1, 2}
    assert store.count() == 4


def test_a_large_batch_is_applied_whole(store: VectorStore) -> None:
    assert store.apply([upsert(i, i + 1) for i in range(700)]).written == 700
    assert store.count() == 700


def test_a_bulk_load_is_found_while_it_lasts_and_afterwards(store: VectorStore) -> None:
    store.begin_bulk()
    store.apply([upsert(i, 1, vector=direction(i)) for i in range(300)])
    assert [hit.point.id for hit in store.search(direction(7), limit=1)] == [7]
    pause = threading.Event()
    while not store.end_bulk():
        pause.wait(0.01)
    assert [hit.point.id for hit in store.search(direction(7), limit=1)] == [7]
    assert store.count() == 300


def test_an_empty_batch_is_nothing(store: VectorStore) -> None:
    assert (store.apply([]).written, store.apply([]).stale) == (0, frozenset())


@pytest.mark.parametrize("bad", [np.full(DIMENSION, np.nan), np.full(DIMENSION, np.inf), np.zeros(DIMENSION)], ids=str)
def test_a_vector_without_direction_is_refused_before_anything_is_written(store: VectorStore, bad: Any) -> None:
    with pytest.raises(PixtailError, match="point 2"):
        store.apply([upsert(1, 1), upsert(2, 1, vector=bad.astype(np.float32))])
    assert store.count() == 0


# --- the collection ----------------------------------------------------------------------------------------------------------


def test_a_store_without_a_collection_reads_as_an_empty_one(bare: Harness) -> None:
    store = bare.store
    assert store.dimension() is None
    assert (store.count(), store.get([1]), store.versions([1]), store.search(direction(1), limit=3)) == (0, [], {}, [])
    with pytest.raises(SettingError, match="no collection"):
        store.apply([upsert(1, 1)])
    assert store.check()


def test_prepare_may_be_repeated_and_keeps_what_is_there(harness: Harness) -> None:
    harness.store.apply([upsert(1, 1)])
    harness.store.prepare(DIMENSION, FINGERPRINT)
    harness.another().prepare(DIMENSION, FINGERPRINT)
    assert harness.store.count() == 1
    assert harness.store.dimension() == DIMENSION
    assert "1 point" in harness.store.check()


def test_vectors_of_another_model_do_not_fit_though_they_have_the_same_size(harness: Harness) -> None:
    with pytest.raises(ModelMismatch, match="pixtail reindex"):
        harness.another().prepare(DIMENSION, "beef")


def test_vectors_of_another_size_do_not_fit(store: VectorStore) -> None:
    for attempt in (
        lambda: store.prepare(DIMENSION + 1, "other"),
        lambda: store.apply([upsert(1, 1, vector=direction(1, DIMENSION + 1))]),
        lambda: store.search(direction(1, DIMENSION - 1), limit=1),
    ):
        with pytest.raises(DimensionMismatch) as error:
            attempt()
        assert str(DIMENSION) in error.value.problem
        assert "qdrant.collection" in error.value.remedy


# --- many writers ------------------------------------------------------------------------------------------------------------


def test_of_two_writers_the_newest_version_remains(harness: Harness) -> None:
    """Both write the same ids, one the even and one the odd seqs, in batches that overlap."""
    ids, rounds = range(12), 15
    failures: list[BaseException] = []
    begin = threading.Barrier(2)

    def work(store: VectorStore, parity: int) -> None:
        try:
            begin.wait()
            for number in range(rounds):
                store.apply([upsert(i, 100 * ((number * 7 + i) % rounds) + 2 * i + parity) for i in ids])
        except BaseException as error:  # noqa: BLE001 - shown below, in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(harness.another(), parity)) for parity in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    newest = {i: 100 * (rounds - 1) + 2 * i + 1 for i in ids}
    assert {i: seq_of(harness.store, i) for i in ids} == newest
    assert {i: title_of(harness.store, i) for i in ids} == {i: f"v{seq}" for i, seq in newest.items()}


# --- against the model -------------------------------------------------------------------------------------------------------

fresh_ids = itertools.count(1_000_000, 100)
few_ids = st.integers(0, 3)
sloppy = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)


def columns() -> st.SearchStrategy[dict[str, Any]]:
    values = st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab字", max_size=2) | st.just(LAST_ID)
    return st.dictionaries(st.sampled_from(["title", "brand", "x y"]), values, max_size=3)


def write(base: int, seqs: st.SearchStrategy[int]) -> st.SearchStrategy[Write]:
    ids = few_ids.map(lambda i: base + i)
    return st.one_of(
        st.builds(upsert, ids, seqs, columns()),
        st.builds(set_payload, ids, seqs, columns(), seqs),
        st.builds(Delete, ids, seqs),
        st.builds(Truncate, seqs),
    )


@sloppy
@given(data=st.data())
def test_any_sequence_of_batches_ends_as_in_memory(store: VectorStore, data: st.DataObject) -> None:
    """Each example has ids of its own, so that one store serves all examples."""
    base = next(fresh_ids)
    store.forget(FOR_EVER)
    batches = data.draw(st.lists(st.lists(write(base, st.integers(1, 9)), max_size=6), max_size=5))
    model = MemoryStore()
    model.prepare(DIMENSION, FINGERPRINT)
    ids: list[PointId] = [base + i for i in range(4)]
    for number, batch in enumerate(batches):
        assert store.apply(batch) == model.apply(batch), f"batch {number}: {batch}"
        assert_alike(store, model, ids, f"after batch {number}: {batch}")


def assert_alike(store: VectorStore, model: VectorStore, ids: list[PointId], when: str) -> None:
    """The vectors may differ in the last digits: each store normalises by itself."""
    mine, others = (one.get(ids, with_vectors=True) for one in (store, model))
    assert [columns_of(point) for point in mine] == [columns_of(point) for point in others], when
    for point, other in zip(mine, others, strict=True):
        assert np.allclose(point.vector, other.vector, atol=1e-5), f"vector of {point.id} {when}"


def columns_of(point: StoredPoint) -> tuple[Any, ...]:
    return (point.id, point.payload, point.sync)


@sloppy
@given(data=st.data())
def test_the_order_of_arrival_does_not_matter(store: VectorStore, data: st.DataObject) -> None:
    base = next(fresh_ids)
    kinds = st.sampled_from([upsert, Delete])
    made = data.draw(st.lists(st.tuples(kinds, few_ids), min_size=1, max_size=7))
    in_order: list[Write] = [kind(base + i, seq) for seq, (kind, i) in enumerate(made, start=1)]
    arrival = data.draw(st.permutations(in_order))
    model = MemoryStore()
    model.prepare(DIMENSION, FINGERPRINT)
    store.forget(FOR_EVER)
    model.apply(in_order)
    cut = data.draw(st.integers(0, len(arrival)))
    store.apply(arrival[:cut])
    store.apply(arrival[cut:])
    assert_alike(store, model, ids_of(in_order), f"arrived as {arrival}")


# --- names from lookups ------------------------------------------------------------------------------------------------------

BRAND = lookup_version("brands", "brand_id")


def branded(point_id: PointId, seq: int, brand: Any = 7, name: str | None = None, version: int | None = None) -> Write:
    return upsert(point_id, seq, {"brand_id": brand, "title": "t", "brand_name": name, BRAND: version})


def named(name: str | None, seq: int, brand: Any = 7, **more: Any) -> SetNames:
    return SetNames("brand_id", brand, {"brand_name": name}, BRAND, seq, **more)


def names(store: VectorStore, *ids: PointId) -> list[Any]:
    return [point.payload.get("brand_name") for point in store.get(ids)]


def test_a_name_reaches_every_point_that_shows_the_key_and_no_other(store: VectorStore) -> None:
    store.apply([branded(1, 1), branded(2, 2), branded(3, 3, brand=8), branded(4, 4, brand=None), branded(5, 5, "7")])
    assert store.apply([named("Acme", 10)]).stale == frozenset()
    assert names(store, 1, 2, 3, 4, 5) == ["Acme", "Acme", None, None, None]


def test_a_name_leaves_columns_vector_and_bookkeeping_as_they_are(store: VectorStore) -> None:
    store.apply([branded(1, 1), named("Acme", 10)])
    [point] = store.get([1], with_vectors=True)
    assert point.payload == {"brand_id": 7, "title": "t", "brand_name": "Acme"}
    assert point.sync == sync(1)
    assert np.allclose(point.vector, direction(1), atol=1e-5)


def test_a_name_that_is_gone_goes(store: VectorStore) -> None:
    store.apply([branded(1, 1), named("Acme", 10), named(None, 11)])
    assert [point.payload for point in store.get([1])] == [{"brand_id": 7, "title": "t"}]


@pytest.mark.parametrize(("first", "then"), [(10, 9), (NEAR_2_53 + 1, NEAR_2_53)])
def test_an_older_name_never_takes_a_newer_ones_place(store: VectorStore, first: int, then: int) -> None:
    store.apply([branded(1, 1), named("new", first), named("old", then)])
    assert names(store, 1) == ["new"]
    store.apply([branded(2, 2, name="new", version=first), named("old", then)])
    assert names(store, 2) == ["new"]


def test_a_name_that_is_gone_is_newer_than_the_one_before_it(store: VectorStore) -> None:
    store.apply([branded(1, 1), named(None, 11), named("Acme", 10)])
    assert names(store, 1) == [None]


def test_the_same_version_is_written_again_only_if_that_is_asked_for(store: VectorStore) -> None:
    store.apply([branded(1, 1), named("Acme", 10), named("ACME", 10)])
    assert names(store, 1) == ["Acme"]
    store.apply([named("ACME", 10, again=True)])
    assert names(store, 1) == ["ACME"]


def test_names_can_be_kept_to_some_points(store: VectorStore) -> None:
    store.apply([branded(1, 1), branded(2, 2), branded(UUID, 3), branded(4, 4, brand=8)])
    store.apply([named("Acme", 10, ids=frozenset({2, UUID, 4, 77})), named("none", 11, ids=frozenset())])
    assert names(store, 1, 2, UUID, 4) == [None, "Acme", "Acme", None]


def test_points_of_other_programs_get_no_names(harness: Harness) -> None:
    harness.write_foreign(1, direction(1), {"brand_id": 7})
    harness.store.apply([named("Acme", 10)])
    assert [point.payload for point in harness.store.get([1])] == [{"brand_id": 7}]


def test_a_row_that_takes_another_key_takes_its_names_with_it(store: VectorStore) -> None:
    store.apply([branded(1, 1), named("Acme", 10)])
    store.apply([set_payload(1, 2, {"brand_id": 8, "brand_name": None, BRAND: None})])
    assert names(store, 1) == [None]
    store.apply([named("Acme & Sons", 11), named("Bolt", 5, brand=8)])
    assert names(store, 1) == ["Bolt"]


@pytest.mark.parametrize("key", [0, -1, "ACME", "a b/ü", LAST_ID, 1.5])
def test_keys_of_every_kind_are_found(store: VectorStore, key: Any) -> None:
    store.apply([branded(1, 1, brand=key), named("Acme", 10, brand=key)])
    assert names(store, 1) == ["Acme"]


def test_columns_of_every_name_can_be_looked_up(store: VectorStore) -> None:
    column = "marke.id (neu)"
    version = lookup_version("marken-2024", column)
    store.apply([upsert(1, 1, {column: 7})])
    store.apply([SetNames(column, 7, {"marke": "Acme"}, version, 10), SetNames(column, 7, {"marke": "x"}, version, 9)])
    assert [point.payload for point in store.get([1])] == [{column: 7, "marke": "Acme"}]


def test_hundreds_of_names_among_other_writes_keep_their_order(store: VectorStore) -> None:
    many = range(1, 301)
    store.apply(
        [*(branded(n, n, brand=n) for n in many), *(named(f"b{n}", 1000 + n, brand=n) for n in many), Delete(7, 900)]
    )
    assert names(store, *many) == [f"b{n}" for n in many if n != 7]
