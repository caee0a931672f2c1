"""Newer MySQL and MariaDB: nice to have, never in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixtail.core.errors import PixtailError
from pixtail.servers import mysql, newer, parts, setup
from pixtail.servers.parts import Part


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIXTAIL_PARTS", str(tmp_path / "parts"))
    monkeypatch.setattr(newer, "is_possible", lambda: True)
    monkeypatch.setattr(mysql, "make_template", lambda _part: None)
    return tmp_path / "parts" / "newer"


def test_they_are_fetched_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(newer, "fetch", asked.append)
    setup.fetch_newer()
    setup.fetch_newer()
    assert asked == [folder.with_name("newer.new")]
    assert parts.require(Part.NEWER) == folder


def test_what_the_suite_does_not_have_today_stops_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Path) -> None:
        raise PixtailError(
            "newer MySQL and MariaDB cannot be had: apt-get says 404", "Tests that need them are skipped"
        )

    monkeypatch.setattr(newer, "fetch", fail)
    setup.fetch_newer()
    assert "cannot be had" in capsys.readouterr().err
    assert not parts.is_there(Part.NEWER)


def test_elsewhere_nothing_is_fetched(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(newer, "is_possible", lambda: False)
    setup.fetch_newer()
    assert "come from Debian" in capsys.readouterr().err
    assert not folder.exists()


def test_programs_run_with_the_libraries_beside_them_wherever_the_folder_goes(tmp_path: Path) -> None:
    """A loader that only says what it was asked."""
    loader = tmp_path / "first" / "usr" / "lib64" / "ld-linux-x86-64.so.2"
    loader.parent.mkdir(parents=True)
    loader.write_text('#!/bin/sh\necho "$@"\n')
    loader.chmod(0o755)
    program = tmp_path / "first" / "usr" / "sbin" / "mysqld"
    program.parent.mkdir()
    program.write_text("elf")
    newer._wrap(program)
    moved = (tmp_path / "first").rename(tmp_path / "a second")
    base = moved / "usr"
    said = newer._run([str(base / "sbin" / "mysqld"), "--version"], tmp_path)
    assert said == f"--library-path {base}/lib/x86_64-linux-gnu {base}/sbin/mysqld.elf --version\n"


def test_a_program_that_fails_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(PixtailError, match="sh says no such package"):
        newer._run(["sh", "-c", "echo no such package >&2; exit 100"], tmp_path)
