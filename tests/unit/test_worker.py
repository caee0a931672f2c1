"""The worker over fakes: what ends up in the index, in the dead letters and in the offsets, whatever fails on the way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder import lookups
from encoder.fakes import DIMENSION, FakeDeadLetters, FakeEmbedder, FakeLookups, FakePictures, FakeTopic, LookupLog
from encoder.worker import Worker
from pixtail.bus.consumer import Consumed
from pixtail.core import backoff
from pixtail.core.changes import TRUNCATE_KEY, Change, Malformed, Op, Source, Tombstone, is_read
from pixtail.core.errors import BusUnreachable, DimensionMismatch, PixtailError, Reason, StoreUnreachable
from pixtail.core.lifecycle import Stop
from pixtail.core.metrics import OUTCOMES, Metrics
from pixtail.core.points import Delete, SetNames, Upsert, Write
from pixtail.core.ports import Applied, Picture
from pixtail.core.settings import Lookup, Model, Table
from sink.memory import MemoryStore
from tests.support.points import upsert

DOWN = StoreUnreachable("the store does not answer")


class FlakyStore(MemoryStore):
    """Fails the next calls of a method, one error each; `dies_after_apply` is a crash between the write and the commit."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: dict[str, list[PixtailError]] = {}
        self.dies_after_apply = False
        self.vanish: set[Any] = set()
        self.meanwhile: list[Write] = []  # done by somebody else right after the next look
        self.interrupt: Callable[[], None] = lambda: None  # the same, for what is done elsewhere
        self.dies_in_naming = False
        self.writes: list[Write] = []

    def _may_fail(self, operation: str) -> None:
        if self.failures.get(operation):
            raise self.failures[operation].pop(0)

    def versions(self, ids: Any) -> Any:
        found = super().versions(ids)
        for point_id in self.vanish & set(ids):
            self.vanish.discard(point_id)
            self._points.pop(point_id, None)
        meanwhile, self.meanwhile = self.meanwhile, []
        super().apply(meanwhile)
        interrupt, self.interrupt = self.interrupt, lambda: None
        interrupt()
        return found

    def apply(self, writes: Any) -> Applied:
        if self.dies_in_naming and any(isinstance(write, SetNames) and write.ids is None for write in writes):
            raise Crash
        applied = super().apply(writes)
        self.writes += writes
        if self.dies_after_apply:
            self.dies_after_apply = False
            raise Crash
        return applied


class Crash(Exception):
    """The process dies here."""


