"""The embedded store against crashes, other processes and full disks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from pixtail.core.errors import DimensionMismatch, SettingError, StoreBusy, StoreUnreachable
from pixtail.core.points import Delete, Gone, SetNames, StoredPoint
from sink import edge, edge_files
from sink.edge import WRITES_PER_FLUSH, EdgeStore
from sink.edge_files import sync_file
from tests.support.points import DIMENSION, direction, set_payload, sync, upsert

ROOT = Path(__file__).parents[2]
API = "http://127.0.0.1:8080"

# Threads write batches for ever; each number on stdout is a batch that apply() has acknowledged. Thread n of k writes first + n, then
# every k-th. The shard's segments are flushed all the time, so that kills meet it in the middle.
WRITER = """
import os, sys, threading
from itertools import count
from pathlib import Path
from pixtail.core.points import Delete
import sink.edge
from sink.edge import EdgeStore
from tests.support.points import DIMENSION, set_payload, upsert

path, first, threads = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
sink.edge.WRITES_PER_FLUSH = 50
store = EdgeStore(path, "images", api_address="http://127.0.0.1:8080")
store.prepare(DIMENSION, "f00d")

def write(number):
    for batch in count(first + number, threads):
        seq = batch * 10
        writes = [upsert(batch * 10 + i, seq) for i in range(8)]
        writes += [set_payload(batch * 10 + 1, seq + 1), Delete(batch * 10 + 2, seq + 2)]
        writes += [Delete((batch - threads) * 10 + 3, seq)]
        store.apply(writes)
        os.write(1, f"{batch}\\n".encode())

os.write(1, b"ready\\n")
writers = [threading.Thread(target=write, args=(number,)) for number in range(threads)]
for thread in writers:
    thread.start()
for thread in writers:
    thread.join()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def store(path: Path) -> Iterator[EdgeStore]:
    opened = EdgeStore(path, "images", api_address=API)
    opened.prepare(DIMENSION, "f00d")
    yield opened
    opened.close()


@pytest.fixture
def reopened(path: Path) -> Iterator[EdgeStore]:
    """Opened at its first use, after the test is done with the store before it."""
    again = EdgeStore(path, "images")
    yield again
    again.close()


