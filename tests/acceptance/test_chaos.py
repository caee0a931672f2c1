"""The short form of `make chaos`: the kills that are quick, and a database and a broker that die once."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixtail.servers.parts import PartMissing
from tests.chaos.harness import Run, Wish
from tests.chaos.killer import Kind
from tests.conftest import absent

ROWS = 10_000
STORY = (
    Kind.LISTENER_STARTING,  # the first snapshot is not done yet
    Kind.LISTENER_BACKLOG,
    Kind.LISTENER_RUNNING,
    Kind.DUMP_CUT,
    Kind.DATABASE_KILL,
    Kind.LISTENER_STARTING,
)


@pytest.mark.parametrize(
    ("database", "kinds", "seed"),
    [("mysql", (*STORY, Kind.BROKER_KILL, Kind.LISTENER_BACKLOG), 11), ("mariadb", STORY, 12)],
)
def test_whatever_is_killed_no_row_is_lost_repeated_or_out_of_order(
    database: str, kinds: tuple[Kind, ...], seed: int, tmp_path: Path
) -> None:
    run = Run(Wish(database, rows=ROWS, seed=seed, kinds=kinds), tmp_path, lambda text: None)
    try:
        report = run.run()
    except PartMissing as error:
        absent(error)
        raise
    assert report.ok, [report.as_json(), *report.findings.shown]
    assert report.rows >= ROWS
    assert report.kills.total() == len(kinds)