class Bench:
    """A worker, its collaborators, and the questions that the tests ask."""

    def __init__(self, table: Table | None = None, batch: int = 4) -> None:
        self.stop = Stop()
        self.topic = FakeTopic(self.stop)
        self.letters = FakeDeadLetters()
        self.store = FlakyStore()
        self.pictures = FakePictures({f"{name}.jpg": name.encode() for name in "abcdefgh"})
        self.embedder = FakeEmbedder()
        self.metrics = Metrics()
        self.table = table or Table()
        self.batch = batch
        self.seq = 0
        self.lookups = FakeLookups(LookupLog())
        self.outage_limit_s = 300.0

    def write(self, op: str, number: int, ref: str | None = "a.jpg", *, seq: int | None = None, **row: Any) -> int:
        self.seq = seq or self.seq + 1
        after = None if op == "d" else {"id": number, "file_path": ref, **row}
        self.topic.send(Change(Op(op), {"id": number}, None, after, self.seq, Source("app", "images", ts_ms=1000)))
        return self.seq

    def lanes(self) -> tuple[FakeTopic, FakeTopic | None]:
        """Live and backlog."""
        return self.topic, None

    def run(self) -> Bench:
        self.stop._event.clear()
        live, backlog = self.lanes()
        Worker(
            topic="t",
            live=live,
            backlog=backlog,
            dead_letters=self.letters,
            store=self.store,
            pictures=self.pictures,
            embedder=self.embedder,
            table=self.table,
            model=Model(batch=self.batch, max_wait_ms=1),
            metrics=self.metrics,
            lookups=self.lookups if self.table.lookups else None,
            outage_limit_s=self.outage_limit_s,
        ).run(self.stop)
        return self

    def crash(self) -> None:
        """A run that dies right after its first write, if it comes to write at all."""
        self.store.dies_after_apply = True
        with suppress(Crash):
            self.run()
        self.store.dies_after_apply = False

    def shows(self) -> dict[Any, tuple[str, int]]:
        """Point → path and version, after a check that each vector belongs to its picture's bytes."""
        points = self.store.get(sorted(self.store._points), with_vectors=True)
        for point in points:
            assert point.sync is not None
            data = self.pictures.files[point.sync.ref]
            np.testing.assert_allclose(point.vector, self.embedder.vector(data), atol=1e-6, err_msg=point.sync.ref)
        return {point.id: (point.sync.ref, point.sync.seq) for point in points if point.sync}

    def failing(self) -> dict[bytes, Reason]:
        return {key: letter.reason for key, letter in self.letters.letters.items()}

    def outcomes(self) -> dict[str, float]:
        counts = {name: self.metrics.images.labels(name)._value.get() for name in OUTCOMES}
        return {name: count for name, count in counts.items() if count}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off in no time."""
    monkeypatch.setattr(backoff, "pause_s", lambda *_args, **_kwargs: 0.0)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_an_inserted_row_becomes_a_point_with_its_columns(bench: Bench) -> None:
    bench.write("c", 1, "a.jpg", title="Red truck")
    assert bench.run().shows() == {1: ("a.jpg", 1)}
    [point] = bench.store.get([1])
    assert point.payload == {"image_id": 1, "file_path": "a.jpg", "title": "Red truck"}
    assert point.sync is not None
    assert (point.sync.model, point.sync.facts.bytes) == ("fa4e", 1)
    assert bench.topic.saved == 1


def test_a_changed_title_costs_no_encoding(bench: Bench) -> None:
    bench.write("c", 1, title="old")
    bench.run()
    bench.write("u", 1, title="new")
    assert bench.run().shows() == {1: ("a.jpg", 2)}
    assert bench.store.get([1])[0].payload["title"] == "new"
    assert (bench.embedder.encoded, bench.pictures.fetched) == (1, ["a.jpg"])
    assert bench.outcomes() == {"encoded": 1, "payload_only": 1}


def test_a_file_that_only_moved_is_fetched_but_not_encoded(bench: Bench) -> None:
    bench.pictures.files["moved.jpg"] = bench.pictures.files["a.jpg"]
    bench.write("c", 1, "a.jpg")
    bench.run()
    bench.write("u", 1, "moved.jpg")
    assert bench.run().shows() == {1: ("moved.jpg", 2)}
    assert bench.embedder.encoded == 1


def test_another_picture_replaces_the_vector(bench: Bench) -> None:
    bench.write("c", 1, "a.jpg")
    bench.run()
    bench.write("u", 1, "b.jpg")
    assert bench.run().shows() == {1: ("b.jpg", 2)}
    assert [type(write) for write in bench.store.writes] == [Upsert, Upsert], "in one write each"


def test_a_point_that_another_program_wrote_is_encoded_anew(bench: Bench) -> None:
    bench.write("c", 1, "a.jpg")
    bench.run()
    del bench.store._points[1].payload["_sync"]
    bench.topic.saved = 0
    assert bench.run().shows() == {1: ("a.jpg", 1)}
    assert bench.embedder.encoded == 2


def test_a_deleted_row_leaves_the_index(bench: Bench) -> None:
    bench.write("c", 1)
    bench.write("c", 2, "b.jpg")
    bench.run()
    bench.write("d", 1)
    bench.topic.send(Tombstone({"id": 1}, bench.seq))
    assert bench.run().shows() == {2: ("b.jpg", 2)}


@pytest.mark.parametrize(
    ("row", "outcome"),
    [({"ref": None}, "no_picture"), ({"ref": ""}, "no_picture"), ({"ref": "a.jpg", "active": 0}, "not_wanted")],
)
def test_a_row_leaves_the_index_and_is_counted_as_what_it_lacks_and_comes_back(
    row: dict[str, Any], outcome: str
) -> None:
    bench = Bench(Table(only={"active": True}))
    bench.write("c", 1, active=1)
    assert bench.run().shows() == {1: ("a.jpg", 1)}
    bench.write("u", 1, **{"active": 1, **row})
    assert bench.run().shows() == {}
    assert bench.outcomes() == {"encoded": 1, outcome: 1}
    bench.write("u", 1, active=1)
    assert bench.run().shows() == {1: ("a.jpg", 3)}


@pytest.mark.parametrize("row", [{"ref": None, "active": 1}, {"active": 0}])
def test_a_row_that_never_asked_for_a_point_gets_none_and_is_counted(row: dict[str, Any]) -> None:
    bench = Bench(Table(only={"active": True}))
    bench.write("c", 1, **row)
    bench.write("r", 2, **row)
    assert bench.run().shows() == {}
    assert sum(bench.outcomes().values()) == bench.outcomes()["not_wanted" if "ref" not in row else "no_picture"] == 2
    assert bench.failing() == {}


def test_a_truncate_takes_what_is_older_and_a_row_inserted_again_is_encoded_again(bench: Bench) -> None:
    bench.write("c", 1)
    bench.write("c", 2, "gone.jpg")
    bench.write("c", 3, "c.jpg")
    assert set(bench.run().shows()) == {1, 3}
    assert bench.failing() == {b'{"id":2}': Reason.NOT_FOUND}
    bench.seq += 1
    bench.topic.send(Change(Op.TRUNCATE, TRUNCATE_KEY, None, None, bench.seq, Source("app", "images")))
    bench.write("c", 1)
    assert bench.run().shows() == {1: ("a.jpg", 5)}
    assert bench.failing() == {}


def test_a_bad_picture_becomes_a_dead_letter_and_its_mates_go_through(bench: Bench) -> None:
    bench.pictures.files["x.jpg"] = b"bad"
    for number, ref in enumerate(["a.jpg", "x.jpg", "b.jpg", "gone.jpg", "c.jpg"], start=1):
        bench.write("c", number, ref)
    assert bench.run().shows() == {1: ("a.jpg", 1), 3: ("b.jpg", 3), 5: ("c.jpg", 5)}
    assert bench.failing() == {b'{"id":2}': Reason.CORRUPT, b'{"id":4}': Reason.NOT_FOUND}
    letter = bench.letters.letters[b'{"id":2}']
    assert (letter.seq, letter.attempts, letter.origin, letter.message) == (2, 1, "t/0/1", "bad by order")
    assert letter.value == bench.topic.records[1].value
    assert bench.topic.saved == 5


def test_a_point_that_shows_the_former_picture_of_a_bad_one_is_removed(bench: Bench) -> None:
    bench.write("c", 1, "a.jpg")
    bench.run()
    bench.write("u", 1, "gone.jpg")
    assert bench.run().shows() == {}


def test_a_mended_picture_clears_its_dead_letter(bench: Bench) -> None:
    bench.write("c", 1, "gone.jpg")
    bench.run()
    first = bench.letters.letters[b'{"id":1}']
    bench.write("u", 1, "gone.jpg")
    bench.run()
    second = bench.letters.letters[b'{"id":1}']
    assert (second.attempts, second.first_failed, second.seq) == (2, first.first_failed, 2)
    bench.write("u", 1, "a.jpg")
    assert bench.run().shows() == {1: ("a.jpg", 3)}
    assert bench.failing() == {}


def test_a_deleted_row_clears_its_dead_letter(bench: Bench) -> None:
    bench.write("c", 1, "gone.jpg")
    bench.run()
    bench.write("d", 1)
    assert bench.run().failing() == {}


def test_an_older_version_neither_clears_nor_overwrites_the_dead_letter_of_a_newer_one(bench: Bench) -> None:
    bench.write("c", 1, "gone.jpg", seq=9)
    bench.run()
    for ref in ("a.jpg", "missing.jpg"):
        bench.write("u", 1, ref, seq=5)
        bench.run()
        assert bench.letters.letters[b'{"id":1}'].seq == 9
        assert bench.shows() == {}


def test_a_malformed_record_is_filed_and_removes_nothing(bench: Bench) -> None:
    bench.write("c", 1)
    bench.run()
    bench.topic.send(Malformed(b'{"id":1}', b"?", "not a change event", 2), Malformed(None, b"??", "no key", 3))
    assert bench.run().shows() == {1: ("a.jpg", 1)}
    assert bench.failing() == {b'{"id":1}': Reason.MALFORMED, b'{"origin":"t/0/2"}': Reason.MALFORMED}
    bench.seq = 3
    bench.write("u", 1, title="well again")
    assert set(bench.run().failing()) == {b'{"origin":"t/0/2"}'}


def test_a_row_without_the_picture_column_is_filed_and_removes_nothing() -> None:
    """A typing error in the settings must not empty the index."""
    bench = Bench()
    bench.write("c", 1)
    bench.run()
    bench.table = Table(picture="file_paht")
    bench.write("u", 1)
    assert bench.run().shows() == {1: ("a.jpg", 1)}
    assert bench.failing() == {b'{"id":1}': Reason.MALFORMED}


def test_a_malformed_record_that_a_newer_good_one_follows_is_not_filed(bench: Bench) -> None:
    bench.topic.send(Malformed(b'{"id":1}', b"?", "not a change event", 1))
    bench.write("c", 1, seq=2)
    assert bench.run().failing() == {}


def test_a_picture_that_the_model_cannot_take_is_isolated_by_halving(bench: Bench) -> None:
    bench.embedder.poison = {b"c"}
    for number, name in enumerate("abcdefgh", start=1):
        bench.write("c", number, f"{name}.jpg")
    assert set(bench.run().shows()) == {1, 2, 4, 5, 6, 7, 8}
    assert bench.failing() == {b'{"id":3}': Reason.CORRUPT}


class Rooms(FakeTopic):
    """Remembers how many records it was asked for."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop)
        self.asked: list[int] = []

    def poll(self, timeout_s: float, max_records: int) -> list[Consumed]:
        self.asked.append(max_records)
        return super().poll(timeout_s, max_records)


