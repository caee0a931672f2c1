"""The listener over real servers: snapshot, stream, restart; what it writes and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ingest import capture
from ingest.position import Position, State, to_json
from pixtail.bus.producer import TransactionalProducer
from pixtail.bus.state import state_record
from pixtail.core.changes import TRUNCATE_KEY, Change, Op, Tombstone
from pixtail.core.errors import PositionLost, SettingError, SourceError, UndecodableEvent
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.mariadb import MariadbServer
from pixtail.servers.mysql import MysqlServer
from pixtail.servers.sql import SqlServer
from tests.conftest import serve
from tests.integration.listener_kit import IMAGES, Listening, Source, wait_for


@pytest.fixture(scope="module")
def mysql_without_gtid() -> Iterator[MysqlServer]:
    yield from serve(MysqlServer(gtid=False))


@pytest.fixture
def source(database: SqlServer, kafka: KafkaServer, unique: str) -> Source:
    """The table with the rows 1, 2 and 3."""
    made = Source(database, kafka, unique)
    made.sql(IMAGES)
    made.insert(1, 3)
    return made


@pytest.fixture
def quick_source(mariadb: MariadbServer, kafka: KafkaServer, unique: str) -> Source:
    """The same, on one server only: for what does not depend on it."""
    made = Source(mariadb, kafka, unique)
    made.sql(IMAGES)
    made.insert(1, 3)
    return made


def assert_strictly_increasing(source: Source) -> None:
    for seqs in source.seqs_by_partition():
        assert seqs == sorted(set(seqs))


def tell_a_story(source: Source) -> None:
    """Snapshot of three rows, then one change of each kind, over two lives of the listener."""
    with source.listening() as listening:
        listening.wait_until_ready()
        source.insert(4, 5)
        source.sql("UPDATE images SET n = 40 WHERE id = 4", "UPDATE images SET id = 50 WHERE id = 5")
        source.wait_for_entries(9)
    source.sql("DELETE FROM images WHERE id = 1", "REPLACE INTO images VALUES (2, 'new.jpg', 20)")
    with source.listening():
        source.wait_for_entries(12)
        source.sql("TRUNCATE TABLE images", "INSERT INTO images (file_path) VALUES ('again.jpg')")
        source.wait_for_entries(16)
    assert source.story() == [
        *[("r", 1), ("r", 2), ("r", 3)],
        *[("c", 4), ("c", 5), ("u", 4), ("d", 5), ("", 5), ("c", 50)],
        *[("d", 1), ("", 1), ("u", 2)],
        *[("t", "truncate")] * 3,
        ("c", 1),
    ]
    assert_strictly_increasing(source)


def test_a_snapshot_and_every_kind_of_change_arrive_once_over_a_restart(source: Source) -> None:
    tell_a_story(source)


def test_a_mysql_without_gtids_is_followed_by_file_and_position(
    mysql_without_gtid: MysqlServer, kafka: KafkaServer, unique: str
) -> None:
    source = Source(mysql_without_gtid, kafka, unique)
    source.sql(IMAGES)
    source.insert(1, 3)
    tell_a_story(source)
    saved = source.saved()
    assert saved is not None
    assert saved.position.gtid is None


def test_a_change_carries_both_images_and_where_it_was_read(source: Source) -> None:
    with source.listening() as listening:
        listening.wait_until_ready()
        source.sql("UPDATE images SET n = 30 WHERE id = 3")
        change = source.wait_for_entries(4)[-1]
    assert isinstance(change, Change)
    assert change.before == {"id": 3, "file_path": "p3.jpg", "n": 3}
    assert change.after == {"id": 3, "file_path": "p3.jpg", "n": 30}
    assert (change.source.db, change.source.table, change.source.name) == (source.name, "images", source.name)
    assert change.source.server_id == 1
    assert change.source.file.startswith("binlog.")
    assert change.source.gtid
    assert 0 <= change.ts_ms - change.source.ts_ms < 5000
    assert 0 <= (change.seq >> 10) - change.ts_ms < 1000
    assert listening.counted(Op.READ) == 3
    assert listening.counted(Op.UPDATE) == 1


def test_an_empty_table_has_an_empty_snapshot_and_a_position(
    mariadb: MariadbServer, kafka: KafkaServer, unique: str
) -> None:
    source = Source(mariadb, kafka, unique)
    source.sql(IMAGES)
    with source.listening():
        wait_for(source.saved, "a saved state")
        source.insert(1, 1)
        source.wait_for_entries(1)
    assert source.story() == [("c", 1)]


def test_a_snapshot_marks_its_last_row(quick_source: Source) -> None:
    source = quick_source
    with source.listening(chunk_rows=3) as listening:  # the last chunk is full, and nothing follows it
        listening.wait_until_ready()
        entries = source.wait_for_entries(3)
    marks = [entry.source.snapshot for entry in entries if isinstance(entry, Change)]
    assert marks == ["true", "true", "last"]


def test_a_truncation_stands_in_every_partition_under_its_own_seq(quick_source: Source) -> None:
    source = quick_source
    with source.listening() as listening:
        listening.wait_until_ready()
        source.sql("TRUNCATE images")
        entries = source.wait_for_entries(6)[3:]
    assert [entry.key for entry in entries] == [TRUNCATE_KEY] * 3
    assert len({entry.seq for entry in entries}) == 3
    assert all(entry.seq in seqs for entry, seqs in zip(entries, source.seqs_by_partition(), strict=True))
    assert listening.counted(Op.TRUNCATE) == 1


def test_a_tombstone_follows_each_delete(quick_source: Source) -> None:
    source = quick_source
    with source.listening() as listening:
        listening.wait_until_ready()
        source.sql("DELETE FROM images WHERE id < 3")
        entries = source.wait_for_entries(7)[3:]
    assert [type(entry) for entry in entries] == [Change, Tombstone, Change, Tombstone]
    assert [entry.key for entry in entries] == [{"id": 1}, {"id": 1}, {"id": 2}, {"id": 2}]


def test_columns_may_come_and_go_while_it_runs(source: Source) -> None:
    with source.listening() as listening:
        listening.wait_until_ready()
        source.sql("ALTER TABLE images ADD added JSON, DROP n")
        source.sql("""INSERT INTO images VALUES (4, 'x', '{"a": 1}')""")
        change = source.wait_for_entries(4)[-1]
    assert isinstance(change, Change)
    assert change.after == {"id": 4, "file_path": "x", "added": {"a": 1}}


def test_the_position_moves_with_other_tables_too(quick_source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    source = quick_source
    monkeypatch.setattr(capture, "SAVE_S", 0.05)
    source.sql("CREATE TABLE other (id INT PRIMARY KEY)")
    with source.listening() as listening:
        listening.wait_until_ready()
        first = source.saved()
        source.sql("INSERT INTO other VALUES (1)")
        wait_for(lambda: source.saved() != first, "a newer state")
    assert len(source.entries()) == 3


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("DROP TABLE images", "DROP TABLE"),
        ("RENAME TABLE images TO pictures", "RENAME TABLE"),
        ("SET SESSION binlog_format = STATEMENT; UPDATE images SET n = 1", "STATEMENT"),
    ],
)
def test_what_takes_rows_away_unseen_stops_it(quick_source: Source, statement: str, named: str) -> None:
    source = quick_source
    listening = Listening(source.settings)
    listening.start()
    listening.wait_until_ready()
    with source.server.connect(source.name) as connection, connection.cursor() as cursor:
        for part in statement.split("; "):
            cursor.execute(part)
    failure = listening.wait_until_ended()
    assert isinstance(failure, SourceError)
    assert named in failure.problem
    assert f"{source.name}.images" in failure.problem


def test_the_loss_of_the_key_column_stops_it(quick_source: Source) -> None:
    source = quick_source
    listening = Listening(source.settings)
    listening.start()
    listening.wait_until_ready()
    source.sql("ALTER TABLE images CHANGE id number BIGINT UNSIGNED AUTO_INCREMENT")
    assert isinstance(listening.wait_until_ended(), SettingError)


def test_an_incomplete_row_image_stops_it(quick_source: Source) -> None:
    source = quick_source
    listening = Listening(source.settings)
    listening.start()
    listening.wait_until_ready()
    with source.server.connect(source.name) as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION binlog_row_image = MINIMAL")
        cursor.execute("UPDATE images SET n = 9 WHERE id = 1")
    failure = listening.wait_until_ended()
    assert isinstance(failure, UndecodableEvent)
    assert "binlog_row_image = FULL" in failure.remedy


def test_a_purged_binlog_is_a_lost_position(source: Source) -> None:
    with source.listening() as listening:
        listening.wait_until_ready()
        source.wait_for_entries(3)
    source.insert(4, 4)
    source.sql("FLUSH BINARY LOGS")

    def purged() -> bool:
        """A dump thread that has not noticed its client's end keeps the file, and MariaDB a checkpoint: neither says so."""
        source.sql("FLUSH BINARY LOGS")
        newest = source.server.query("SHOW BINARY LOGS")[-1][0]
        source.sql(f"PURGE BINARY LOGS TO '{newest}'")
        return source.server.query("SHOW BINARY LOGS")[0][0] == newest

    wait_for(purged, "purged binlogs")
    again = Listening(source.settings)
    again.start()
    failure = again.wait_until_ended()
    assert isinstance(failure, PositionLost)
    assert "snapshot" in failure.remedy


