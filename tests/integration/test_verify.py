"""Verification over the real pipeline: database, Kafka, listener, worker with the tiny model, embedded store."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from encoder.clip import ClipEmbedder, load
from encoder.pictures import Pictures
from encoder.worker import Worker
from ingest.tablerows import TableRows
from pixtail.app.demo.samples import make_samples
from pixtail.app.verify import pipeline
from pixtail.app.verify.options import Options
from pixtail.app.verify.report import Report
from pixtail.app.verify.running import verified
from pixtail.bus.consumer import ChangeConsumer
from pixtail.bus.dead_letters import DeadLetters
from pixtail.bus.inspection import lane_group
from pixtail.bus.topics import ensure_topics
from pixtail.core import settings
from pixtail.core.errors import SourceError
from pixtail.core.lifecycle import Stop
from pixtail.core.metrics import Metrics
from pixtail.core.points import Delete, PointId, StoredPoint, Upsert
from pixtail.core.settings import Model
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.sql import SqlServer
from sink.edge import EdgeStore
from sink.verify import Verdict
from tests.integration.listener_kit import Source, wait_for
from tests.support.points import direction

TABLE = (
    "CREATE TABLE images (id INT PRIMARY KEY, file_path VARCHAR(200), title VARCHAR(99), price DECIMAL(9,2), score FLOAT,"
    " big BIGINT UNSIGNED, at DATETIME(3), seen TIMESTAMP NULL, meta JSON, raw_bytes VARBINARY(9), kind ENUM('car', 'van'))"
)
VALUES = "'Ä car', 1.50, 0.1, 18446744073709551615, '2026-01-02 03:04:05.678', '2026-01-02 03:04:05', '{\"a\": [1, null]}', 'xy', 'van'"
ROWS = 24
SAMPLES = 8


@pytest.fixture(scope="module")
def clip() -> ClipEmbedder:
    return load(settings.Model(name="tiny-clip"), settings.Pictures())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder, and the pictures in it."""
    folder = tmp_path_factory.mktemp("pictures")
    return folder, [sample.file_path for sample in make_samples(folder, SAMPLES)]


class Site:
    """A table, its pipeline and its index."""

    def __init__(self, source: Source, store: EdgeStore, clip: ClipEmbedder, pictures: tuple[Path, list[str]]) -> None:
        self.source = source
        self.store = store
        self.clip = clip
        self.folder, self.files = pictures
        self.failure: BaseException | None = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """A worker in a thread."""
        kafka, topics, stop = self.source.settings.kafka, self.source.topics, Stop()
        ensure_topics(kafka, topics)
        live, backlog = (
            ChangeConsumer(kafka, topics.changes, lane_group(topics, lane), lane) for lane in ("live", "backlog")
        )
        files = Pictures(settings.Pictures(root=self.folder))
        worker = Worker(
            topic=topics.changes,
            live=live,
            backlog=backlog,
            dead_letters=DeadLetters(kafka, topics),
            store=self.store,
            pictures=files,
            embedder=self.clip,
            table=self.source.settings.table,
            model=Model(name="tiny-clip", max_wait_ms=5),
            metrics=Metrics(),
        )
        thread = threading.Thread(target=self._run, args=(worker, stop), name="test-worker")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(30)
            files.close()
            assert not thread.is_alive(), "the worker did not stop"
        if self.failure is not None:
            raise self.failure

    def _run(self, worker: Worker, stop: Stop) -> None:
        try:
            worker.run(stop)
        except BaseException as error:  # noqa: BLE001 - raised in the test's thread
            self.failure = error

    @contextmanager
    def running(self) -> Iterator[None]:
        with self.source.listening(), self.working():
            yield

    def wait_for_points(self, number: int) -> None:
        wait_for(lambda: self.failure or self.store.count() == number, f"{number} points")

    def verify(self, *, repair: bool = False, wait_s: float = 60) -> Report:
        options = Options(repair=repair, chunk_rows=5, wait_s=wait_s)
        fingerprint = self.clip.fingerprint
        return verified(self.source.settings, self.store, "", fingerprint, options, lambda *_: None, Stop())

    def insert(self, first: int, last: int) -> None:
        values = ", ".join(f"({n}, '{self.files[n % SAMPLES]}', {VALUES})" for n in range(first, last + 1))
        self.source.sql(f"INSERT INTO images VALUES {values}")

    def replace(self, point_id: PointId, *, payload: Any = None, new_id: PointId | None = None, **sync: Any) -> None:
        """Puts another point in the place of one, of the same version."""
        (point,) = self.store.get([point_id])
        assert point.sync is not None
        if new_id is None:
            self.forget(point)
        columns = dict(point.payload) if payload is None else payload
        written = Upsert(
            point_id if new_id is None else new_id,
            direction(1, self.clip.dimension),
            columns,
            replace(point.sync, **sync),
        )
        assert self.store.apply([written]).stale == frozenset()

    def forget(self, point: StoredPoint) -> None:
        """Without a trace: the tombstone goes too."""
        assert point.sync is not None
        self.store.apply([Delete(point.id, point.sync.seq)])
        self.store.forget(1 << 53)


