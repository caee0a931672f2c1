"""A verification beside a pipeline that is always a little behind, and beside writers that never rest."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.plan import Encode, PayloadOnly, Remove, decide
from pixtail.app.verify import verifier as verifier_module
from pixtail.app.verify.expected import wants
from pixtail.app.verify.options import Options
from pixtail.app.verify.report import Report
from pixtail.app.verify.verifier import Verifier
from pixtail.core.backoff import Stopping
from pixtail.core.errors import UsageError
from pixtail.core.lifecycle import Stop
from pixtail.core.points import Delete, PictureFacts, PointId, SetPayload, Sync, Upsert, Write, point_id
from pixtail.core.settings import Table
from sink.memory import MemoryStore, _Point
from sink.verify import KeyValues, Verdict
from tests.support.points import DIMENSION, direction

MODEL = "f00d"
FACTS = PictureFacts("", 1, 1, "JPEG", 1)
FAR = 1 << 40  # the first seq; there is room below it


class World:
    """A table, the changes that have not reached the index yet, and the index. `chance` interferes wherever something can be read."""

    def __init__(self, table: Table | None = None, chance: random.Random | None = None) -> None:
        self.table = table or Table()
        self.store = WatchedStore(self)
        self.store.prepare(DIMENSION, MODEL)
        self.rows: dict[KeyValues, dict[str, Any]] = {}
        self.log: list[tuple[int, KeyValues, dict[str, Any] | None]] = []  # seq, key, row
        self.passed = 0
        self.broken: set[str] = set()  # pictures that fail
        self.letters: set[PointId] = set()
        self.busy: Sequence[KeyValues] = ()
        self.stands_still = ""
        self.no_listener = ""
        self._chance = chance or random.Random(0)
        self._interfering = False

    def put(self, *key: Any, file_path: str | None = "a.jpg", **columns: Any) -> None:
        row = dict(zip(self.table.key_columns, key, strict=True)) | {"file_path": file_path, **columns}
        self.rows[key] = row
        self._log(key, row)

    def remove(self, *key: Any) -> None:
        self.rows.pop(key, None)
        self._log(key, None)

    def _log(self, key: KeyValues, row: dict[str, Any] | None) -> None:
        self.log.append((FAR + len(self.log) * 1024, key, row))

    def id_of(self, key: KeyValues) -> PointId:
        return point_id("images", dict(zip(self.table.key_columns, key, strict=True)))

    def work(self, up_to: int | None = None) -> None:
        """The listener and the worker, as far as the change with this number."""
        while self.passed < (len(self.log) if up_to is None else up_to):
            seq, key, row = self.log[self.passed]
            self.passed += 1
            self._apply(seq, self.id_of(key), row)

    def _apply(self, seq: int, row_id: PointId, row: dict[str, Any] | None) -> None:
        wanted = None if row is None else wants(row, self.table, lambda _row: {})
        stored = MemoryStore.versions(self.store, [row_id]).get(row_id)
        decision = decide(seq, wanted or Remove("deleted"), stored, MODEL)
        self.letters.discard(row_id)
        if isinstance(decision, Remove) or (wanted is not None and wanted.ref in self.broken):
            self._write(Delete(row_id, seq))
            if wanted is not None:
                self.letters.add(row_id)
        elif isinstance(decision, PayloadOnly):
            self._write(
                SetPayload(row_id, decision.wanted.payload, self._sync(seq, decision.wanted.ref), decision.stored.seq)
            )
        elif isinstance(decision, Encode):
            self._write(Upsert(row_id, direction(1), decision.wanted.payload, self._sync(seq, decision.wanted.ref)))

    def _sync(self, seq: int, ref: str) -> Sync:
        return Sync(seq, ref, MODEL, FACTS, "")

    def _write(self, write: Write) -> None:
        MemoryStore.apply(self.store, [write])

    def interfere(self) -> None:
        """Anything may happen to the busy rows, and any number of changes may reach the index."""
        if not self.busy or self._interfering:
            return
        self._interfering = True
        for _ in range(self._chance.choice((0, 0, 1, 3))):
            key = self._chance.choice(self.busy)
            if self._chance.random() < 0.3:
                self.remove(*key)
            else:
                self.put(*key, file_path=self._chance.choice("abc"), title=self._chance.choice("xy"))
        self.work(self._chance.randint(self.passed, len(self.log)))
        self._interfering = False

    # What a verification asks

    def about(self) -> int:
        return len(self.rows)

    def all(self) -> Iterator[dict[str, Any]]:
        seen: list[KeyValues] = []
        while rest := [key for key in sorted(self.rows) if not seen or key > seen[-1]]:
            seen.append(rest[0])
            yield dict(self.rows[rest[0]])
            self.interfere()

    def having(self, keys: Sequence[KeyValues]) -> Sequence[dict[str, Any]]:
        self.interfere()
        if any(
            not isinstance(value, type(known))
            for key in keys
            for known_key in self.rows
            for value, known in zip(key, known_key, strict=True)
        ):
            raise UsageError("no key of this table")
        return [dict(self.rows[key]) for key in keys if key in self.rows]

    def end(self) -> int:
        return len(self.log)

    def failing(self) -> frozenset[PointId]:
        return frozenset(self.letters)

    def wait(self, end: int) -> str:
        if not self.stands_still:
            self.work(max(end, self.passed))
        self.interfere()
        return self.stands_still

    def send_again(self, keys: Sequence[KeyValues]) -> str:
        for key in keys:
            if key in self.rows:
                self._log(key, self.rows[key])
        return self.no_listener

    def verify(self, *, repair: bool = False) -> Report:
        verifier = Verifier(
            table=self.table,
            rows=self,
            store=self.store,
            model=MODEL,
            pipeline=self,
            show=lambda doing, done, about: None,
            stop=Stop(),
        )
        return verifier.run(Options(repair=repair))


class WatchedStore(MemoryStore):
    """Lets the world interfere before whatever a verification reads."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def versions(self, ids: Any) -> Any:
        self._world.interfere()
        return super().versions(ids)

    def get(self, ids: Any, **options: Any) -> Any:
        self._world.interfere()
        return super().get(ids, **options)


