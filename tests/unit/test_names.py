"""A table that is looked up, in memory."""

from __future__ import annotations

from typing import Any

import pytest

from encoder.names import NameTable
from pixtail.core.changes import TRUNCATE_KEY, Change, Op, Source, Tombstone
from pixtail.core.points import SetNames, lookup_version
from pixtail.core.settings import Lookup, Table

LOOKUP = Lookup(table="brands", column="brand_id", take={"name": "brand_name", "chinese": "brand_chinese_name"})
VERSION = lookup_version("brands", "brand_id")
SOURCE = Source("shop", "brands")
NOTHING = {"brand_name": None, "brand_chinese_name": None}


@pytest.fixture
def table() -> NameTable:
    return NameTable(LOOKUP, Table(lookups=(LOOKUP,), rename={"brand_id": "brand"}))


def brand(seq: int, name: str | None, key: Any = 7, op: Op = Op.UPDATE) -> Change:
    return Change(op, {"id": key}, None, {"id": key, "name": name, "chinese": None, "founded": 1900}, seq, SOURCE)


def gone(seq: int, key: Any = 7) -> Change:
    return Change(Op.DELETE, {"id": key}, {"id": key}, None, seq, SOURCE)


def truncate(seq: int) -> Change:
    return Change(Op.TRUNCATE, TRUNCATE_KEY, None, None, seq, SOURCE)


def test_a_row_gets_the_names_of_its_key_and_their_version(table: NameTable) -> None:
    assert table.learn(brand(5, "Acme"), 0) == [7]
    assert table.payload({"id": 1, "brand_id": 7}) == {**NOTHING, "brand_name": "Acme", VERSION: 5}


@pytest.mark.parametrize("row", [{"brand_id": 8}, {"brand_id": None}, {}, {"brand_id": [7]}, {"brand_id": "7"}])
def test_a_row_whose_key_is_unknown_gets_no_names(table: NameTable, row: dict[str, Any]) -> None:
    table.learn(brand(5, "Acme"), 0)
    assert table.payload(row) == {**NOTHING, VERSION: None}


def test_the_newest_version_counts_in_whichever_order_they_come(table: NameTable) -> None:
    assert table.learn(brand(6, "new"), 1) == [7]
    assert table.learn(brand(5, "old"), 2) == []
    assert table.payload({"brand_id": 7})["brand_name"] == "new"


@pytest.mark.parametrize("end", [gone(6), Tombstone({"id": 7}, 6), truncate(6)])
def test_a_row_that_goes_takes_its_names_with_it_and_leaves_its_version(
    table: NameTable, end: Change | Tombstone
) -> None:
    table.learn(brand(5, "Acme"), 0)
    assert table.learn(end, 1) == [7]
    assert table.payload({"brand_id": 7}) == {**NOTHING, VERSION: 6}
    assert table.learn(brand(5, "Acme"), 2) == []
    table.learn(brand(7, "Acme is back"), 3)
    assert table.payload({"brand_id": 7})["brand_name"] == "Acme is back"


def test_a_truncate_spares_what_came_later(table: NameTable) -> None:
    table.learn(brand(9, "new"), 0)
    assert table.learn(truncate(8), 1) == []
    assert table.payload({"brand_id": 7})["brand_name"] == "new"


def test_it_is_known_since_when_names_are_others(table: NameTable) -> None:
    table.learn(brand(5, "Acme"), 1)
    table.learn(Change(Op.UPDATE, {"id": 7}, None, {"name": "Acme", "chinese": None, "founded": 1899}, 6, SOURCE), 2)
    assert not table.changed_since(7, 1)
    table.learn(brand(7, "ACME"), 3)
    assert table.changed_since(7, 2)
    assert not table.changed_since(7, 3)


def test_a_write_goes_by_the_columns_name_in_the_point(table: NameTable) -> None:
    table.learn(brand(5, "Acme"), 0)
    names = {**NOTHING, "brand_name": "Acme"}
    assert table.write(7) == SetNames("brand", 7, names, VERSION, 5)
    assert table.write(7, again=True, ids=[1, 2]) == SetNames("brand", 7, names, VERSION, 5, True, frozenset({1, 2}))


def test_a_record_of_another_key_says_nothing(table: NameTable) -> None:
    assert table.learn(Change(Op.CREATE, {"code": 7}, None, {"code": 7}, 5, SOURCE), 0) == []
    assert table.learn(brand(5, "Acme", key=None), 0) == []