def test_a_window_grows_while_no_picture_is_needed_and_shrinks_with_the_first_that_is() -> None:
    bench = Bench()
    bench.topic = topic = Rooms(bench.stop)
    bench.write("c", 1)
    bench.run()
    assert set(topic.asked) <= set(range(17)), "four batches of four"
    for _ in range(1000):
        bench.write("u", 1, title="new")
    bench.write("c", 2, "b.jpg")
    topic.asked.clear()
    assert bench.run().shows() == {1: ("a.jpg", 1001), 2: ("b.jpg", 1002)}
    assert topic.asked == [16, 32, 64, 128, 256, 256, 256, 16]


def test_no_more_pictures_are_loaded_ahead_than_keep_the_model_busy() -> None:
    bench = Bench(batch=2)
    for number in range(248):  # windows of 8 to 128
        bench.write("d", number)
    for number in range(248, 448):
        bench.write("c", number)
    ahead = 0
    decode = bench.embedder.decode

    def decoded(data: bytes) -> Picture:
        nonlocal ahead
        picture = decode(data)
        ahead = max(ahead, len(bench.pictures.fetched) - bench.embedder.encoded)
        return picture

    bench.embedder.decode = decoded  # type: ignore[method-assign]
    assert len(bench.run().shows()) == 200
    assert ahead <= 2 * 4