def writer(path: Path, first: int, threads: int = 1) -> subprocess.Popen[str]:
    arguments = [str(path), str(first), str(threads)]
    process = subprocess.Popen([sys.executable, "-c", WRITER, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while "ready" not in (line := process.stdout.readline()):
        assert line, "the writer ended before it was ready"
    return process


def kill_after(process: subprocess.Popen[str], batches: int) -> list[int]:
    """kill -9 right after the acknowledgement of so many batches; returns all that were acknowledged."""
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(batches)]
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read()
    process.wait()
    process.stdout.close()
    complete = rest[: rest.rfind("\n") + 1]  # the last line may be cut short by the kill
    return acknowledged + [int(line) for line in complete.split()]


def expected(batch: int) -> dict[int, int]:
    """Point → seq after the batch, of the points that it leaves for good."""
    seqs = {batch * 10 + i: batch * 10 for i in range(8) if i not in (2, 3)}
    return seqs | {batch * 10 + 1: batch * 10 + 1}


@pytest.mark.parametrize("threads", [1, 4])
def test_every_acknowledged_write_survives_kill_9(path: Path, threads: int) -> None:
    acknowledged: list[int] = []
    for round_, batches in enumerate((1, 30, 7)):
        acknowledged += kill_after(writer(path, (round_ + 1) * 100_000, threads), batches)
    store = EdgeStore(path, "images")
    wanted = {point_id: seq for batch in acknowledged for point_id, seq in expected(batch).items()}
    found = {point_id: s.seq for point_id, s in store.versions(list(wanted)).items() if s is not None}
    deleted = [id_ for batch in acknowledged for id_ in (batch * 10 + 2, (batch - threads) * 10 + 3)]
    assert found == wanted
    assert store.get(deleted) == []
    assert {type(version) for version in store.versions(deleted).values()} == {Gone}
    assert store.versions(deleted).keys() == set(deleted), "tombstones as well"
    everything = store.search(direction(1), limit=1 << 20)
    assert len(everything) == store.count()
    assert all(whole(hit.point) for hit in everything), "what was in flight is there as a whole, or not at all"
    assert store.apply([upsert(1, 1 << 50)]).written == 1, "and it takes new writes"
    store.close()


def whole(point: StoredPoint) -> bool:
    """Its columns are those of its version."""
    return point.sync is not None and str(point.payload["title"])[1:] == str(point.sync.seq)


def test_every_acknowledged_write_survives_a_power_cut(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its worst: of the log there is what fsync was asked for, of the segments what the last flush wrote."""
    store = EdgeStore(path, "images")
    store.prepare(DIMENSION, "f00d")
    store.apply([upsert(1, 1)])
    store.check()  # flushes
    disk = tmp_path / "disk"
    shutil.copytree(path, disk)

    def fsync(file: Path) -> None:
        if file.is_file():
            shutil.copy(file, disk / file.relative_to(path))

    monkeypatch.setattr(edge_files, "sync_file", fsync)
    store.apply([upsert(i, 5) for i in range(2, 200)])
    store.apply([set_payload(3, 6, {"title": "名"}), Delete(4, 6)])
    monkeypatch.undo()
    store.close()
    after = EdgeStore(disk, "images")
    assert after.count() == 198
    assert after.versions([1, 3, 4, 199]) == {1: sync(1), 3: sync(6), 199: sync(5)}
    assert after.get([3])[0].payload == {"title": "名"}
    after.close()


def test_reopening_finds_everything(store: EdgeStore, reopened: EdgeStore) -> None:
    store.apply([upsert(1, 1, {"title": "山水", "deep": {"a": [1, None]}}), upsert((1 << 64) - 1, 2)])
    store.close()
    assert reopened.count() == 2
    assert reopened.dimension() == DIMENSION
    [point] = reopened.get([1], with_vectors=True)
    assert (point.payload, point.sync) == ({"title": "山水", "deep": {"a": [1, None]}}, sync(1))
    assert np.allclose(point.vector, direction(1), atol=1e-6)
    assert reopened.apply([upsert(1, 1)]).stale == {1}


def test_numbers_of_half_the_size_stay_so_and_find_the_same(path: Path, reopened: EdgeStore) -> None:
    with closing(EdgeStore(path, "images", datatype="float16")) as half:
        half.prepare(DIMENSION, "f00d")
        half.apply([upsert(i, 1, vector=direction(i)) for i in range(100)])
    reopened.prepare(DIMENSION, "f00d")  # by a process with other settings
    reopened.apply([upsert(100, 1, vector=direction(100))])
    exact = sorted(range(101), key=lambda i: -float(direction(i) @ direction(50)))
    assert [hit.point.id for hit in reopened.search(direction(50), limit=5)] == exact[:5]
    [point] = reopened.get([100], with_vectors=True)
    assert np.allclose(point.vector, direction(100), atol=1e-3)
    assert not np.allclose(point.vector, direction(100), atol=1e-6)


def test_a_log_that_grows_long_is_flushed_and_nothing_is_lost(store: EdgeStore, reopened: EdgeStore) -> None:
    batch = 256
    for number in range(WRITES_PER_FLUSH // batch + 2):
        store.apply([upsert(i, number + 1) for i in range(batch)])
    store.close()
    assert {s and s.seq for s in reopened.versions(range(batch)).values()} == {number + 1}


def test_a_flush_that_failed_in_the_background_is_told_and_tried_again(
    store: EdgeStore, reopened: EdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(folder: Path) -> None:
        raise OSError(f"{folder} cannot be read")

    monkeypatch.setattr(edge, "WRITES_PER_FLUSH", 1)
    with monkeypatch.context() as broken:
        broken.setattr(edge, "sync_tree", fails)
        store.apply([upsert(1, 1)])
        wait_for_flush(store)
    with pytest.raises(StoreUnreachable, match="segments cannot be read"):
        store.apply([upsert(2, 1)])
    wait_for_flush(store)
    assert store.apply([upsert(2, 1)]).stale == {2}, "what raised is written all the same"
    store.close()
    assert reopened.count() == 2


def wait_for_flush(store: EdgeStore) -> None:
    store._require()._background.submit(lambda: None).result()  # it has one thread


def test_a_log_of_many_files_is_durable(store: EdgeStore, reopened: EdgeStore) -> None:
    """The shard starts a new log file every 32 MiB, and renames the old one, while we sync."""
    bulk = {"title": "字" * 20_000}
    for number in range(20):
        store.apply([upsert(number * 100 + i, 1, bulk) for i in range(64)])
    assert len(list((store._require().folder / "wal").glob("closed-*"))) >= 1
    store.close()
    assert reopened.count() == 20 * 64


def test_a_log_file_that_is_renamed_meanwhile_is_synced_under_its_new_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "open-1").write_text("log")
    synced: list[str] = []

    def rename_first(path: Path) -> None:
        if path.name == "open-1":
            path.rename(tmp_path / "closed-1")
        sync_file(path)
        synced.append(path.name)

    monkeypatch.setattr(edge_files, "sync_file", rename_first)
    edge_files.sync_folder(tmp_path)
    assert synced == ["closed-1", tmp_path.name]


def test_space_of_deleted_points_is_given_back_at_the_next_start(store: EdgeStore, reopened: EdgeStore) -> None:
    store.apply([upsert(i, 1) for i in range(2000)])
    store.apply([Delete(i, 2) for i in range(1500)])
    store.close()
    reopened.prepare(DIMENSION, "f00d")
    assert reopened.count() == 500
    assert {hit.point.id for hit in reopened.search(direction(1), limit=501)} == set(range(1500, 2000))
    assert reopened._require().shard.optimize() is False, "nothing is left to vacuum"


# --- one opener --------------------------------------------------------------------------------------------------------------


def test_a_second_process_is_told_who_has_the_store_and_where_to_ask(path: Path) -> None:
    process = writer(path, 1)
    try:
        for attempt in (EdgeStore(path, "images").count, EdgeStore(path, "images").check):
            with pytest.raises(StoreBusy) as error:
                attempt()
            assert error.value.api == API
            assert str(process.pid) in error.value.problem
            assert API in error.value.remedy
    finally:
        kill_after(process, 0)
    store = EdgeStore(path, "images")
    assert store.count() >= 0, "the lock ends with the process"
    store.close()


def test_a_second_opener_in_the_same_process_is_refused_until_the_first_closes(path: Path, store: EdgeStore) -> None:
    second = EdgeStore(path, "images")
    with pytest.raises(StoreBusy) as error:
        second.prepare(DIMENSION, "f00d")
    assert error.value.api == API
    assert str(os.getpid()) in error.value.problem
    store.close()
    second.prepare(DIMENSION, "f00d")
    with pytest.raises(StoreBusy) as error:
        EdgeStore(path, "images").count()
    assert error.value.api is None
    assert "qdrant.url" in error.value.remedy
    second.close()


def test_the_lock_file_says_who_and_where(path: Path, store: EdgeStore) -> None:
    lock = path / "images.lock"
    assert json.loads(lock.read_text()) == {"pid": os.getpid(), "api": API}
    store.close()
    assert lock.read_text() == ""


def test_two_aliases_in_one_folder_do_not_disturb_each_other(path: Path, store: EdgeStore) -> None:
    other = EdgeStore(path, "brands")
    other.prepare(DIMENSION + 1, "f00d")
    other.apply([upsert(1, 1, vector=direction(1, DIMENSION + 1))])
    assert (store.count(), other.count()) == (0, 1)
    other.close()


# --- the folder --------------------------------------------------------------------------------------------------------------


def test_reading_makes_no_folder(path: Path) -> None:
    store = EdgeStore(path, "images")
    assert (store.count(), store.dimension()) == (0, None)
    assert not path.exists()
    store.close()


def test_data_of_another_dimension_does_not_fit_and_stays(store: EdgeStore, reopened: EdgeStore) -> None:
    store.apply([upsert(1, 1)])
    store.close()
    with pytest.raises(DimensionMismatch, match=r"model\.name"):
        reopened.prepare(DIMENSION * 2, "0ther")
    assert reopened.count() == 1


def test_what_a_crash_during_the_first_start_left_is_no_obstacle(
    path: Path, store: EdgeStore, reopened: EdgeStore
) -> None:
    """Once before the folder had its name, once before the pointer was written."""
    store.apply([upsert(1, 1)])
    store.close()
    (path / "images.alias").unlink()
    (path / "images__f00d.new" / "segments").mkdir(parents=True)
    reopened.prepare(DIMENSION, "f00d")
    assert reopened.count() == 1
    shutil.rmtree(path / "images__f00d.new")
    (path / "brands__f00d.new" / "segments" / "half").mkdir(parents=True)
    brands = EdgeStore(path, "brands")
    brands.prepare(DIMENSION, "f00d")
    assert brands.count() == 0
    brands.close()


def test_a_nearly_full_disk_stops_writes_and_not_searches(path: Path, store: EdgeStore) -> None:
    store.apply([upsert(1, 1)])
    store.close()
    full = EdgeStore(path, "images", min_free_bytes=1 << 60)
    for write in (lambda: full.apply([upsert(2, 1)]), full.check):
        with pytest.raises(StoreUnreachable, match=r"is full.*Free some space"):
            write()
    assert [hit.point.id for hit in full.search(direction(1), limit=3)] == [1]
    full.close()


def test_a_folder_that_cannot_be_used_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match=r"qdrant\.path"):
        EdgeStore(tmp_path / "file" / "data", "images").prepare(DIMENSION, "f00d")


def test_a_damaged_collection_is_reported_and_not_replaced(path: Path, store: EdgeStore) -> None:
    store.apply([upsert(1, 1)])
    store.close()
    for segment in (path / "images__f00d" / "segments").iterdir():
        (segment / "segment.json").write_text("{")
    damaged = EdgeStore(path, "images")
    with pytest.raises(StoreUnreachable, match="cannot open"):
        damaged.prepare(DIMENSION, "f00d")
    assert (path / "images__f00d").exists()
    damaged.close()


# --- payload indexes ---------------------------------------------------------------------------------------------------------


def indexed(path: Path) -> EdgeStore:
    return EdgeStore(path, "images", indexes={"category": "keyword", "brand_id": "auto"})


def index_names(store: EdgeStore) -> set[str]:
    return set(store._require().shard.info().payload_schema)


def test_columns_are_indexed_as_the_settings_say_and_stay_so(path: Path) -> None:
    with closing(indexed(path)) as store:
        store.prepare(DIMENSION, "f00d")
        assert index_names(store) == {"category"}, "nobody knows yet what brand_id is"
        payloads = [{"category": "bus", "brand_id": n % 3} for n in range(30)]
        store.apply([upsert(n, 1, payload) for n, payload in enumerate(payloads)])
        assert index_names(store) == {"category", "brand_id"}
        store.apply([SetNames("brand_id", 2, {"brand_name": "Two"}, "_sync_brands_brand_id", 5)])
        store.apply([Delete(2, 9)])
    with closing(indexed(path)) as again:
        again.prepare(DIMENSION, "f00d")
        assert index_names(again) == {"category", "brand_id"}
        found = again.search(direction(1), limit=30, where={"brand_id": 2, "category": "bus"})
        assert {hit.point.id for hit in found} == {n for n in range(30) if n % 3 == 2} - {2}
        assert {hit.point.payload["brand_name"] for hit in found} == {"Two"}
        assert again.search(direction(1), limit=30, where={"brand_id": "2"}) == [], "a text is no number"


def test_an_index_is_added_to_points_that_are_there(path: Path, store: EdgeStore) -> None:
    store.apply([upsert(n, 1, {"category": "bus" if n % 2 else "car"}) for n in range(10)])
    store.close()
    with closing(indexed(path)) as again:
        again.prepare(DIMENSION, "f00d")
        assert index_names(again) == {"category"}
        assert len(again.search(direction(1), limit=10, where={"category": "bus"})) == 5