@contextmanager
def opened(source: Source, folder: Path, clip: ClipEmbedder, pictures: tuple[Path, list[str]]) -> Iterator[Site]:
    with closing(EdgeStore(folder / "store", "images")) as store:
        store.prepare(clip.dimension, clip.fingerprint)
        yield Site(source, store, clip, pictures)


@pytest.fixture
def site(
    database: SqlServer, kafka: KafkaServer, unique: str, tmp_path: Path, clip: ClipEmbedder, pictures: Any
) -> Iterator[Site]:
    source = Source(database, kafka, unique)
    source.sql(TABLE)
    with opened(source, tmp_path, clip, pictures) as site:
        yield site


@contextmanager
def writing(site: Site) -> Iterator[None]:
    """Inserts, changes and deletes rows above 1000, until the end."""
    stop, failures = threading.Event(), list[BaseException]()

    def write() -> None:
        try:
            for number in count():
                if stop.is_set():
                    return
                key = 1000 + number % 7
                site.source.sql(
                    f"REPLACE INTO images (id, file_path, title) VALUES ({key}, '{site.files[number % SAMPLES]}', '{number}')",
                    f"UPDATE images SET title = 'b{number}' WHERE id = {key + number % 2}",
                    f"DELETE FROM images WHERE id = {1000 + number * 3 % 7}",
                )
        except BaseException as error:  # noqa: BLE001 - raised in the test's thread
            failures.append(error)

    thread = threading.Thread(target=write, name="test-writer")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
    assert not failures, failures


def inject(site: Site) -> dict[PointId, Verdict]:
    """One of each kind, in the store itself."""
    site.forget(site.store.get([2])[0])
    site.replace(3, new_id=77)
    site.replace(3, new_id="00000000-0000-5000-8000-000000000001")
    site.replace(4, ref="elsewhere.jpg")
    site.replace(5, model="0dd0dd")
    site.replace(6, payload={**site.store.get([6])[0].payload, "title": "wrong"})
    site.replace(7, payload={**site.store.get([7])[0].payload, "dropped": "column"})
    return {
        2: Verdict.MISSING,
        77: Verdict.ORPHAN,
        "00000000-0000-5000-8000-000000000001": Verdict.ORPHAN,
        4: Verdict.STALE,
        5: Verdict.MODEL,
        6: Verdict.PAYLOAD,
        7: Verdict.PAYLOAD,
    }


def found(report: Report) -> dict[PointId, Verdict]:
    return {difference.id: difference.verdict for difference in report.differences}