def test_pictures_are_encoded_in_full_batches() -> None:
    bench = Bench(batch=4)
    for number, name in enumerate("abcdefgh", start=1):
        bench.write("c", number, f"{name}.jpg")
    bench.run()
    assert sum(bench.embedder.batches) == 8
    assert max(bench.embedder.batches) <= 4


def test_of_many_changes_of_a_row_only_the_last_is_encoded(bench: Bench) -> None:
    for name in "abcd":
        bench.write("u", 1, f"{name}.jpg")
    assert bench.run().shows() == {1: ("d.jpg", 4)}
    assert bench.pictures.fetched == ["d.jpg"]


def test_a_crash_between_apply_and_commit_costs_nothing_but_the_same_work(bench: Bench) -> None:
    bench.write("c", 1)
    bench.write("c", 2, "gone.jpg")
    bench.crash()
    assert bench.topic.saved == 0
    assert bench.run().shows() == {1: ("a.jpg", 1)}
    assert bench.failing() == {b'{"id":2}': Reason.NOT_FOUND}
    assert (bench.topic.saved, bench.embedder.encoded) == (2, 1)


def test_a_store_that_is_down_is_waited_for_and_nothing_is_lost(bench: Bench) -> None:
    bench.store.failures = {"prepare": [DOWN], "versions": [DOWN, DOWN], "apply": [DOWN, DOWN, DOWN]}
    bench.write("c", 1)
    bench.write("c", 2, "gone.jpg")
    assert bench.run().shows() == {1: ("a.jpg", 1)}
    assert bench.topic.saved == 2
    assert bench.embedder.encoded == 1
    assert not any(bench.store.failures.values())


