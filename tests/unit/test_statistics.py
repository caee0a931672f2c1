"""An index in numbers."""

from __future__ import annotations

import pytest

from pixtail.core.errors import UsageError
from pixtail.core.points import Payload, PictureFacts, StoredPoint, Sync
from pixtail.search import statistics
from pixtail.search.statistics import describe


def point(payload: Payload, form: str | None = "PNG", model: str = "m1", size: int = 100) -> StoredPoint:
    facts = PictureFacts("", size, 2 * size, form or "", 10 * size)
    return StoredPoint(1, payload, Sync(1, "", model, facts, "") if form else None)


def test_formats_models_and_sizes_are_of_our_points_and_the_rest_is_foreign() -> None:
    found = describe([point({}), point({}, "JPEG", "m2", 300), point({}, "PNG", "m1", 50), point({}, None)])
    assert found == {
        "points": 4,
        "foreign": 1,
        "models": {"m1": 2, "m2": 1},
        "formats": {"PNG": 2, "JPEG": 1},
        "sizes": {
            "width": {"min": 50, "mean": 150.0, "max": 300, "sum": 450},
            "height": {"min": 100, "mean": 300.0, "max": 600, "sum": 900},
            "bytes": {"min": 500, "mean": 1500.0, "max": 3000, "sum": 4500},
        },
        "by": {},
    }


def test_values_of_a_column_are_counted_the_most_frequent_first_and_by_type() -> None:
    stored = [{"a": "x"}, {"a": 1}, {"a": "1"}, {"a": True}, {"a": "x"}, {"b": 1}, {"a": [1]}]
    found = describe(map(point, stored), ["a"])["by"]["a"]
    assert found[0] == {"value": "x", "count": 2}
    assert [(type(entry["value"]), entry["count"]) for entry in found[1:]] == [
        (str, 1), (int, 1), (list, 1), (type(None), 1), (bool, 1)
    ]  # fmt: skip


def test_an_empty_index_has_no_sizes_and_no_unknown_columns() -> None:
    found = describe([], ["anything"])
    assert (found["points"], found["sizes"]["bytes"], found["by"]) == (0, None, {"anything": []})


def test_a_column_that_no_image_has_is_named_with_those_that_exist() -> None:
    with pytest.raises(UsageError, match=r"^no image has a column colour\. The columns are a, b$"):
        describe([point({"a": 1}), point({"b": 1})], ["a", "colour"])


def test_a_column_of_ever_new_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "MOST_VALUES", 3)
    with pytest.raises(UsageError, match="column title has more than 3 different values"):
        describe([point({"title": f"t{number}"}) for number in range(4)], ["title"])