@pytest.mark.timeout(180)
def test_each_kind_of_drift_is_found_and_mended_while_everything_runs_and_nothing_else_is_reported(site: Site) -> None:
    site.insert(-2, ROWS // 2)  # by the snapshot, and keys below zero
    with site.running():
        site.wait_for_points(ROWS // 2 + 3)
        site.insert(ROWS // 2 + 1, ROWS)  # by the stream
        site.wait_for_points(ROWS + 3)
        clean = site.verify()
        assert (found(clean), clean.rows, clean.points) == ({}, ROWS + 3, ROWS + 3)

        injected = inject(site)
        with writing(site):
            report = site.verify()
            assert found(report) == injected
            assert report.drift == Counter(injected.values())
            assert (report.settled, report.notes) == (True, [])
            mended = site.verify(repair=True)
            assert (found(mended), mended.repaired, mended.notes) == ({}, len(injected), [])
        (point,) = site.store.get([7])
        assert "dropped" not in point.payload
        clean = site.verify()
        assert (found(clean), clean.changing) == ({}, 0)


@pytest.mark.timeout(120)
def test_a_picture_that_fails_is_no_drift_and_a_dropped_column_is_mended_without_encoding(site: Site) -> None:
    site.insert(1, 4)
    site.source.sql("INSERT INTO images (id, file_path) VALUES (5, 'not-there.jpg'), (6, NULL)")
    with site.running():
        site.wait_for_points(4)
        report = site.verify()
        assert (found(report), report.failed, report.rows, report.points) == ({}, 1, 6, 4)

        site.source.sql("ALTER TABLE images DROP COLUMN price, ADD COLUMN colour VARCHAR(9) NOT NULL DEFAULT 'red'")
        assert found(site.verify()) == dict.fromkeys([1, 2, 3, 4], Verdict.PAYLOAD)
        vectors = [point.vector for point in site.store.get([1, 2, 3, 4], with_vectors=True)]
        mended = site.verify(repair=True)
        assert (found(mended), mended.repaired) == ({}, 4)
        points = site.store.get([1, 2, 3, 4], with_vectors=True)
        assert [point.vector for point in points] == vectors
        assert {(point.payload.get("price"), point.payload["colour"]) for point in points} == {(None, "red")}


KEYS = {
    "text": (
        "CREATE TABLE images (name VARCHAR(20) PRIMARY KEY, file_path VARCHAR(99), title VARCHAR(9))",
        "name",
        [("'ä'",), ("'B'",), ("'c d'",), ("'7'",), ("'x'",), ("'y'",)],
    ),
    "composite": (
        "CREATE TABLE images (shelf VARCHAR(9), n INT, file_path VARCHAR(99), title VARCHAR(9), PRIMARY KEY (shelf, n))",
        ["shelf", "n"],
        [("'a'", "1"), ("'a'", "-2"), ("'b'", "1"), ("'ß'", "3"), ("'x'", "1"), ("'y'", "1")],
    ),
    "binary": (
        "CREATE TABLE images (name VARBINARY(20) PRIMARY KEY, file_path VARCHAR(99), title VARCHAR(9))",
        "name",
        [("X'00FF'",), ("X'01'",), ("X'02'",), ("X'03'",), ("X'0405'",), ("X'06'",)],
    ),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("kind", "shown"), [("text", True), ("composite", True), ("binary", True), ("composite", False)]
)
def test_keys_that_are_no_numbers_are_compared_as_well(
    mysql: SqlServer,
    kafka: KafkaServer,
    unique: str,
    tmp_path: Path,
    clip: ClipEmbedder,
    pictures: Any,
    kind: str,
    shown: bool,
) -> None:
    statement, key, keys = KEYS[kind]
    source = Source(mysql, kafka, unique, key=key, payload=() if shown else ("title",))
    rows = ", ".join(f"({', '.join((*values, repr(pictures[1][0])))}, 't')" for values in keys)
    source.sql(statement, f"INSERT INTO images VALUES {rows}")
    with opened(source, tmp_path, clip, pictures) as site, site.running():
        site.wait_for_points(len(keys))
        report = site.verify()
        assert (found(report), report.rows, report.points) == ({}, 6, 6)
        columns = " AND ".join(
            f"{name} = {value}" for name, value in zip(source.settings.table.key_columns, keys[0], strict=True)
        )
        source.sql("SET sql_log_bin = 0", f"DELETE FROM images WHERE {columns}")  # without an event
        gone = found(site.verify())
        assert list(gone.values()) == [Verdict.ORPHAN]
        lost, stale, changed, *_ = [point.id for point in site.store.scan() if point.id not in gone]
        site.forget(site.store.get([lost])[0])
        site.replace(stale, new_id="ffffffff-0000-5000-8000-000000000001")
        site.replace(stale, ref="elsewhere.jpg")
        site.replace(changed, payload={"title": "wrong"})
        injected = gone | {
            lost: Verdict.MISSING,
            stale: Verdict.STALE,
            changed: Verdict.PAYLOAD,
            "ffffffff-0000-5000-8000-000000000001": Verdict.ORPHAN,
        }
        assert found(site.verify()) == injected
        mended = site.verify(repair=True)
        assert (found(mended), mended.notes, mended.repaired) == ({}, [], len(injected))
        assert site.store.count() == len(keys) - 1


@pytest.mark.timeout(120)
def test_what_differs_is_told_where_nothing_runs_and_nothing_is_mended(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "SILENT_S", 1)
    site.insert(1, 3)
    never_started = site.verify()
    assert found(never_started) == dict.fromkeys([1, 2, 3], Verdict.MISSING)
    assert (never_started.settled, never_started.notes) == (
        False,
        ["What differs may still be on its way: no listener runs"],
    )
    with site.running():
        site.wait_for_points(3)
        assert site.verify().ok
    site.insert(4, 4)
    stopped = site.verify(repair=True)
    assert (found(stopped), stopped.settled, stopped.repaired) == ({4: Verdict.MISSING}, False, 0)
    with site.source.listening():
        site.source.wait_for_entries(4)
        assert site.verify(wait_s=0).notes == [
            "What differs may still be on its way: the worker has not come so far within 0 s"
        ]
        assert site.verify().notes == ["What differs may still be on its way: no worker runs"]


def test_a_table_that_is_altered_while_it_is_read_is_named(site: Site) -> None:
    site.insert(1, 9)
    rows = TableRows(site.source.settings, chunk_rows=2).all()
    assert next(rows)["id"] == 1
    site.source.sql("ALTER TABLE images DROP COLUMN price")
    with pytest.raises(SourceError, match="was altered while it was read"):
        list(rows)


def test_a_table_that_is_not_there_is_named(site: Site) -> None:
    site.source.sql("DROP TABLE images")
    with pytest.raises(SourceError, match="there is no table"):
        site.verify()
