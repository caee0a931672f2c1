"""Keys of several columns: in the settings, and in the id of a URL."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from pixtail.core.points import PointId, point_id
from pixtail.core.settings import Table, load
from pixtail.search.finding import candidates

UUID = "6b0c4b36-6f0b-5d0c-9d3a-7a2f1c3f9a10"


@pytest.mark.parametrize(
    ("text", "columns"),
    [("", ("id",)), ('key = "n"', ("n",)), ('key = ["album", "id"]', ("album", "id")), ('key = ["id"]', ("id",))],
)
def test_the_key_is_a_column_or_a_list_of_columns(tmp_path: Path, text: str, columns: tuple[str, ...]) -> None:
    file = tmp_path / "pixtail.toml"
    file.write_text(f"[table]\n{text}\n")
    assert load(file, {}).table.key_columns == columns


@pytest.mark.parametrize(("text", "columns"), [('["a", "b"]', ("a", "b")), ("n", ("n",))])
def test_the_environment_names_keys_too(monkeypatch: pytest.MonkeyPatch, text: str, columns: tuple[str, ...]) -> None:
    monkeypatch.setenv("PIXTAIL_TABLE__KEY", text)
    assert load().table.key_columns == columns


@pytest.mark.parametrize("key", ["", [], [""], ["a", "a"], 5])
def test_a_key_that_names_no_columns_is_refused(key: object) -> None:
    with pytest.raises(ValidationError):
        Table(key=key)


@pytest.mark.parametrize(
    ("key", "text", "points"),
    [
        ("id", "42", [{"id": 42}, {"id": "42"}]),
        ("id", "x", [{"id": "x"}]),
        ("id", "1,2", [{"id": "1,2"}]),
        ("id", UUID, [UUID, {"id": UUID}]),
        (("album", "id"), "7,x", [{"album": 7, "id": "x"}, {"album": "7", "id": "x"}]),
        (("album", "id"), "7,8", [{"album": a, "id": b} for a in (7, "7") for b in (8, "8")]),
        (("album", "id"), UUID, [UUID]),
        (("album", "id"), "7", []),
        (("album", "id"), "7,8,9", []),
    ],
)
def test_an_id_may_mean_these_points(
    key: str | tuple[str, ...], text: str, points: list[dict[str, int | str] | str]
) -> None:
    wanted: list[PointId] = [point if isinstance(point, str) else point_id("images", point) for point in points]
    assert candidates(Table(key=key), text) == wanted
