"""The options of `backfill`, and how far a snapshot is, in words."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ingest.selection import Selection, selected
from pixtail.app.backfill import selection
from pixtail.app.progress import RowProgress, in_words
from pixtail.app.status import snapshot_progress
from pixtail.bus.requests import Written
from pixtail.core.errors import UsageError

ID = ("id",)
PAIR = ("shelf", "colour")


def of(key: tuple[str, ...] = ID, file: Path | None = None, **options: Any) -> Selection:
    return selection(key, options.get("where", []), options.get("ids", []), file, options.get("limit"))


def test_without_options_all_rows_are_chosen() -> None:
    assert of() == Selection()


def test_a_condition_is_a_column_and_its_value_to_the_letter() -> None:
    assert of(where=["title = a = b ", "n=007"]).where == {"title": " a = b ", "n": "007"}
    assert of(where=["n=NULL", "m=null"]).where == {"n": "null", "m": "null"}


@pytest.mark.parametrize("where", [["category"], ["=car"], ["a=1", "a=2"]])
def test_a_condition_that_cannot_be_meant_is_refused(where: list[str]) -> None:
    with pytest.raises(UsageError):
        of(where=where)


def test_ids_are_text_and_the_same_in_any_order() -> None:
    """So that the same command goes on with the same back-fill."""
    assert of(ids=["007", "a,b", "3"]) == of(ids=["3", "a,b", "007", "3"]) == selected(ids=["007", "3", "a,b"])


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("7,blue", ("7", "blue")),
        ("7, blue", ("7", "blue")),
        ('7,"a,b"', ("7", "a,b")),
        ('7,"say ""a"""', ("7", 'say "a"')),
    ],
)
def test_an_id_of_several_columns_is_a_line_of_csv(text: str, values: tuple[str, ...]) -> None:
    assert of(PAIR, ids=[text]).ids == (values,)


@pytest.mark.parametrize("text", ["7", "7,blue,x", ""])
def test_an_id_that_does_not_fit_the_key_is_refused_with_its_form(text: str) -> None:
    with pytest.raises(UsageError, match=r"key \(shelf,colour\).*--id 7,blue"):
        of(PAIR, ids=[text])


def test_a_file_has_an_id_on_each_line(tmp_path: Path) -> None:
    file = tmp_path / "ids"
    file.write_text("\ufeff3\r\n\n 1 \n", encoding="utf-8")
    assert of(file=file, ids=["2"]) == selected(ids=["1", "2", "3"])


def test_a_file_of_failures_names_rows_too(tmp_path: Path) -> None:
    file = tmp_path / "failures.json"
    file.write_text('[{"id": 3, "reason": "not_found"}, {"id": "a,b", "reason": "corrupt"}]')
    assert of(file=file) == selected(ids=["3", "a,b"])
    file.write_text('[{"id": [7, "a,b"], "reason": "corrupt"}]')
    assert of(PAIR, file=file).ids == (("7", "a,b"),)
    for content in ('["3"]', "[{}]", "[3"):
        file.write_text(content)
        with pytest.raises(UsageError, match="no list of failures"):
            of(file=file)


def test_a_file_without_ids_does_not_choose_all_rows(tmp_path: Path) -> None:
    for content in (b"", b"\n", b"\xff\xfe"):
        (tmp_path / "ids").write_bytes(content)
        with pytest.raises(UsageError, match="ids"):
            of(file=tmp_path / "ids")
    with pytest.raises(UsageError, match="cannot be read"):
        of(file=tmp_path / "none")


def test_standard_input_may_stand_for_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("5\n6\n"))
    assert of(file=Path("-")) == selected(ids=["5", "6"])


def test_a_selection_is_told_in_the_words_of_the_command() -> None:
    assert str(Selection()) == "all rows"
    assert (
        str(selected({"category": "car", "n": "null"}, [["7", "blue"]], 1000))
        == "category=car, n=null, id 7,blue, at most 1,000"
    )
    assert str(selected(ids=range(3))) == "3 ids"


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ((12_000, 50_000, 3_000.0, 12.7), "12,000 of about 50,000 rows, 3,000 a second, 13 s left"),
        ((5, 0, None, None), "5 rows"),
        ((1, 2, 0.2, 200), "1 of about 2 rows, 0.2 a second, 3 min 20 s left"),
        ((1, 2, None, 7300), "1 of about 2 rows, 2 h 01 min left"),
    ],
)
def test_progress_in_words(known: tuple[int, int, float | None, float | None], words: str) -> None:
    assert in_words(*known) == words


def test_where_there_is_no_terminal_progress_is_a_line_from_time_to_time() -> None:
    output = io.StringIO()
    with RowProgress(Console(file=output, width=100)) as shown:
        for rows in range(0, 500, 100):
            shown.show("Sending rows again", rows, 400)
        shown.show("Waiting for the snapshot", 3, 0)
    lines = output.getvalue().splitlines()
    assert lines == ["Sending rows again: 0 of about 400 rows", "Waiting for the snapshot: 3 rows"]


def test_on_a_terminal_it_is_a_bar_that_goes_away() -> None:
    output = io.StringIO()
    with RowProgress(Console(file=output, width=100, force_terminal=True)) as shown:
        shown.show("Sending rows again", 100, 400)
        shown.say("[odd] text")
    assert "100 of about 400 rows" in output.getvalue()
    assert "[odd] text" in output.getvalue()


# status


def state(rows: int, **more: Any) -> dict[str, Any]:
    return {"snapshot": {"rows": rows, "about": 1000, "started_ms": 5, "selection": None, **more}}


def seen(earlier: Written, newest: Written, now_ms: float = 20_000) -> tuple[Any, ...]:
    found = snapshot_progress(earlier, newest, now_ms)
    assert found is not None
    return found["kind"], found["rows"], found["rows_per_s"], found["left_s"]


def test_status_knows_the_speed_of_the_last_minute() -> None:
    earlier, newest = Written(10_000, state(100)), Written(20_000, state(500))
    assert seen(earlier, newest) == ("snapshot", 500, 40.0, 12.5)
    assert seen(Written(10_000, None), newest) == ("snapshot", 500, 500 / 19.995, 500 / (500 / 19.995))
    fresh = Written(20_000, state(500, started_ms=15_000, selection={}))
    assert seen(Written(10_000, {"snapshot": None}), fresh) == ("back-fill", 500, 100.0, 5.0)


def test_status_promises_no_end_of_what_is_paused_or_stands_still() -> None:
    earlier, newest = Written(10_000, state(100)), Written(20_000, state(500))
    assert seen(earlier, newest, 90_000) == ("snapshot", 500, None, None)
    paused = Written(20_000, state(500, paused=True))
    assert seen(earlier, paused) == ("snapshot", 500, None, None)
    assert seen(newest, newest) == ("snapshot", 500, None, None)


@pytest.mark.parametrize("body", [None, {}, {"snapshot": None}])
def test_status_without_a_snapshot(body: dict[str, Any] | None) -> None:
    assert snapshot_progress(Written(0, body), Written(0, body), 1) is None


def test_status_of_a_snapshot_of_an_earlier_version() -> None:
    written = Written(20_000, {"snapshot": {"after": 5, "rows": 5}})
    assert seen(written, written) == ("snapshot", 5, None, None)
