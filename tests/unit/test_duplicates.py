"""Duplicates of an index, from its points alone."""

from __future__ import annotations

import sqlite3
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixtail.core.errors import PixtailError
from pixtail.core.points import PointId, StoredPoint, Sync
from pixtail.search.duplicates import Alike, Copies, _Rows, find_duplicates
from tests.support.points import direction, sync


def point(point_id: PointId, picture: int | None, look: int | None = None) -> StoredPoint:
    """Its file is known by `picture` (None: another program's point), its vector by `look`."""
    vector = direction(picture or 0 if look is None else look, 64)
    return StoredPoint(point_id, {}, None if picture is None else sync(picture), vector.tolist())


def sha256(picture: int) -> str:
    return f"{picture:064x}"


def test_copies_of_a_file_are_listed_the_most_first() -> None:
    found = find_duplicates([point(1, 1), point(2, 2), point(3, 1), point(4, 2), point(5, 2), point(6, 3)], None, 10)
    assert found.exact == [Copies(sha256(2), [2, 4, 5]), Copies(sha256(1), [1, 3])]
    assert (found.points, found.exact_groups, found.near, found.near_groups) == (6, 2, [], 0)


def test_pictures_that_look_the_same_are_near_but_copies_of_one_file_count_once() -> None:
    found = find_duplicates([point("a", 1, 7), point(2, 2, 7), point(3, 2, 7), point(4, 3, 8)], 0.97, 10)
    assert found.exact == [Copies(sha256(2), [2, 3])]
    assert found.near == [[Alike("a", 1.0, 2), Alike(2, 1.0, "a")]]
    assert (found.near_pairs, found.near_groups) == (1, 1)


def test_points_without_a_hash_are_compared_and_never_taken_for_copies() -> None:
    broken = StoredPoint(
        3, {}, Sync(1, "", "", type(sync(1).facts)("no hash", 0, 0, "", 0), ""), direction(9, 64).tolist()
    )
    found = find_duplicates([point(1, None, 9), point(2, None, 8), broken], 0.9, 10)
    assert found.exact == []
    assert found.near == [[Alike(1, 1.0, 3), Alike(3, 1.0, 1)]]


def test_vectors_of_any_length_are_compared_by_direction() -> None:
    long = StoredPoint(1, {}, None, (5 * direction(1, 64)).tolist())
    nothing = StoredPoint(3, {}, None, [0.0] * 64)
    found = find_duplicates([long, point(2, None, 1), nothing], 0.9, 10)
    assert found.near == [[Alike(1, 1.0, 2), Alike(2, 1.0, 1)]]


def test_groups_beyond_the_limit_are_counted_only() -> None:
    points = [point(number, number // 2 + 1, 100 + number // 4) for number in range(40)]
    found = find_duplicates(points, 0.97, 3)
    assert (len(found.exact), found.exact_groups) == (3, 20)
    assert (len(found.near), found.near_groups) == (3, 10)


@given(st.lists(st.integers(1, 5), max_size=30))
def test_every_row_with_a_copy_is_in_exactly_one_group(pictures: list[int]) -> None:
    found = find_duplicates([point(n, picture) for n, picture in enumerate(pictures)], None, 100)
    expected = {
        sha256(p): [n for n, other in enumerate(pictures) if other == p] for p in pictures if pictures.count(p) > 1
    }
    assert {copies.sha256: copies.ids for copies in found.exact} == expected
    assert found.exact_groups == len(expected)


def test_an_empty_index_has_none() -> None:
    found = find_duplicates([], 0.97, 10)
    assert (found.points, found.exact, found.near, found.near_pairs) == (0, [], [], 0)


def test_a_full_disk_is_said_with_the_folder_and_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> bool:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(_Rows, "add", full)
    with pytest.raises(PixtailError, match=rf"{tempfile.gettempdir()} .* disk is full\. .*TMPDIR"):
        find_duplicates([point(1, 1)], 0.9, 10)
