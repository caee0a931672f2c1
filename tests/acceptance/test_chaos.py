"""The short form of `make chaos`: one of each kind that is quick, and a broker and a database that die once."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixtail.servers.parts import PartMissing
from tests.chaos.harness import Run, Wish
from tests.chaos.killer import Kind
from tests.conftest import absent

STORY = (
    Kind.LISTENER_STARTING,  # the first snapshot is not done yet
    Kind.LISTENER_BACKLOG,
    Kind.LISTENER_RUNNING,
    Kind.DUMP_CUT,
    Kind.DATABASE_KILL,
    Kind.LISTENER_STARTING,
    Kind.BROKER_KILL,
    Kind.LISTENER_RUNNING,
    Kind.LISTENER_BACKLOG,
)


@pytest.mark.parametrize(("database", "seed"), [("mysql", 11), ("mariadb", 12)])
def test_whatever_is_killed_no_row_is_lost_repeated_or_out_of_order(database: str, seed: int, tmp_path: Path) -> None:
    run = Run(Wish(database, rows=30_000, seed=seed, kinds=STORY), tmp_path, lambda text: None)
    try:
        report = run.run()
    except PartMissing as error:
        absent(error)
        raise
    assert report.ok, [report.as_json(), *report.findings.shown]
    assert report.rows >= 30_000
    assert report.kills.total() == len(STORY)
