"""From a row to the point it asks for."""

from __future__ import annotations

from typing import Any

import pytest

from encoder.mapping import matches, payload
from encoder.mapping import wanted as wanted_with
from encoder.plan import Remove, Wanted
from pixtail.core.changes import Change, Op, Source, Tombstone
from pixtail.core.errors import PictureError, Reason
from pixtail.core.settings import Table

SOURCE = Source("app", "images")
ROW = {"id": 7, "file_path": "a.jpg", "title": "Red truck", "status": "published", "price": "1.50", "deleted_at": None}


def wanted(entry: Change | Tombstone, table: Table) -> Wanted | None:
    return wanted_with(entry, table, lambda _row: {})


def change(row: dict[str, Any] | None, op: Op = Op.UPDATE) -> Change:
    return Change(op, {"id": 7}, None, row, 1, SOURCE)


def test_all_columns_go_into_the_point_by_default_and_id_becomes_image_id() -> None:
    assert payload(ROW, Table()) == {"image_id": 7, **{k: v for k, v in ROW.items() if k != "id"}}


def test_only_the_columns_that_are_asked_for_go_into_the_point() -> None:
    table = Table(payload=("id", "title", "no_such"), rename={"title": "name"})
    assert payload(ROW, table) == {"id": 7, "name": "Red truck"}


@pytest.mark.parametrize("column", ["_sync", "_sync_brands_brand_id"])
def test_a_column_cannot_take_the_place_of_the_bookkeeping(column: str) -> None:
    assert payload({"id": 1, column: "x"}, Table()) == {"image_id": 1}


def test_what_lookups_say_stands_beside_the_columns() -> None:
    row = {"id": 7, "file_path": "a.jpg", "brand_id": 3}
    found = wanted_with(change(row), Table(payload=("brand_id",)), lambda row: {"brand_name": f"b{row['brand_id']}"})
    assert found == Wanted("a.jpg", {"brand_id": 3, "brand_name": "b3"})


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ({}, True),
        ({"status": "published"}, True),
        ({"status": ("draft", "published")}, True),
        ({"status": "draft"}, False),
        ({"status": ()}, False),
        ({"deleted_at": "null"}, True),
        ({"title": "null"}, False),
        ({"status": "published", "title": "Blue"}, False),
        ({"id": "7"}, True),
        ({"id": 7}, True),
        ({"price": "1.50"}, True),
        ({"price": 1.5}, True),
        ({"price": 1}, False),
        ({"price": "1.5"}, False),
        ({"title": 1}, False),
        ({"deleted_at": 0}, False),
    ],
)
def test_a_row_is_indexed_only_if_every_column_matches(only: dict[str, Any], expected: bool) -> None:
    assert matches(ROW, Table(only=only).only) is expected


@pytest.mark.parametrize("arrived", [int, bool], ids=["TINYINT(1)", "Debezium's BOOLEAN"])
@pytest.mark.parametrize("said", [bool, int, lambda value: str(int(value)), lambda value: str(value).lower()])
@pytest.mark.parametrize("value", [True, False])
def test_a_boolean_matches_true_and_false_however_they_are_written(value: bool, arrived: Any, said: Any) -> None:
    assert matches({"active": arrived(value)}, {"active": said(value)})
    assert not matches({"active": arrived(value)}, {"active": said(not value)})
    assert not matches({"active": None}, {"active": said(value)})


@pytest.mark.parametrize("ref", [None, ""])
def test_a_row_without_a_picture_asks_for_no_point(ref: str | None) -> None:
    assert wanted(change({**ROW, "file_path": ref}), Table()) == Remove("no_picture")


def test_a_deleted_row_asks_for_no_point() -> None:
    assert wanted(change(None, Op.DELETE), Table()) == Remove("deleted")
    assert wanted(Tombstone({"id": 7}, 1), Table()) == Remove("deleted")


@pytest.mark.parametrize("ref", [None, "", "a.jpg", 12])
def test_a_row_that_does_not_match_asks_for_no_point_whatever_its_picture(ref: Any) -> None:
    assert wanted(change({**ROW, "file_path": ref}), Table(only={"status": "draft"})) == Remove("not_wanted")


@pytest.mark.parametrize("op", [Op.CREATE, Op.UPDATE, Op.READ])
def test_a_row_asks_for_its_picture_and_columns(op: Op) -> None:
    assert wanted(change(ROW, op), Table(payload=("title",))) == Wanted("a.jpg", {"title": "Red truck"})


@pytest.mark.parametrize(
    ("row", "table", "reason"),
    [
        (None, Table(), Reason.MALFORMED),
        (["no", "mapping"], Table(), Reason.MALFORMED),
        ({"id": 7}, Table(), Reason.MALFORMED),
        (ROW, Table(only={"statsu": "published"}), Reason.MALFORMED),
        ({**ROW, "file_path": 12}, Table(), Reason.UNSUPPORTED),
    ],
    ids=["no row", "a list", "no picture column", "a typing error in table.only", "a picture column without text"],
)
def test_what_cannot_be_understood_is_an_error_and_not_a_missing_picture(
    row: Any, table: Table, reason: Reason
) -> None:
    with pytest.raises(PictureError) as caught:
        wanted(change(row), table)
    assert caught.value.reason is reason
