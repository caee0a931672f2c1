"""When the listener has passed a moment, and which row a point or a dead letter is about."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from ingest.mysql import Server
from ingest.position import Position, Snapshot, State, to_json
from ingest.selection import selected
from ingest.tablerows import End
from pixtail.app.verify.expected import asked, id_of_record, key_of
from pixtail.app.verify.pipeline import _passed
from pixtail.bus.requests import StateWatch
from pixtail.core.changes import Row, key_bytes
from pixtail.core.points import Payload, StoredPoint, point_id
from pixtail.core.settings import Table
from sink.verify import digest


def no_names(_row: Row) -> Payload:
    return {}


PLACES = Server("mysql", "8.0.40", "", {})
HERE, BEFORE = Position(None, "binlog.000002", 900), Position(None, "binlog.000002", 899)
BACKFILL = selected(ids=[7])


@pytest.mark.parametrize(
    ("state", "passed"),
    [
        (None, False),
        (State(BEFORE, 1), False),
        (State(HERE, 1), True),
        (State(HERE, 1, Snapshot(after=(5,), rows=5)), False),  # rows behind the fifth have never been sent
        (State(HERE, 1, Snapshot(after=(5,), rows=5, selection=BACKFILL)), True),
    ],
)
def test_a_moment_is_passed_once_all_rows_before_it_are_written(state: State | None, passed: bool) -> None:
    watch = SimpleNamespace(look=lambda: None, state=None if state is None else to_json(state))
    assert _passed(cast(StateWatch, watch), End(HERE, PLACES)) is passed


NUMBERS, NAMES, BOTH = Table(), Table(key="name"), Table(key=("shelf", "n"), rename={"shelf": "where"})


def point(table: Table, key: dict[str, Any], **payload: Any) -> StoredPoint:
    return StoredPoint(point_id("images", key), payload, None)


@pytest.mark.parametrize(
    ("table", "stored", "key"),
    [
        (NUMBERS, point(NUMBERS, {"id": 7}), (7,)),
        (NUMBERS, point(NUMBERS, {"id": -7}, image_id=-7), (-7,)),
        (NAMES, point(NAMES, {"name": "ä"}, name="ä"), ("ä",)),
        (NAMES, point(NAMES, {"name": "ä"}, name="b"), None),  # the column lies
        (NAMES, point(NAMES, {"name": "ä"}, title="ä"), None),
        (NAMES, point(NAMES, {"name": "ä"}, name=["ä"]), None),
        (BOTH, point(BOTH, {"shelf": "a", "n": 1}, where="a", n=1), ("a", 1)),
        (BOTH, point(BOTH, {"shelf": "a", "n": 1}, where="a"), None),
        (BOTH, StoredPoint(7, {"where": "a", "n": 1}, None), None),
    ],
)
def test_a_points_row_is_known_by_the_key_that_makes_its_id(
    table: Table, stored: StoredPoint, key: tuple[Any, ...] | None
) -> None:
    assert key_of(stored, table) == key


def test_a_dead_letter_is_about_the_point_of_its_key() -> None:
    assert id_of_record(key_bytes({"id": 7}), NUMBERS) == 7
    assert id_of_record(key_bytes({"name": "ä"}), NAMES) == point_id("images", {"name": "ä"})
    wrapped = b'{"schema": {"type": "struct", "fields": []}, "payload": {"id": 7}}'  # Debezium's
    assert id_of_record(wrapped, NUMBERS) == 7
    assert id_of_record(b"nonsense", NUMBERS) is None


def test_a_row_asks_for_what_the_worker_would_write() -> None:
    row = {"id": 7, "file_path": "a.jpg", "title": None}
    found = asked(row, NUMBERS, no_names)
    assert (found.id, found.key, found.ref, found.readable) == (7, (7,), "a.jpg", True)
    assert found.columns == digest({"image_id": 7, "file_path": "a.jpg"})
    assert asked({**row, "file_path": None}, NUMBERS, no_names).ref is None
    assert asked({"id": 7}, NUMBERS, no_names).readable is False
