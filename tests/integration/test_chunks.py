"""Chunks are exact while the table is written to: on MySQL with GTIDs, MySQL without them, and MariaDB."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import Any

import pymysql
import pytest

from ingest import mysql, positions, watermark
from ingest.chunks import ChunkReader, TableAltered, about
from ingest.gtid import DomainPositions, GtidSet
from ingest.position import Place, Position
from ingest.selection import selected
from ingest.textrows import Found
from pixtail.core.errors import DatabaseUnreachable, SettingError, SourceError, UsageError
from pixtail.servers.mysql import MysqlServer
from pixtail.servers.sql import SqlServer
from tests.conftest import serve
from tests.integration.chunks_kit import Chunked, Replica, read_all, taken
from tests.integration.listener_kit import wait_for

IMAGES = "CREATE TABLE images (id INT PRIMARY KEY, title VARCHAR(40), n INT)"
ROWS, CHUNK_ROWS, WRITERS = 500, 40, 4


@pytest.fixture(scope="module")
def filed() -> Iterator[MysqlServer]:
    """MySQL without GTIDs."""
    yield from serve(MysqlServer(gtid=False))


@pytest.fixture(params=["mysql", "filed", "mariadb"])
def server(request: pytest.FixtureRequest) -> SqlServer:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, SqlServer)
    return found


@pytest.fixture
def chunked(server: SqlServer, unique: str) -> Chunked:
    server.create_database(unique)
    found = Chunked(server, unique)
    found.sql(IMAGES)
    return found


@contextmanager
def slow_commits(server: SqlServer, delay_us: int) -> Iterator[None]:
    """MySQL: a transaction stands in the binlog, and is sent, this long before the engine commits it. MariaDB has no such delay."""
    if server.name != "mysql":
        yield
        return
    server.execute(f"SET GLOBAL binlog_group_commit_sync_delay = {delay_us}")
    try:
        yield
    finally:
        server.execute("SET GLOBAL binlog_group_commit_sync_delay = 0")


class Writers:
    """Insert, update, delete and move rows in transactions of one to four statements, until told to stop."""

    def __init__(self, chunked: Chunked) -> None:
        self._chunked = chunked
        self._stop = threading.Event()
        self._failures: list[BaseException] = []
        self.committed = 0  # more or less: counted without a lock
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(WRITERS)]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert not self._failures

    def _run(self, number: int) -> None:
        """Each writer has rows of its own, so that none waits for another's locks and commits meet in groups."""
        chance = random.Random(number)
        try:
            with self._chunked.server.connect(self._chunked.database, autocommit=False) as connection:
                while not self._stop.is_set():
                    with suppress(pymysql.err.OperationalError):  # a deadlock of two gaps: rolled back
                        self._transaction(connection, chance, number)
                        self.committed += 1
                    self._stop.wait(0.001)  # the stream of the test must keep up
        except BaseException as error:  # noqa: BLE001 - for the test to look at
            self._failures.append(error)

    def _transaction(self, connection: pymysql.Connection[Any], chance: random.Random, number: int) -> None:
        with connection.cursor() as cursor:
            for _ in range(chance.randint(1, 4)):
                a, b = (chance.randrange(ROWS) * WRITERS + number for _ in range(2))
                cursor.execute(
                    chance.choice(
                        [
                            f"INSERT IGNORE INTO images VALUES ({a}, 'new', {chance.randrange(1000)})",
                            f"UPDATE images SET n = {chance.randrange(1000)} WHERE id = {a}",
                            f"DELETE FROM images WHERE id = {a}",
                            f"UPDATE IGNORE images SET id = {b}, title = 'moved' WHERE id = {a}",
                        ]
                    )
                )
        connection.commit() if chance.random() < 0.9 else connection.rollback()


def test_chunks_and_stream_together_are_the_table_at_every_moment(chunked: Chunked) -> None:
    """The rows of each chunk are what the binlog says the table held where they are emitted, and none is missing."""
    replica = Replica(chunked, chunked.now(), 4711)
    values = ", ".join(f"({id_}, 'first', {id_})" for id_ in range(ROWS * WRITERS) if id_ % 2)
    chunked.sql(f"INSERT INTO images VALUES {values}")
    emitted: set[int] = set()
    overtaken = 0
    try:
        with slow_commits(chunked.server, 3000), chunked.reader(max_rows=CHUNK_ROWS) as reader, Writers(chunked):
            replica.feed_until(lambda: len(replica.rows) > ROWS and replica.rows.keys() != replica.changed)
            after: Any = None
            last = False
            while not last:
                after, last = _windowed(reader, replica, after, emitted)
                overtaken += len(replica.changed)
    finally:
        replica.close()
    assert len(emitted) > ROWS / 2
    assert overtaken > 10


