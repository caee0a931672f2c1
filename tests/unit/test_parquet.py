"""Points as a Parquet table: one type for each column, whatever the rows had."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from pixtail.app.parquet import columns_of, write
from pixtail.core.errors import PixtailError
from pixtail.core.points import PointId, StoredPoint
from tests.support.points import sync


def point(number: PointId, vector: Any = None, **payload: Any) -> StoredPoint:
    return StoredPoint(number, payload, sync(1), vector)


def table(*points: StoredPoint, columns_from: tuple[StoredPoint, ...] | None = None) -> pa.Table:
    file = io.BytesIO()
    columns = columns_of(points if columns_from is None else columns_from)
    assert write(iter(points), columns, file) == len(points)
    return parquet.read_table(io.BytesIO(file.getvalue()))


def test_each_column_has_its_type() -> None:
    found = table(point(1, title="a", price=1.5, brand_id=7, sold=True), point(2, title=None, price=2))
    types = {name: str(kind) for name, kind in zip(found.column_names, found.schema.types, strict=True)}
    assert types["id"] == "uint64"
    assert {name: types[name] for name in ("title", "price", "brand_id", "sold")} == {
        "title": "string",
        "price": "double",
        "brand_id": "int64",
        "sold": "bool",
    }
    assert found["price"].to_pylist() == [1.5, 2.0]
    assert found["brand_id"].to_pylist() == [7, None]


def test_what_has_several_types_is_json() -> None:
    found = table(point(1, tags=["a", 1]), point(2, tags="x"), point(3, tags={"k": None}))
    assert found["tags"].to_pylist() == ['["a",1]', '"x"', '{"k":null}']


def test_ids_that_are_no_numbers_make_them_all_text() -> None:
    assert table(point(7), point("6c84fb90-12c4-11e1-840d-7b25c5ee775a"))["id"].to_pylist()[0] == "7"
    assert table(point((1 << 64) - 1))["id"].to_pylist() == [(1 << 64) - 1]


def test_a_column_of_our_own_names_keeps_its_value_under_another() -> None:
    found = table(point(1, id="mine", sync="theirs"))
    assert (found["id_"].to_pylist(), found["sync_"].to_pylist(), found["id"].to_pylist()) == (
        ["mine"],
        ["theirs"],
        [1],
    )


def test_vectors_come_as_they_are() -> None:
    found = table(point(1, [0.5, 0.25]), point(2, [1.0, 0.0]))
    assert found["vector"].to_pylist() == [[0.5, 0.25], [1.0, 0.0]]
    assert str(found.schema.field("vector").type) == "fixed_size_list<element: float>[2]"


def test_an_empty_index_is_an_empty_table() -> None:
    assert table().num_rows == 0


def test_points_of_other_programs_have_no_bookkeeping() -> None:
    assert table(StoredPoint(1, {"a": 1}, None))["sync"].to_pylist() == [None]


def test_a_column_that_changes_its_type_meanwhile_is_told() -> None:
    with pytest.raises(PixtailError, match="other columns"):
        table(point(1, price="much"), columns_from=(point(1, price=1),))


values = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False) | st.text()


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]), values)))
def test_whatever_the_columns_are_every_row_is_there(payloads: list[dict[str, Any]]) -> None:
    assert table(*(point(n, **payload) for n, payload in enumerate(payloads))).num_rows == len(payloads)
