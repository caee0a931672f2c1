"""Rows and points side by side: what is missing, too many or wrong, and nothing else."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixtail.core.points import PictureFacts, PointId, StoredPoint, Sync
from sink.scanning import id_order
from sink.sorting import in_id_order
from sink.verify import Asked, Verdict, digest, judge, side_by_side

MODEL, OTHER_MODEL = "f00d", "0dd"
FACTS = PictureFacts("", 1, 1, "JPEG", 1)
NUMBERS = st.integers(0, 40)
UUIDS = st.integers(0, 40).map(lambda number: str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))))
IDS = st.one_of(NUMBERS, UUIDS)


def sync(ref: str = "a.jpg", model: str = MODEL) -> Sync:
    return Sync(7, ref, model, FACTS, "2026-11-21T08:00:00.000Z")


def row(point_id: PointId, ref: str | None = "a.jpg", title: str = "A") -> Asked:
    return Asked(point_id, (point_id,), ref, digest({"title": title}))


def point(point_id: PointId, ref: str = "a.jpg", title: str = "A", model: str = MODEL) -> StoredPoint:
    return StoredPoint(point_id, {"title": title}, sync(ref, model))


# Each way in which one id may stand: its row, its point, and whether its picture fails.
WAYS: dict[Verdict, list[tuple[Any, Any, bool]]] = {
    Verdict.RIGHT: [
        (row, point, False),
        (row, point, True),  # the letter is about a version that is past
        (lambda i: row(i, None), None, False),
    ],
    Verdict.MISSING: [(row, None, False)],
    Verdict.ORPHAN: [(None, point, False), (lambda i: row(i, None), point, False)],
    Verdict.STALE: [
        (row, lambda i: point(i, "b.jpg"), False),
        (row, lambda i: point(i, "b.jpg", "B", OTHER_MODEL), False),
    ],
    Verdict.MODEL: [(row, lambda i: point(i, model=OTHER_MODEL), False)],
    Verdict.PAYLOAD: [
        (row, lambda i: point(i, title="B"), False),
        (row, lambda i: StoredPoint(i, {"title": "A", "old": 1}, sync()), False),
        (row, lambda i: StoredPoint(i, {}, sync()), False),
    ],
    Verdict.FAILED: [
        (row, None, True),
        (lambda i: Asked(i, (i,), None, readable=False), None, True),
        (lambda i: Asked(i, (i,), None, readable=False), point, False),
    ],
    Verdict.FOREIGN: [
        (row, lambda i: StoredPoint(i, {}, None), False),
        (None, lambda i: StoredPoint(i, {"title": "A"}, None), False),
    ],
}
CASES = [(verdict, way) for verdict, ways in WAYS.items() for way in ways]


@given(st.dictionaries(IDS, st.sampled_from(CASES), max_size=30))
def test_every_id_gets_the_verdict_it_deserves_and_none_is_left_out(world: dict[PointId, Any]) -> None:
    rows = [ask(point_id) for point_id, (_, (ask, _, _)) in world.items() if ask]
    points = [make(point_id) for point_id, (_, (_, make, _)) in world.items() if make]
    failing = {point_id for point_id, (_, (_, _, fails)) in world.items() if fails}

    def in_order(of: Any) -> Any:
        return sorted(of, key=lambda one: id_order(one.id))

    found = {
        point_id: judge(asked, stored, MODEL, failing=point_id in failing)
        for point_id, asked, stored in side_by_side(in_order(rows), in_order(points))
    }
    assert found == {point_id: verdict for point_id, (verdict, _) in world.items()}


@given(st.lists(NUMBERS, unique=True).map(sorted), st.lists(UUIDS, unique=True), st.randoms())
def test_rows_come_in_the_order_of_ids_whatever_the_order_of_their_keys(
    numbers: list[int], uuids: list[str], chance: Any
) -> None:
    """Numbers come in order among themselves, as an integer key does; UUIDs anywhere between them."""
    rows = [row(number) for number in numbers]
    for text in uuids:
        made = Asked(text, (f"k{text}", 3, 1.5), None if text < "5" else "ä.jpg", b"\x00d", text < "9")
        rows.insert(chance.randint(0, len(rows)), made)
    assert list(in_id_order(rows)) == sorted(rows, key=lambda one: id_order(one.id))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1, "b": None}, {"a": 1}),
        ({"n": 1 << 63}, {"n": str(1 << 63)}),  # no store has a wider integer
        ({"j": {"x": [1, {"y": 2, "z": 3}]}}, {"j": {"x": [1, {"z": 3, "y": 2}]}}),
    ],
)
def test_columns_are_equal_as_stores_keep_them(one: Any, other: Any) -> None:
    assert digest(one) == digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": "1"}),
        ({"a": 1}, {"b": 1}),
        ({"a": ""}, {}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"a": True}, {"a": 1}),
    ],
)
def test_columns_that_differ_have_other_digests(one: Any, other: Any) -> None:
    assert digest(one) != digest(other)