def _windowed(reader: ChunkReader, replica: Replica, after: Any, emitted: set[int]) -> tuple[Any, bool]:
    """Requests, follows the stream and emits one chunk; what it leaves out, the stream has brought."""
    replica.changed.clear()
    reader.request(after, replica.position if replica.position.gtid else replace(replica.position, gtid=None))
    found: list[Any] = []

    def passed() -> bool:
        if not found and (chunk := reader.poll()):
            found.append(chunk)
        return bool(found) and replica.place.reaches(found[0].until)

    replica.feed_until(passed)
    chunk = found[0]
    fresh = {row["id"]: row for row in chunk.rows if row["id"] not in replica.changed}
    truth = {id_: row for id_, row in replica.rows.items() if id_ not in replica.changed}
    low, high = after[0] if after else -1, chunk.after[0] if not chunk.last else 1 << 31
    assert fresh == {id_: row for id_, row in truth.items() if low < id_ <= high}
    emitted.update(fresh)
    return chunk.after, chunk.last


def test_a_chunk_waits_for_what_the_stream_has_sent_already(chunked: Chunked) -> None:
    """On MySQL the row is in the binlog a second before the engine has it; on MariaDB the place is one that is still to come."""
    start = chunked.now()
    with closing(Replica(chunked, start, 4712)) as replica, chunked.reader() as reader:
        assert taken(reader, None, start).rows == []
        with slow_commits(chunked.server, 1_000_000):
            writer = threading.Thread(target=chunked.sql, args=("INSERT INTO images VALUES (1, 'x', 1)",))
            if chunked.server.name == "mysql":
                writer.start()
                replica.feed_until(lambda: 1 in replica.rows)
                not_before = replica.position if start.gtid else replace(replica.position, gtid=None)
                assert chunked.server.query("SELECT COUNT(*) FROM images", chunked.database) == [(0,)]
                reader.request(None, not_before)
            else:
                reader.request(None, Position(None, start.file, start.pos + 1))
                assert reader.poll() is None
                writer.start()
            chunk = wait_for(reader.poll, "a chunk")
            writer.join()
    assert [row["id"] for row in chunk.rows] == [1]


def test_until_lies_behind_whatever_the_chunk_saw(chunked: Chunked) -> None:
    """Written between the request and the view, and, where the view is opened by the SELECT, right before that."""
    start = chunked.now()
    with chunked.reader() as reader:
        taken(reader, None, start)
        chunked.sql("INSERT INTO images VALUES (1, 'x', 1)")
        first = chunked.now().place
        read = reader._rows.read

        def overtaken(*arguments: Any) -> Found:
            chunked.sql("INSERT INTO images VALUES (2, 'x', 1)")
            return read(*arguments)

        reader._rows.read = overtaken  # type: ignore[method-assign]
        chunk = taken(reader, None, start)
    assert chunk.rows[0]["id"] == 1
    assert chunk.until.reaches(first)
    assert [row["id"] for row in chunk.rows] == ([1, 2] if chunk.until.reaches(chunked.now().place) else [1])


def test_the_gtids_of_a_start_position_are_those_before_its_place(database: SqlServer, unique: str) -> None:
    database.create_database(unique)
    chunked = Chunked(database, unique)
    chunked.sql(IMAGES)
    found: list[Position] = []
    with slow_commits(database, 20_000), Writers(chunked) as writers:
        wait_for(lambda: found.append(chunked.now()) or (writers.committed > 40 and len(found) > 10), "some commits")
    ends = dict(_commits(database, {position.file for position in found}))
    kind = GtidSet if database.name == "mysql" else DomainPositions
    for position in found:
        executed = kind(position.gtid or "")
        for place, gtid in ends.items():
            if position.place.reaches(place):
                executed.add(gtid)
        assert str(executed) == position.gtid


def _commits(server: SqlServer, files: set[str]) -> Iterator[tuple[Place, str]]:
    """Where each transaction begins, behind its GTID: a place is never inside one."""
    for file in sorted(files):
        for _, _, kind, _, end, info in server.query(f"SHOW BINLOG EVENTS IN '{file}'"):
            if kind == "Gtid":
                yield Place(file, end), re.findall(r"[\w-]+:\d+|\d+-\d+-\d+", info)[0]


