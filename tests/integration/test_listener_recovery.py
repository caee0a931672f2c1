"""Abort here, restart, same final state: crashes at every kind of moment, and a SIGKILL under load."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from pixtail.core.changes import Change, Tombstone
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.sql import SqlServer
from tests.integration.listener_kit import IMAGES, Crash, Listening, Source, crashing, wait_for

GIANT = 300


@pytest.fixture
def source(database: SqlServer, kafka: KafkaServer, unique: str) -> Source:
    made = Source(database, kafka, unique)
    made.sql(IMAGES)
    return made


def crash(source: Source, after: int, *, committed: bool, **options: int) -> None:
    """One life that ends at its commit number `after`."""
    listening = Listening(source.settings, make_producer=crashing(after, committed=committed), **options)
    listening.start()
    failure = listening.wait_until_ended()
    if failure is not None and not isinstance(failure, Crash):
        raise failure
    assert failure is not None


@pytest.mark.parametrize(
    ("database", "committed"), [("mysql", True), ("mysql", False), ("mariadb", True)], indirect=["database"]
)
def test_a_giant_transaction_cut_by_a_crash_goes_on_at_its_next_row(source: Source, committed: bool) -> None:
    with source.listening():
        wait_for(source.saved, "a saved state")
    source.insert(1, 2)
    with source.server.connect(source.name, autocommit=False) as connection, connection.cursor() as cursor:
        for first in range(3, GIANT, 11):  # an event each: a piece is some whole events
            values = ", ".join(f"({n}, 'p', {n})" for n in range(first, first + 11))
            cursor.execute(f"INSERT INTO images VALUES {values}")
        for first in range(201, GIANT, 11):  # each change of a key is three records
            cursor.execute("UPDATE images SET id = id + 1000 WHERE id BETWEEN %s AND %s", (first, first + 10))
        connection.commit()
    source.insert(2001, 2002)
    crash(source, 4, committed=committed, flush_rows=40)
    saved = source.saved()
    assert saved is not None
    assert saved.unfinished is not None
    assert 0 < saved.unfinished.rows < GIANT
    crash(source, 3, committed=committed, flush_rows=40)
    created = [("c", n) for n in [1, 2, *range(3, GIANT)]]
    moved = [step for n in range(201, GIANT) for step in (("d", n), ("", n), ("c", n + 1000))]
    with source.listening(flush_rows=40):
        source.wait_for_entries(len(created) + len(moved) + 2)
    assert source.story() == [*created, *moved, ("c", 2001), ("c", 2002)]
    rows = [entry.source.row for entry in source.entries() if isinstance(entry, Change)][2:-2]
    assert rows == [*range(GIANT - 3), *(row for row in range(GIANT - 3, 396) for _ in "dc")]


def test_a_snapshot_cut_by_a_crash_goes_on_behind_its_last_chunk_while_the_stream_brings_what_changed(
    source: Source,
) -> None:
    source.insert(1, 45)
    crash(source, 3, committed=True, chunk_rows=10)
    first = source.saved()
    assert first is not None
    assert first.snapshot is not None
    assert (first.snapshot.after, first.snapshot.rows) == ((30,), 30)
    source.sql("UPDATE images SET n = -1 WHERE id IN (5, 35)", "DELETE FROM images WHERE id = 40")
    with source.listening(chunk_rows=10):
        wait_for(lambda: (state := source.saved()) and state.snapshot is None, "the end of the snapshot")
        source.wait_for_entries(47)
    newest = {entry.key["id"]: entry for entry in source.entries()}  # in the order of seq
    assert isinstance(newest.pop(40), Tombstone)
    rows = {key: entry.after["n"] for key, entry in newest.items() if isinstance(entry, Change) and entry.after}
    assert rows == {n: -1 if n in (5, 35) else n for n in range(1, 46) if n != 40}
    story = source.story()
    assert story[:30] == [("r", n) for n in range(1, 31)]
    assert len(set(story)) == len(story)


def test_text_keys_are_read_in_the_servers_order_over_a_restart(
    mysql: SqlServer, kafka: KafkaServer, unique: str
) -> None:
    source = Source(mysql, kafka, unique)
    source.sql("CREATE TABLE images (id VARCHAR(20) PRIMARY KEY, file_path VARCHAR(20))")
    names = ["a", "B", "c'", "D\\", "é", "文", "z"]
    with mysql.connect(unique, charset="utf8mb4") as connection, connection.cursor() as cursor:
        cursor.executemany("INSERT INTO images VALUES (%s, 'p')", [(name,) for name in names])
    crash(source, 2, committed=True, chunk_rows=2)
    with source.listening(chunk_rows=2):
        source.wait_for_entries(len(names))
    ordered = [row[0] for row in mysql.query("SELECT id FROM images ORDER BY id", unique)]
    assert source.story() == [("r", name) for name in ordered]


def test_binary_keys_survive_the_saved_state(mariadb: SqlServer, kafka: KafkaServer, unique: str) -> None:
    source = Source(mariadb, kafka, unique)
    source.sql("CREATE TABLE images (id BINARY(3) PRIMARY KEY, file_path VARCHAR(20))")
    source.sql("INSERT INTO images VALUES (0x00FF00, 'p'), (0x27005C, 'p'), (0xFFFF00, 'p')")
    crash(source, 2, committed=True, chunk_rows=1)
    with source.listening(chunk_rows=1):
        source.wait_for_entries(3)
        source.sql("DELETE FROM images WHERE id = 0xFFFF00")
        source.wait_for_entries(5)
    assert source.story() == [("r", "AP8A"), ("r", "JwBc"), ("r", "//8A"), ("d", "//8A"), ("", "//8A")]


class Load(threading.Thread):
    """Writes row by row until `enough` is set, and remembers what must come out."""

    def __init__(self, source: Source) -> None:
        super().__init__(name="load")
        self.enough = threading.Event()
        self.story: list[tuple[str, object]] = []
        self._source = source
        self._random = random.Random(7)

    def run(self) -> None:
        next_id, living = 1, []
        with self._source.server.connect(self._source.name) as connection, connection.cursor() as cursor:
            while not self.enough.wait(0.002):
                chance = self._random.random()
                if chance < 0.5 or not living:
                    cursor.execute("INSERT INTO images VALUES (%s, 'p', 0)", (next_id,))
                    self.story.append(("c", next_id))
                    living.append(next_id)
                    next_id += 1
                elif chance < 0.8:
                    chosen = self._random.choice(living)
                    cursor.execute("UPDATE images SET n = n + 1 WHERE id = %s", (chosen,))
                    self.story.append(("u", chosen))
                else:
                    chosen = living.pop(self._random.randrange(len(living)))
                    cursor.execute("DELETE FROM images WHERE id = %s", (chosen,))
                    self.story += [("d", chosen), ("", chosen)]


def test_killed_twice_under_load_it_loses_nothing_and_repeats_nothing(source: Source, tmp_path: Path) -> None:
    with source.listening():
        wait_for(source.saved, "a saved state")
    load = Load(source)
    load.start()
    try:
        for _ in range(2):
            enough = len(source.entries()) + 100
            with source.process(tmp_path / "listener.log", flush_rows=7) as process:
                source.wait_for_entries(enough)
                process.kill()
    finally:
        load.enough.set()
        load.join()
    with source.listening():
        source.wait_for_entries(len(load.story))
    assert source.story() == load.story
    for seqs in source.seqs_by_partition():
        assert seqs == sorted(set(seqs))
