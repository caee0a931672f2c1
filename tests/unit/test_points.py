"""Point identities and the bookkeeping object."""

from __future__ import annotations

import uuid

import pytest

from pixtail.core.points import PictureFacts, Sync, point_id


@pytest.mark.parametrize("key", [0, 42, (1 << 64) - 1])
def test_an_unsigned_key_is_the_points_id(key: int) -> None:
    assert point_id("images", {"id": key}) == key


@pytest.mark.parametrize("key", [{"id": -1}, {"id": "a"}, {"id": True}, {"a": 1, "b": 2}])
def test_any_other_key_becomes_a_stable_uuid(key: dict[str, object]) -> None:
    found = point_id("images", key)
    assert str(uuid.UUID(str(found))) == found
    assert found == point_id("images", dict(key))
    assert found != point_id("brands", key), "two tables must not share points"


def test_the_bookkeeping_survives_the_payload() -> None:
    sync = Sync(
        7_350_000_000_000_001, "a/b.jpg", "f00d", PictureFacts("ab", 3, 4, "JPEG", 99), "2026-11-21T00:00:00.000Z"
    )
    assert Sync.from_payload({"title": "x", "_sync": sync.as_payload()}) == sync


@pytest.mark.parametrize("payload", [None, {}, {"_sync": None}, {"_sync": {}}, {"_sync": "x"}, {"_sync": {"seq": "x"}}])
def test_a_point_of_another_program_has_no_bookkeeping(payload: dict[str, object] | None) -> None:
    assert Sync.from_payload(payload) is None
