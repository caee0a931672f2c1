"""Core points to vendor-neutral pieces, and which writes go together."""

from __future__ import annotations

from typing import Any

import pytest

from pixtail.core.errors import UsageError
from pixtail.core.points import Delete, PointId, Sync, Truncate, Write
from sink.batches import by_floor, groups, overtaken, refused, undone
from sink.collection import collection_name
from sink.points import Equals, EqualsNumber, IsEmpty, conditions, matches, path_of, payload_of, portable, stored_point
from tests.support.points import set_payload, sync, upsert


def test_an_upsert_leaves_nulls_out_and_a_payload_keeps_them_as_removals() -> None:
    assert payload_of(upsert(1, 2, {"a": None, "b": 1})) == {"b": 1, "_sync": sync(2).as_payload()}
    assert payload_of(set_payload(1, 2, {"a": None, "b": 1})) == {"a": None, "b": 1, "_sync": sync(2).as_payload()}


def test_a_column_of_the_bookkeepings_name_does_not_displace_it() -> None:
    assert payload_of(upsert(1, 2, {"_sync": "mine"})) == {"_sync": sync(2).as_payload()}


def test_what_is_stored_comes_back_as_columns_and_bookkeeping() -> None:
    point = stored_point(1, payload_of(upsert(1, 2, {"b": 1})))
    assert (point.payload, point.sync) == ({"b": 1}, sync(2))
    assert stored_point(1, None).sync is None


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ((1 << 63) - 1, (1 << 63) - 1),
        (1 << 63, str(1 << 63)),
        (-(1 << 63) - 1, str(-(1 << 63) - 1)),
        ({"a": [1 << 64, (True, None)]}, {"a": [str(1 << 64), [True, None]]}),
        (True, True),
        (1.5, 1.5),
    ],
)
def test_only_integers_that_no_store_could_keep_become_text(value: Any, kept: Any) -> None:
    assert portable(value) == kept
    assert type(portable(value)) is type(kept)


def test_where_becomes_conditions_by_the_values_type() -> None:
    assert conditions({"a": 1, "b": True, "c": "x", "d": 1.0, "e": None}) == [
        Equals("a", 1),
        Equals("b", True),
        Equals("c", "x"),
        EqualsNumber("d", 1.0),
        IsEmpty("e"),
    ]
    assert conditions(None) == []


@pytest.mark.parametrize(
    ("stored", "asked", "holds"),
    [
        (1, 1, True),
        (1.0, 1, False),
        (True, 1, False),
        (1, True, False),
        (1, 1.0, True),
        (True, 1.0, False),
        ("1", 1, False),
        (["a", "b"], "b", True),
        ([], None, True),
        ("", None, False),
        (0, None, False),
    ],
)
def test_equality_keeps_types_apart_as_qdrant_does(stored: Any, asked: Any, holds: bool) -> None:
    assert matches({"a": stored}, conditions({"a": asked})) is holds


@pytest.mark.parametrize(
    ("column", "path"), [("brand_name", "brand_name"), ("a.b", '"a.b"'), ("a b", '"a b"'), ("名", '"名"')]
)
def test_a_column_that_is_no_plain_word_is_quoted_in_paths(column: str, path: str) -> None:
    assert path_of(column) == path


def test_a_column_with_a_quotation_mark_cannot_be_searched() -> None:
    with pytest.raises(UsageError, match="quotation mark"):
        path_of('a"b')


def test_the_collection_is_named_after_alias_and_model() -> None:
    assert collection_name("images", "f00d") == "images__f00d"


# --- groups ------------------------------------------------------------------------------------------------------------------


def test_groups_keep_the_order_and_hold_no_id_twice() -> None:
    a, b, again, truncate, c = upsert(1, 1), Delete(2, 2), set_payload(1, 3), Truncate(4), upsert(3, 5)
    assert list(groups([a, b, again, truncate, c])) == [[a, b], [again], truncate, [c]]


def test_a_truncate_at_either_end_makes_no_empty_group() -> None:
    writes: list[Write] = [Truncate(1), upsert(1, 2), Truncate(3)]
    assert list(groups(writes)) == [Truncate(1), [writes[1]], Truncate(3)]
    assert list(groups([])) == []


def test_a_group_is_no_larger_than_the_limit() -> None:
    writes = [Delete(i, 1) for i in range(5)]
    assert list(groups(writes, limit=2)) == [writes[:2], writes[2:4], writes[4:]]


@pytest.mark.parametrize(
    ("stored_seq", "refuses_upsert", "refuses_delete"), [(4, False, False), (5, True, False), (6, True, True)]
)
def test_what_is_newer_refuses_and_a_delete_takes_its_own_version(
    stored_seq: int, refuses_upsert: bool, refuses_delete: bool
) -> None:
    stored: dict[PointId, Sync | None] = {1: sync(stored_seq)}
    assert refused(upsert(1, 5), stored) is refused(set_payload(1, 5), stored) is refuses_upsert
    assert refused(Delete(1, 5), stored) is refuses_delete
    assert overtaken(upsert(1, 5), stored) is (stored_seq > 5)
    assert undone(Delete(1, 5), stored) is (stored_seq <= 5)


def test_nothing_refuses_where_there_is_no_point_or_no_bookkeeping() -> None:
    for stored in ({}, {1: None}):
        assert not refused(upsert(1, 0), stored)
        assert not refused(Delete(1, 0), stored)
        assert not undone(upsert(1, 0), stored)


def test_what_may_share_a_condition_is_older_than_every_write_of_it() -> None:
    writes = [upsert(1, 10), upsert(2, 20), upsert(3, 30), upsert(4, 40)]
    shared, single, floor = by_floor(writes, {1: sync(9), 2: sync(10), 3: sync(29), 4: None})
    assert ([w.id for w in shared], [w.id for w in single], floor) == ([1, 4], [2, 3], 10)
    deletes = [Delete(1, 10), Delete(2, 20), Delete(3, 30)]
    shared_deletes, single_deletes, floor = by_floor(deletes, {1: sync(10), 2: sync(11)})
    assert ([w.id for w in shared_deletes], [w.id for w in single_deletes], floor) == ([1, 3], [2], 10)
    assert by_floor([], {}) == ([], [], 0)