def test_a_position_of_another_server_is_a_lost_position(source: Source) -> None:
    with source.listening() as listening:
        listening.wait_until_ready()
    gtid = "7-1-5" if source.server.name == "mariadb" else "00000000-0000-0000-0000-000000000001:1-5"
    strange = State(Position(gtid, "binlog.000001", 4), seq=1)
    producer = TransactionalProducer(source.settings.kafka, source.name)
    producer.open()
    record = state_record(source.topics.source, to_json(strange))
    producer.write({(source.topics.state, 0): [(record.key, record.value, None)]})
    producer.close()
    again = Listening(source.settings)
    again.start()
    assert isinstance(again.wait_until_ended(), PositionLost)


def test_of_two_listeners_one_stands_by_and_takes_over(source: Source) -> None:
    leader, standby = Listening(source.settings), Listening(source.settings)
    leader.start()
    source.wait_for_entries(3)
    standby.start()
    source.insert(4, 4)
    source.wait_for_entries(4)
    leader.stop()
    source.insert(5, 5)
    source.wait_for_entries(5)
    standby.stop()
    for listening in (leader, standby):
        listening.raise_failure()
    assert source.story() == [("r", 1), ("r", 2), ("r", 3), ("c", 4), ("c", 5)]


def test_a_table_that_may_go_empties_the_topic_and_comes_back(
    database: SqlServer, kafka: KafkaServer, unique: str
) -> None:
    source = Source(database, kafka, unique, on_drop="empty")
    source.sql(IMAGES)
    source.insert(1, 2)
    with source.listening() as listening:
        source.wait_for_entries(2)
        source.sql("DROP TABLE images")
        source.wait_for_entries(5)
        source.sql(IMAGES.replace("n INT", "n INT, more INT"))
        source.sql("INSERT INTO images VALUES (7, 'p', 1, 2)")
        source.wait_for_entries(6)
        source.sql("CREATE TABLE other LIKE images", "INSERT INTO other VALUES (8, 'q', 1, 2)")
        source.sql("RENAME TABLE images TO old, other TO images")
        source.wait_for_entries(7)
        assert listening.failure is None
    assert source.story() == [("r", 1), ("r", 2), *[("t", "truncate")] * 3, ("c", 7), ("r", 8)]