def test_a_stop_while_the_store_is_down_leaves_the_offsets_where_they_are(bench: Bench) -> None:
    bench.write("c", 1)

    class Down(list[PixtailError]):
        def pop(self, _index: Any = 0) -> PixtailError:
            bench.stop.set()
            return DOWN

    bench.store.failures = {"apply": Down([DOWN])}
    bench.run()
    assert bench.topic.saved == 0
    assert bench.shows() == {}


def test_a_collection_of_another_dimension_ends_the_worker(bench: Bench) -> None:
    bench.store.prepare(DIMENSION + 1, "other")
    with pytest.raises(DimensionMismatch):
        bench.run()


def test_kafka_away_reopens_from_the_committed_offsets(bench: Bench) -> None:
    bench.topic.failures = [BusUnreachable("away"), BusUnreachable("away")]
    bench.write("c", 1)
    assert bench.run().shows() == {1: ("a.jpg", 1)}
    assert (bench.topic.opened, bench.topic.saved) == (3, 1)


def test_dead_letters_that_cannot_be_written_hold_the_offsets_back(bench: Bench) -> None:
    bench.letters.failures = [BusUnreachable("away")]
    bench.write("c", 1, "gone.jpg")
    bench.run()
    assert bench.failing() == {b'{"id":1}': Reason.NOT_FOUND}
    assert (bench.topic.opened, bench.topic.saved) == (2, 1)


def test_partitions_that_moved_on_are_forgotten_without_harm(bench: Bench) -> None:
    bench.topic.moved_on = True
    bench.write("c", 1)
    assert bench.run().shows() == {1: ("a.jpg", 1)}
    bench.topic.moved_on = False
    assert bench.run().shows() == {1: ("a.jpg", 1)}
    assert bench.outcomes() == {"encoded": 1, "unchanged": 1}


def test_a_point_that_vanishes_before_its_columns_are_written_is_encoded_after_all(bench: Bench) -> None:
    bench.write("c", 1)
    bench.run()
    bench.write("u", 1, title="new")
    bench.store.vanish = {1}
    assert bench.run().shows() == {1: ("a.jpg", 2)}


def test_a_point_that_shows_another_picture_by_now_is_encoded_after_all(bench: Bench) -> None:
    """Somebody who was late wrote version 2, with another picture, between our look at version 1 and our columns."""
    bench.write("c", 1)
    bench.run()
    bench.write("u", 1, "b.jpg")
    bench.write("u", 1, "a.jpg", title="new")
    bench.store.meanwhile = [upsert(1, 2)]
    shown = bench.run().shows()
    assert shown == {1: ("a.jpg", 3)}
    assert bench.outcomes() == {"encoded": 2}


