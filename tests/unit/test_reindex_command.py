"""What `reindex` says at its end, and before it begins."""

from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pixtail.app.reindex.command import for_another, print_outcome, require_writable
from pixtail.app.reindex.mover import Outcome
from pixtail.app.reindex.planning import Options
from pixtail.core.errors import UsageError
from pixtail.core.settings import Model, Settings


def said(options: Options, **outcome: Any) -> str:
    console = Console(file=io.StringIO())
    print_outcome(Outcome("beef", "f00d", points=7, **outcome).as_json(), options, console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_another_process_is_asked_for_the_model_of_this_ones_settings_and_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip").mkdir()
    settings = Settings(model=Model(name="clip"))
    assert for_another(settings, Options())["model"] == str(tmp_path / "clip")
    assert for_another(settings, Options(model="org/other", limit=5)) == asdict(Options(model="org/other", limit=5))


def test_one_that_was_paused_goes_on_by_the_same_command() -> None:
    assert "Nothing was swapped. Run it again, and it goes on from here." in said(Options())


def test_what_would_begin_anew_or_stop_again_is_to_be_left_out() -> None:
    assert "without --force, and it goes on" in said(Options(force=True))
    assert "The limit is reached. Nothing was swapped. Run it again without --limit, and" in said(Options(limit=5))
    assert "without --force and --limit, and" in said(Options(force=True, limit=5))
    assert "run it again without --force, which goes on" in said(Options(force=True), objections=("no",))


def test_a_limit_beyond_the_table_was_not_reached() -> None:
    assert "reached" not in said(Options(limit=8), finished=True)


def test_after_the_holes_are_filled_nothing_is_left_to_be_done() -> None:
    assert "again" not in said(Options(only_missing=True), finished=True)


def test_a_file_for_the_failures_that_cannot_be_written_is_named_at_once(tmp_path: Path) -> None:
    kept = tmp_path / "failures.json"
    kept.write_text("[]")
    require_writable(kept)
    assert kept.read_text() == "[]"
    with pytest.raises(UsageError, match=r"nowhere/failures\.json cannot be written"):
        require_writable(tmp_path / "nowhere" / "failures.json")