Inject = Callable[[World, KeyValues], None]


def stored(world: World, key: KeyValues) -> Any:
    return MemoryStore.get(world.store, [world.id_of(key)])[0]


def lose(world: World, key: KeyValues) -> None:
    world.store._points.pop(world.id_of(key))


def leave_behind(world: World, key: KeyValues) -> None:
    world.rows.pop(key)


def rewrite(**changes: Any) -> Inject:
    """Another point in the place of the right one, of the same version."""

    def inject(world: World, key: KeyValues) -> None:
        point = stored(world, key)
        payload = changes.get("payload", point.payload)
        sync = replace(point.sync, **{name: value for name, value in changes.items() if name != "payload"})
        lose(world, key)
        MemoryStore.apply(world.store, [Upsert(point.id, direction(2), payload, sync)])

    return inject


def gain_column(world: World, key: KeyValues) -> None:
    rewrite(payload={**stored(world, key).payload, "dropped": 1})(world, key)


INJECTIONS: list[tuple[Verdict, Inject]] = [
    (Verdict.MISSING, lose),
    (Verdict.ORPHAN, leave_behind),
    (Verdict.STALE, rewrite(ref="other.jpg")),
    (Verdict.MODEL, rewrite(model="0dd")),
    (Verdict.PAYLOAD, rewrite(payload={"title": "wrong"})),
    (Verdict.PAYLOAD, gain_column),
]
TABLES = [
    (Table(), [(number,) for number in range(-3, 24)]),
    (Table(key="name"), [(f"n{number}",) for number in range(24)]),
    (Table(key=("shelf", "place")), [(f"s{number % 3}", number) for number in range(24)]),
    (Table(key=("shelf", "place"), payload=("title",)), [(f"s{number % 3}", number) for number in range(24)]),
]


@pytest.mark.parametrize(("table", "keys"), TABLES, ids=["numbers", "names", "two columns", "key not shown"])
@hypothesis.settings(deadline=None, max_examples=40)
@given(
    drift=st.lists(st.sampled_from(range(len(INJECTIONS) + 4)), min_size=12, max_size=12),
    seed=st.integers(0, 1 << 32),
)
def test_what_was_put_wrong_is_found_and_mended_and_nothing_else_however_busy_the_table(
    table: Table, keys: list[KeyValues], drift: list[int], seed: int
) -> None:
    """Every second row is quiet, and may be wrong; the others change all the while, and are never reported."""
    world = World(table, random.Random(seed))
    for key in keys:
        world.put(*key, title="x")
    world.work()
    wrong = {}
    for key, number in zip(keys[::2], drift, strict=False):
        if number < len(INJECTIONS):
            verdict, inject = INJECTIONS[number]
            inject(world, key)
            wrong[world.id_of(key)] = verdict
    world.busy = keys[1::2]
    report = world.verify()
    assert {found.id: found.verdict for found in report.differences} == wrong
    assert report.drift == Counter(wrong.values())
    assert report.settled

    mended = world.verify(repair=True)
    assert (mended.drift.total(), mended.repaired, mended.notes) == (0, len(wrong), [])
    world.busy = ()
    world.work()
    clean = world.verify()
    assert (clean.ok, clean.changing, clean.rows) == (True, 0, len(world.rows))