class OneLane(FakeTopic):
    """Of the records of another one, those of a lane."""

    def __init__(self, of: FakeTopic, lane: str) -> None:
        super().__init__(of._stop)
        self.records = of.records
        self._backlog = lane == "backlog"

    def poll(self, timeout_s: float, max_records: int) -> list[Consumed]:
        polled = super().poll(timeout_s, max_records)
        return [record for record in polled if is_read(record.value) == self._backlog]


class LanesBench(Bench):
    """Two lanes. `uploads` are written while the picture of their number is being encoded; `order` is the order in which rows were done."""

    def __init__(self) -> None:
        super().__init__(batch=4)
        self.uploads: dict[int, int] = {}
        self.order: list[int] = []
        self.encode = self.embedder.encode

    def lanes(self) -> tuple[FakeTopic, FakeTopic | None]:
        return OneLane(self.topic, "live"), OneLane(self.topic, "backlog")

    def run(self) -> Bench:
        self.embedder.encode = self.encoding  # type: ignore[method-assign]
        super().run()
        self.order = [write.id for write in self.store.writes if isinstance(write, Upsert | Delete)]  # type: ignore[misc]
        return self

    def encoding(self, pictures: Any) -> Any:
        upload = self.uploads.pop(len(self.embedder.batches), None)
        if upload is not None:
            self.write("c", upload)
        return self.encode(pictures)


def test_what_is_live_overtakes_the_backlog() -> None:
    bench = LanesBench()
    for number in range(1, 17):
        bench.write("r", number)
    bench.uploads = {1: 99}
    assert len(bench.run().shows()) == 17
    assert bench.order.index(99) == 8, "right behind the batch in which it came"


def test_the_backlog_does_not_undo_what_is_live() -> None:
    bench = LanesBench()
    for number in range(1, 17):
        bench.write("r", number)
    bench.write("u", 16, "b.jpg")
    bench.write("d", 15)
    shown = bench.run().shows()
    assert shown[16] == ("b.jpg", 17)
    assert 15 not in shown
    assert len(shown) == 15


def test_an_outage_pauses_instead_of_dead_lettering_everything() -> None:
    bench = Bench(batch=16)
    bench.pictures.outage, bench.pictures.outage_fetches = Reason.UNREACHABLE, 70
    for number in range(1, 31):
        bench.write("c", number, "a.jpg")
    assert len(bench.run().shows()) == 30
    assert bench.failing() == {}
    assert bench.outcomes() == {"encoded": 30}


def test_an_outage_that_outlasts_the_limit_ends_in_dead_letters_rather_than_never() -> None:
    bench = Bench(batch=16)
    bench.outage_limit_s = 0.05
    bench.pictures.outage = Reason.TIMEOUT
    for number in range(1, 31):
        bench.write("c", number, "a.jpg")
    bench.run()
    assert set(bench.failing().values()) == {Reason.TIMEOUT}
    assert len(bench.failing()) == 30


def test_a_few_slow_hosts_among_many_good_ones_are_no_outage() -> None:
    bench = Bench(batch=16)
    bench.pictures.errors = {"slow.jpg": Reason.TIMEOUT}
    for number in range(1, 31):
        bench.write("c", number, "slow.jpg" if number % 3 == 0 else "a.jpg")
    assert len(bench.run().shows()) == 20
    assert len(bench.failing()) == 10
    assert bench.pictures.fetched.count("slow.jpg") == 10


def test_the_metrics_tell_what_happened(bench: Bench) -> None:
    bench.write("c", 1, "a.jpg")
    bench.write("r", 2, "b.jpg")
    bench.write("c", 3, "gone.jpg")
    bench.run()
    text = bench.metrics.exposition()[0].decode()
    for line in (
        'pixtail_images_total{outcome="encoded"} 2.0',
        'pixtail_images_total{outcome="failed"} 1.0',
        "pixtail_freshness_seconds_count 1.0",
        "pixtail_batch_images_sum 2.0",
        "pixtail_bytes_fetched_total 2.0",
        'pixtail_stage_seconds_count{stage="fetch"} 3.0',
        'pixtail_stage_seconds_count{stage="decode"} 2.0',
        'pixtail_dlq_open{reason="not_found"} 1.0',
        'pixtail_dlq_open{reason="corrupt"} 0.0',
        'pixtail_dlq_total{reason="not_found"} 1.0',
        'pixtail_consumer_lag_records{partition="0"} 0.0',
        "pixtail_points 2.0",
    ):
        assert line in text.splitlines(), text


