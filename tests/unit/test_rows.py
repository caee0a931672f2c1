"""Points on their way out of the index: which are meant, and their lines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixtail.core.errors import UsageError
from pixtail.core.points import Payload, StoredPoint
from pixtail.search.rows import from_line, matching, to_line, wanted
from tests.support.points import direction, sync

FLOAT32 = st.floats(-1, 1, width=32)


def points(*payloads: Payload) -> list[StoredPoint]:
    return [StoredPoint(number, payload, None) for number, payload in enumerate(payloads)]


def ids(payloads: list[Payload], *pairs: tuple[str, str]) -> list[int | str]:
    return [point.id for point in matching(points(*payloads), wanted(pairs))]


def test_a_value_means_the_number_and_the_text_and_null_an_empty_column() -> None:
    stored = [{"a": 5}, {"a": "5"}, {"a": 6}, {}, {"a": True}, {"a": 1}, {"a": [4, 5]}, {"a": "null"}]
    assert ids(stored, ("a", "5")) == [0, 1, 6]
    assert ids(stored, ("a", "null")) == [3, 7]
    assert ids(stored, ("a", "NULL")) == [3]
    assert ids(stored, ("a", "true")) == [4]
    assert ids(stored, ("a", "1")) == [5]


def test_several_columns_must_all_fit_and_of_one_columns_values_any() -> None:
    stored = [{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 2}, {"a": 3, "b": 2}]
    assert ids(stored, ("a", "1"), ("b", "2")) == [1]
    assert ids(stored, ("a", "1"), ("a", "2"), ("b", "2")) == [1, 2]
    assert ids(stored) == [0, 1, 2, 3]


def test_a_column_that_no_image_has_is_named_with_those_that_exist() -> None:
    with pytest.raises(UsageError, match=r"^no image has a column colour\. The columns are a, b$"):
        ids([{"a": 1}, {"b": 1}], ("colour", "red"))
    assert ids([], ("colour", "red")) == []
    assert ids([{"a": 1}, {"b": 1}], ("a", "9")) == []
    assert ids([{"a": 1}], ("colour", "null")) == [0]


@given(st.lists(FLOAT32, min_size=1), st.booleans(), st.text(), st.sampled_from([0, (1 << 64) - 1, "a-uuid"]))
def test_a_line_becomes_the_very_same_point_again(
    values: list[float], ours: bool, text: str, point_id: int | str
) -> None:
    point = StoredPoint(point_id, {"title": text, "n": 1.5, "tags": ["x"]}, sync(7) if ours else None, values)
    line = to_line(point)
    assert line.index(b"\n") == len(line) - 1
    again = from_line(line)
    assert replace(again, vector=None) == replace(point, vector=None)
    assert again.vector is not None
    assert np.array_equal(np.asarray(again.vector, np.float32), np.asarray(values, np.float32))


def test_a_vector_is_written_with_the_digits_of_its_precision_and_only_if_it_was_read() -> None:
    vector = direction(3, 512)
    line = to_line(StoredPoint(1, {}, None, vector.tolist()))
    assert np.array_equal(np.asarray(orjson.loads(line)["vector"], np.float32), vector)
    assert len(line) < 512 * 14
    assert orjson.loads(to_line(StoredPoint(1, {}, None))) == {"id": 1, "payload": {}, "sync": None}