@pytest.mark.parametrize(
    "statements", [["FLUSH BINARY LOGS"], ["FLUSH BINARY LOGS", "CREATE TABLE other (id INT) ENGINE = MyISAM"]]
)
def test_a_chunk_of_an_idle_server_does_not_wait(chunked: Chunked, statements: list[str]) -> None:
    """Whatever was written last, be it a file's header or another engine's table, a stream's position is never ahead of a new view."""
    chunked.sql("INSERT INTO images VALUES (1, 'x', 1)", *statements)
    with chunked.reader() as reader:
        chunk = taken(reader, None, chunked.now())
    assert len(chunk.rows) == 1
    assert chunked.now().place.reaches(chunk.until) or chunked.look()[0].gtid is False


def test_a_commit_that_never_comes_is_an_outage(
    database: SqlServer, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without GTIDs there is nothing to wait for but a commit of our own, which comes or fails."""
    monkeypatch.setattr("ingest.chunks.COMMIT_TIMEOUT_S", 1)
    database.create_database(unique)
    chunked = Chunked(database, unique)
    chunked.sql(IMAGES)
    now = chunked.now()
    gtid = "00000000-0000-0000-0000-000000000001:1"
    with chunked.reader() as reader, pytest.raises(DatabaseUnreachable, match="has not committed"):
        taken(reader, None, Position(gtid, now.file, now.pos + 1000))


def test_a_reader_that_is_closed_while_it_waits_ends_at_once(chunked: Chunked) -> None:
    now = chunked.now()
    gtid = None if now.gtid is None else "00000000-0000-0000-0000-000000000001:1"
    with chunked.reader() as reader:
        reader.request(None, Position(gtid, now.file, now.pos + 1000))


# Rows and bytes


def test_rows_are_read_once_in_key_order_and_the_last_chunk_says_so(chunked: Chunked) -> None:
    chunked.sql("INSERT INTO images VALUES " + ", ".join(f"({n}, 'x', NULL)" for n in range(1, 31)))
    chunks = chunked.chunks(max_rows=10)
    assert [row["id"] for chunk in chunks for row in chunk.rows] == list(range(1, 31))
    assert [(len(chunk.rows), chunk.after, chunk.last) for chunk in chunks] == [
        (10, (10,), False),
        (10, (20,), False),
        (10, (30,), True),
    ]


def test_an_empty_table_is_one_empty_chunk(chunked: Chunked) -> None:
    assert [(chunk.rows, chunk.after, chunk.last) for chunk in chunked.chunks()] == [([], None, True)]


def test_a_chunk_is_bounded_in_bytes_and_a_single_row_may_be_giant(database: SqlServer, unique: str) -> None:
    database.create_database(unique)
    allowed = database.query("SELECT @@GLOBAL.max_allowed_packet")[0][0]
    database.execute(f"SET GLOBAL max_allowed_packet = {64 << 20}")
    try:
        chunked = Chunked(database, unique)
        chunked.sql("CREATE TABLE images (id INT PRIMARY KEY, body LONGBLOB)")
        chunked.sql(f"INSERT INTO images VALUES (0, REPEAT('g', {17 << 20}))")
        chunked.sql("INSERT INTO images VALUES " + ", ".join(f"({n}, REPEAT('x', 100000))" for n in range(1, 41)))
        chunks = chunked.chunks(max_bytes=1_000_000)
    finally:
        database.execute(f"SET GLOBAL max_allowed_packet = {allowed}")
    assert [row["id"] for chunk in chunks for row in chunk.rows] == list(range(41))
    assert [len(chunk.rows) for chunk in chunks][:4] == [1, 1, 4, 9]
    assert max(len(chunk.rows) for chunk in chunks) <= 10
    assert len(chunks[0].rows[0]["body"]) == -(-(17 << 20) // 3) * 4


def test_rows_come_over_tls_too(mysql: MysqlServer, unique: str) -> None:
    mysql.create_database(unique)
    chunked = Chunked(mysql, unique, "?ssl_mode=REQUIRED")
    chunked.sql("CREATE TABLE images (id INT PRIMARY KEY, body LONGTEXT)")
    chunked.sql("INSERT INTO images VALUES (1, REPEAT('é', 300000)), (2, 'x')")
    (chunk,) = chunked.chunks()
    assert [row["body"] for row in chunk.rows] == ["é" * 300000, "x"]


# What goes wrong


def test_a_lost_connection_is_an_outage_and_the_next_request_connects_anew(chunked: Chunked) -> None:
    chunked.sql("INSERT INTO images VALUES (1, 'x', 1)")
    with chunked.reader() as reader:
        taken(reader, None, chunked.now())
        assert reader._connection is not None
        chunked.sql(f"KILL {reader._connection.thread_id()}")
        with pytest.raises(DatabaseUnreachable):
            taken(reader, None, chunked.now())
        assert len(taken(reader, None, chunked.now()).rows) == 1


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE images DROP COLUMN n",
        "ALTER TABLE images MODIFY n VARCHAR(9), ADD COLUMN x INT",
        "RENAME TABLE images TO other",
        "ALTER TABLE images DROP PRIMARY KEY",
    ],
)
def test_a_table_that_was_altered_is_told_from_one_that_cannot_be_read(chunked: Chunked, change: str) -> None:
    chunked.sql("INSERT INTO images VALUES (1, 'x', 1)")
    with chunked.reader() as reader:
        chunked.sql(change)
        if "MODIFY" in change:
            chunked.sql("UPDATE images SET n = 'seven'")
        with pytest.raises(TableAltered, match="images has been altered"):
            taken(reader, None, chunked.now())


def test_a_mariadb_view_that_the_table_was_altered_behind_is_no_chunk(mariadb: SqlServer, unique: str) -> None:
    """The view is opened before the table is: between the two somebody may alter it."""
    mariadb.create_database(unique)
    chunked = Chunked(mariadb, unique)
    chunked.sql(IMAGES, "INSERT INTO images VALUES (1, 'x', 1)")
    now = chunked.now()
    with chunked.reader() as reader:
        wait_for(lambda: reader._connection, "a connection")
        opened = reader._open_view

        def altered(connection: Any, not_before: Place) -> Place:
            place = opened(connection, not_before)
            chunked.sql("ALTER TABLE images ADD COLUMN x INT FIRST, ALGORITHM = COPY")
            return place

        reader._open_view = altered  # type: ignore[method-assign]
        with pytest.raises(TableAltered):
            taken(reader, None, now)


def test_a_row_that_cannot_be_decoded_is_named_without_its_content(mysql: MysqlServer, unique: str) -> None:
    mysql.create_database(unique)
    chunked = Chunked(mysql, unique)
    chunked.sql("CREATE TABLE images (id INT PRIMARY KEY, title VARCHAR(9) CHARACTER SET eucjpms)")
    chunked.sql(
        "INSERT INTO images VALUES (1, CONCAT('s3cret', _eucjpms X'ADA1'))"
    )  # NEC's ①, which Python does not know
    with pytest.raises(SourceError, match=r"column title: .*eucjpms") as caught:
        chunked.chunks()
    assert "s3cret" not in str(caught.value)


# The commit barrier of a MySQL without GTIDs


def test_without_the_right_to_write_the_remedy_grants_it(filed: MysqlServer, unique: str) -> None:
    filed.create_database(unique)
    chunked = Chunked(filed, unique, user=unique)
    chunked.sql(
        IMAGES,
        f"CREATE USER '{unique}'@'127.0.0.1'",
        f"GRANT REPLICATION CLIENT, REPLICATION SLAVE ON *.* TO '{unique}'@'127.0.0.1'",
        f"GRANT SELECT ON {unique}.images TO '{unique}'@'127.0.0.1'",
    )
    try:
        with pytest.raises(SettingError, match="may not") as caught:
            chunked.chunks()
        chunked.sql(*filter(None, caught.value.remedy.split(";")))
        assert chunked.chunks()[0].last
        assert chunked.chunks()[0].last
    finally:
        chunked.sql(f"DROP USER '{unique}'@'127.0.0.1'")


def test_a_read_only_server_without_gtids_is_refused_with_its_ways_out(filed: MysqlServer, unique: str) -> None:
    filed.create_database(unique)
    chunked = Chunked(filed, unique)
    chunked.sql(IMAGES, "SET GLOBAL super_read_only = ON")
    try:
        with pytest.raises(SettingError, match="read-only") as caught:
            chunked.chunks()
    finally:
        chunked.sql("SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF")
    assert "gtid_mode" in caught.value.remedy


def test_commits_out_of_order_are_refused_and_the_remedy_mends_it(filed: MysqlServer, unique: str) -> None:
    filed.create_database(unique)
    chunked = Chunked(filed, unique)
    chunked.sql(IMAGES, "SET GLOBAL binlog_order_commits = OFF")
    try:
        with pytest.raises(SettingError, match="binlog_order_commits") as caught:
            chunked.chunks()
        chunked.sql(caught.value.remedy.split(";")[0])
        assert chunked.chunks()[0].last
    finally:
        chunked.sql("SET GLOBAL binlog_order_commits = ON")


def test_doctor_may_ask_whether_a_snapshot_can_be_exact(chunked: Chunked) -> None:
    server, _ = chunked.look()
    with closing(mysql.connect(chunked.address)) as connection:
        how = watermark.confirm(connection, server, chunked.database, "images")
    assert (
        how
        == {
            "mariadb": "by consistent snapshots",
            "mysql": "by GTIDs" if server.gtid else f"by writes to {chunked.database}.pixtail_watermark",
        }[chunked.server.name]
    )


# Selections


@pytest.fixture
def shelf(database: SqlServer, unique: str) -> Chunked:
    database.create_database(unique)
    found = Chunked(database, unique)
    found.sql("CREATE TABLE images (id INT PRIMARY KEY, status VARCHAR(9), n INT, KEY (status))")
    found.sql(
        "INSERT INTO images VALUES " + ", ".join(f"({n}, 'S{n % 3}', {'NULL' if n % 2 else n})" for n in range(100))
    )
    return found


@pytest.mark.parametrize(
    ("chosen", "ids"),
    [
        (selected({"status": "s1"}), [n for n in range(100) if n % 3 == 1]),  # the column's collation ignores case
        (selected({"n": "null", "status": "S1"}), [n for n in range(100) if n % 3 == 1 and n % 2]),
        (selected(ids=[5, "7", 5, 200, 3]), [3, 5, 7]),
        (selected({"status": "S1"}, ids=[1, 2, 3, 4]), [1, 4]),
        (selected(limit=17), list(range(17))),
        (selected({"status": "S0"}, limit=4), [0, 3, 6, 9]),
        (selected(limit=0), []),
        (selected({"status": "none"}), []),
    ],
)
def test_a_selection_reads_its_rows_and_no_others(shelf: Chunked, chosen: Any, ids: list[int]) -> None:
    chunks = shelf.chunks(selection=chosen, max_rows=7)
    assert [row["id"] for chunk in chunks for row in chunk.rows] == ids
    assert [chunk.last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    _, table = shelf.look()
    with closing(mysql.connect(shelf.address)) as connection:
        assert about(connection, table, ("id",), chosen) == len(ids)


def test_a_selection_that_does_not_fit_the_table_is_a_usage_error(shelf: Chunked) -> None:
    for chosen in (selected({"colour": "red"}), selected(ids=["abc"]), selected(ids=[[1, 2]])):
        with pytest.raises(UsageError):
            shelf.chunks(selection=chosen)


def test_a_large_table_is_estimated_not_counted(database: SqlServer, unique: str) -> None:
    database.create_database(unique)
    chunked = Chunked(database, unique)
    chunked.sql(
        "CREATE TABLE images (id INT PRIMARY KEY AUTO_INCREMENT, n INT)", "INSERT INTO images (n) VALUES (1), (2)"
    )
    chunked.sql(*["INSERT INTO images (n) SELECT n FROM images"] * 15, "ANALYZE TABLE images")
    _, table = chunked.look()
    with closing(mysql.connect(chunked.address)) as connection:
        assert 20_000 < about(connection, table, ("id",)) < 150_000
        assert about(connection, table, ("id",), selected(ids=[1, 2, 3])) == 3


def test_a_reader_may_be_waited_for(chunked: Chunked) -> None:
    ready = threading.Event()
    with chunked.reader(notify=ready.set) as reader:
        reader.request(None, chunked.now())
        assert ready.wait(10)
        chunk = reader.poll()
        assert chunk is not None
        assert chunk.last
        assert reader.poll() is None


def test_a_snapshot_goes_on_behind_a_key_in_another_reader(chunked: Chunked) -> None:
    chunked.sql("INSERT INTO images VALUES " + ", ".join(f"({n}, 'x', 1)" for n in range(10)))
    with chunked.reader(max_rows=4) as first:
        after = taken(first, None, chunked.now()).after
    with chunked.reader(max_rows=100) as second:
        assert [row["id"] for row in taken(second, after, chunked.now()).rows] == [4, 5, 6, 7, 8, 9]
        assert positions.now.__doc__


def test_all_is_read(chunked: Chunked) -> None:
    chunked.sql("INSERT INTO images VALUES " + ", ".join(f"({n}, 'x', 1)" for n in range(1000)))
    with chunked.reader() as reader:
        sizes = [len(chunk.rows) for chunk in read_all(reader, chunked.now())]
    assert sizes == [64, 256, 680]