STEPS = st.tuples(
    st.sampled_from(["write", "crash", "run"]), st.integers(1, 3), st.sampled_from("cud"), st.sampled_from("abx")
)


@given(st.lists(STEPS, max_size=12))
def test_whatever_is_written_and_wherever_it_crashes_the_index_ends_in_the_newest_state(
    steps: list[tuple[str, int, str, str]],
) -> None:
    """x.jpg is no picture: its rows have a dead letter and no point."""
    bench = Bench()
    bench.pictures.files["x.jpg"] = b"bad"
    rows: dict[int, tuple[str, int]] = {}
    for action, number, op, name in steps:
        if action == "write":
            seq = bench.write(op, number, f"{name}.jpg")
            rows.pop(number, None)
            rows |= {} if op == "d" else {number: (f"{name}.jpg", seq)}
        elif action == "crash":
            bench.crash()
        else:
            bench.run()
    bench.run()
    assert bench.shows() == {n: (ref, seq) for n, (ref, seq) in rows.items() if ref != "x.jpg"}
    assert bench.failing() == {b'{"id":%d}' % n: Reason.CORRUPT for n, (ref, _) in rows.items() if ref == "x.jpg"}


def test_an_upsert_is_written_for_nothing_but_a_new_picture(bench: Bench) -> None:
    bench.write("c", 1)
    bench.run()
    bench.write("u", 1, title="new")
    bench.run()
    assert [type(write) for write in bench.store.writes].count(Upsert) == 1


# --- names from lookups ------------------------------------------------------------------------------------------------------


class Shop(Bench):
    """Rows with brands, whose names stand in a table of their own."""

    def __init__(self) -> None:
        brands = Lookup(table="brands", column="brand_id", take={"name": "brand_name"})
        models = Lookup(table="models", column="model_id", take={"name": "model_name"})
        super().__init__(Table(lookups=(brands, models)))
        self.log = self.lookups.log

    def brand(self, name: str | None, key: int = 7, table: str = "brands") -> None:
        """None: the row is deleted."""
        self.seq += 1
        after = None if name is None else {"id": key, "name": name}
        op = Op.UPDATE if after else Op.DELETE
        self.log.records.append((table, Change(op, {"id": key}, None, after, self.seq, Source("app", table))))

    def names(self) -> dict[Any, Any]:
        points = self.store.get(sorted(self.store._points))
        return {point.id: (point.payload.get("brand_name"), point.payload.get("model_name")) for point in points}

    def named(self) -> list[SetNames]:
        """The writes by filter so far, those that are kept to a window's points apart."""
        return [one for one in self.store.writes if isinstance(one, SetNames) and one.ids is None]


@pytest.fixture
def shop() -> Shop:
    return Shop()


def test_points_get_the_names_that_their_keys_stand_for(shop: Shop) -> None:
    shop.brand("Acme")
    shop.brand("T", 3, "models")
    shop.write("c", 1, brand_id=7, model_id=3)
    shop.write("c", 2, "b.jpg", brand_id=8, model_id=None)
    assert shop.run().names() == {1: ("Acme", "T"), 2: (None, None)}
    assert shop.store.get([1])[0].payload.keys() == {
        "image_id",
        "file_path",
        "brand_id",
        "model_id",
        "brand_name",
        "model_name",
    }