def small(*keys: int) -> World:
    world = World()
    for key in keys:
        world.put(key)
    world.work()
    return world


def test_a_pipeline_that_stands_still_is_named_and_nothing_is_repaired() -> None:
    world = small(1, 2)
    world.put(3)
    leave_behind(world, (1,))
    world.stands_still = "no worker runs"
    report = world.verify(repair=True)
    assert report.drift == {Verdict.MISSING: 1, Verdict.ORPHAN: 1}
    assert (report.settled, report.repaired) == (False, 0)
    assert report.notes == ["What differs may still be on its way: no worker runs"]
    assert world.store.count() == 2


def test_where_nothing_differs_nobody_waits_for_the_pipeline() -> None:
    world = small(1, 2)
    world.stands_still = "no worker runs"
    report = world.verify()
    assert (report.ok, report.settled, report.rows, report.points) == (True, True, 2, 2)


def test_a_row_whose_picture_fails_is_no_drift() -> None:
    world = small(1, 2)
    world.broken.add("bad.jpg")
    world.put(2, file_path="bad.jpg")
    world.work()
    report = world.verify()
    assert (report.ok, report.failed) == (True, 1)


def test_a_row_that_fails_when_it_is_mended_is_no_drift_afterwards() -> None:
    world = small(1, 2)
    lose(world, (2,))
    world.broken.add("a.jpg")
    report = world.verify(repair=True)
    assert (report.ok, report.failed, report.repaired) == (True, 1, 1)


def test_a_point_of_another_program_is_counted_and_left_alone() -> None:
    world = small(1)
    world.store._points[5] = _Point({"title": "theirs"}, direction(3))
    report = world.verify(repair=True)
    assert (report.ok, report.foreign, world.store.count()) == (True, 1, 2)


def test_without_a_listener_orphans_are_deleted_and_the_rest_is_left() -> None:
    world = small(1, 2, 3)
    lose(world, (1,))
    leave_behind(world, (2,))
    world.no_listener = "No listener runs"
    world.send_again = lambda keys: world.no_listener  # type: ignore[method-assign]
    report = world.verify(repair=True)
    assert report.drift == {Verdict.MISSING: 1}
    assert (report.repaired, report.notes) == (1, ["No listener runs"])


def test_an_orphan_whose_row_came_back_meanwhile_keeps_its_newer_point() -> None:
    world = small(1, 2)
    leave_behind(world, (2,))
    apply = world.store.apply

    def late(writes: Any) -> Any:
        world.put(2, file_path="b.jpg")
        world.work()
        return apply(writes)

    world.store.apply = late  # type: ignore[method-assign]
    report = world.verify(repair=True)
    assert report.ok
    assert stored(world, (2,)).sync.ref == "b.jpg"


def test_rows_that_leave_the_index_by_only_are_orphans_as_long_as_their_points_are_there() -> None:
    world = small(1, 2)
    world.rows[(2,)]["status"] = "draft"
    world.rows[(1,)]["status"] = "public"
    world.table = Table(only={"status": "public"}, payload=("id", "file_path"))
    report = world.verify()
    assert {found.id: found.verdict for found in report.differences} == {2: Verdict.ORPHAN}


def test_a_row_that_lacks_a_column_of_the_settings_is_not_judged() -> None:
    world = small(1, 2)
    world.table = Table(only={"status": "public"})
    report = world.verify(repair=True)
    assert (report.ok, report.failed, world.store.count()) == (True, 2, 2)


def test_beyond_a_number_of_candidates_the_rest_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier_module, "MOST_CANDIDATES", 3)
    world = small(*range(10))
    for number in range(8):
        lose(world, (number,))
    report = world.verify(repair=True)
    assert report.drift == {Verdict.MISSING: 5}
    assert report.repaired == 3
    assert "Beyond 3 differences" in report.notes[0]
    assert world.verify().drift == {Verdict.MISSING: 5}


def test_a_number_in_an_index_of_a_text_key_is_an_orphan() -> None:
    world = World(Table(key="name"))
    world.put("a")
    world.work()
    MemoryStore.apply(world.store, [Upsert(5, direction(1), {}, world._sync(1, "a.jpg"))])
    report = world.verify(repair=True)
    assert (report.repaired, report.ok, world.store.count()) == (1, True, 1)


def test_it_stops_when_it_is_told_to() -> None:
    world, stop = small(1), Stop()
    stop.set()
    verifier = Verifier(
        table=world.table, rows=world, store=world.store, model=MODEL, pipeline=world, show=print, stop=stop
    )
    with pytest.raises(Stopping):
        verifier.run(Options())