def test_a_brand_that_comes_later_is_renamed_or_deleted_changes_its_points_without_any_encoding(shop: Shop) -> None:
    shop.write("c", 1, brand_id=7)
    shop.write("c", 2, "b.jpg", brand_id=8)
    assert shop.run().names() == {1: (None, None), 2: (None, None)}
    for name in ("Acme", "ACME", None, "Acme again"):
        shop.brand(name)
        assert shop.run().names() == {1: (name, None), 2: (None, None)}
    assert shop.embedder.encoded == 2
    assert shop.outcomes() == {"encoded": 2}


def test_a_rename_is_one_write_and_the_next_start_does_not_repeat_it(shop: Shop) -> None:
    shop.brand("Acme")
    for number in range(1, 5):
        shop.write("c", number, brand_id=7)
    shop.run()
    shop.brand("ACME")
    shop.run().run()
    assert [(one.value, one.names) for one in shop.named()] == [(7, {"brand_name": "ACME"})]


def test_nothing_is_written_by_filter_while_there_are_no_points(shop: Shop) -> None:
    for key in range(300):
        shop.brand(f"b{key}", key)
    shop.run()
    shop.write("c", 1, brand_id=7)
    assert shop.run().names() == {1: ("b7", None)}
    assert shop.named() == []


def test_a_change_of_what_is_not_taken_writes_nothing(shop: Shop) -> None:
    shop.brand("Acme")
    shop.write("c", 1, brand_id=7)
    shop.run()
    shop.store.interrupt = lambda: shop.brand("Acme")
    shop.write("u", 1, brand_id=7, title="x")
    shop.run()
    assert shop.named() == []


def test_many_changes_of_a_brand_are_one_write(shop: Shop) -> None:
    shop.write("c", 1, brand_id=7)
    shop.run()
    for number in range(100):
        shop.brand(f"b{number}")
    assert shop.run().names() == {1: ("b99", None)}
    assert len(shop.named()) == 1


@pytest.mark.parametrize("turn_s", [0.0, 1.0])
def test_hundreds_of_brands_that_come_late_are_all_written_however_slow_the_store_is(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, turn_s: float
) -> None:
    monkeypatch.setattr(lookups, "TURN_S", turn_s)
    for number in range(4):
        shop.write("c", number, brand_id=number * 250)
    shop.run()
    for key in range(1000):
        shop.brand(f"b{key}", key)
    assert shop.run().names() == {number: (f"b{number * 250}", None) for number in range(4)}


def test_a_rename_during_a_window_is_mended_before_the_commit(shop: Shop) -> None:
    """What was written by then had the old name, and the worker dies before it comes to the write by filter."""
    shop.brand("Acme")
    shop.run()
    shop.store.interrupt = lambda: shop.brand("ACME")
    shop.write("c", 1, brand_id=7)
    shop.store.dies_in_naming = True
    with suppress(Crash):
        shop.run()
    assert shop.topic.saved == 1
    assert shop.names() == {1: ("ACME", None)}


def test_a_worker_that_dies_before_the_commit_leaves_no_old_name(shop: Shop) -> None:
    """The row comes again and is unchanged; the brand's change counts as followed, by another worker."""
    shop.brand("Acme")
    shop.run()
    shop.write("c", 1, brand_id=7)
    shop.crash()
    assert (shop.topic.saved, shop.names()) == (0, {1: ("Acme", None)})
    shop.brand("ACME")
    shop.log.followed = len(shop.log.records)
    assert shop.run().names() == {1: ("ACME", None)}
    assert shop.outcomes() == {"unchanged": 1}


def test_a_crash_between_a_brands_change_and_its_write_costs_nothing(shop: Shop) -> None:
    shop.write("c", 1, brand_id=7)
    shop.run()
    shop.brand("Acme")
    shop.crash()
    shop.store._points[1].payload.pop("brand_name")  # as if it had died before
    assert shop.run().names() == {1: ("Acme", None)}


def test_while_kafka_is_away_no_row_is_worked_on_with_unread_names(shop: Shop) -> None:
    shop.brand("Acme")
    shop.write("c", 1, brand_id=7)
    shop.lookups.failures = [BusUnreachable("away")] * 3
    assert shop.run().names() == {1: ("Acme", None)}
