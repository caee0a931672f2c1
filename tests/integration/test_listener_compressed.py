"""Compressed binlogs, tagged GTIDs and what newer servers write: decoded, or the listener stops. All over real servers.

MySQL 9 and MariaDB 11.8 come from a suite that moves, so these tests skip where it has none, in CI too; unit tests hold samples of both.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

import pytest

from ingest import events, tablemap
from ingest.compression import inner_events, plain
from ingest.events import EventType
from ingest.gtid import GtidSet
from pixtail.core.changes import Change
from pixtail.core.errors import UndecodableEvent
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.mariadb import MariadbServer
from pixtail.servers.mysql import MysqlServer
from pixtail.servers.parts import Part, PartMissing
from pixtail.servers.sql import SqlServer
from tests.conftest import serve
from tests.integration.listener_kit import IMAGES, Listening, Source
from tests.integration.test_listener_values import (
    test_every_type_has_the_same_value_from_the_snapshot_and_from_the_stream as check_every_type,
)

MYSQL_COMPRESSED = ["--binlog-transaction-compression=ON"]
MARIADB_COMPRESSED = ["--log-bin-compress=ON", "--log-bin-compress-min-len=10"]
COM_BINLOG_DUMP_GTID = 0x1E
CHECKSUM_BYTES = 4
LONG = "x" * 200


def newest(server: SqlServer) -> Iterator[SqlServer]:
    try:
        server.start()
    except PartMissing as error:
        server.close()
        pytest.skip(str(error))
    yield server
    server.close()


@pytest.fixture(scope="module")
def mysql9() -> Iterator[SqlServer]:
    """Its binlog is compressed."""
    yield from newest(MysqlServer(part=Part.NEWER, extra=MYSQL_COMPRESSED))


@pytest.fixture(scope="module")
def mariadb11() -> Iterator[SqlServer]:
    """Its binlog is compressed."""
    yield from newest(MariadbServer(part=Part.NEWER, extra=MARIADB_COMPRESSED))


@pytest.fixture(scope="module")
def mariadb10() -> Iterator[SqlServer]:
    """Its binlog is compressed."""
    yield from serve(MariadbServer(extra=MARIADB_COMPRESSED))


@pytest.fixture(params=["mysql9", "mariadb11", "mariadb10"])
def compressing(request: pytest.FixtureRequest) -> SqlServer:
    server = request.getfixturevalue(request.param)
    assert isinstance(server, SqlServer)
    return server


@pytest.fixture(params=["mysql9", "mariadb11"])
def newer(request: pytest.FixtureRequest) -> SqlServer:
    server = request.getfixturevalue(request.param)
    assert isinstance(server, SqlServer)
    return server


class Written(NamedTuple):
    kind: int
    body: bytes


def written(server: SqlServer) -> list[Written]:
    """The events in the server's binlog files, in order, without checksums."""
    found = []
    tail = CHECKSUM_BYTES if server.query("SELECT @@binlog_checksum")[0][0] == "CRC32" else 0
    for file in sorted(server.data.glob("binlog.[0-9]*")):
        data, at = file.read_bytes(), 4
        while at < len(data):
            end = at + int.from_bytes(data[at + 9 : at + 13], "little")
            found.append(Written(data[at + 4], data[at + 19 : end - tail]))
            at = end
    return found


def restored(found: list[Written]) -> Iterator[Written]:
    for kind, body in found:
        if kind == EventType.TRANSACTION_PAYLOAD:
            yield from (Written(event[4], event[19:]) for event in inner_events([body]))
        elif kind in events.COMPRESSED_ROWS or kind == EventType.QUERY_COMPRESSED:
            yield Written(*plain(kind, body))
        else:
            yield Written(kind, body)


def changes(found: list[Written]) -> list[tuple[str, bytes]]:
    """Table maps and rows, but for the table's number, and where a row event ends."""
    return [
        (EventType(kind).name, body[8:])
        for kind, body in restored(found)
        if kind in events.ROWS or (kind == EventType.TABLE_MAP and tablemap.table_map(body[8:]).table == "images")
    ]


WRITES = [
    f"INSERT INTO images VALUES (1, '{LONG}', 1), (2, '{LONG}', NULL)",
    f"UPDATE images SET n = 3, file_path = '{LONG[1:]}' WHERE id = 1",
    "DELETE FROM images WHERE id = 2",
]


def test_restored_events_are_those_of_an_uncompressed_binlog(compressing: SqlServer, unique: str) -> None:
    variable = "binlog_transaction_compression" if compressing.name == "mysql" else "GLOBAL log_bin_compress"
    by_mode = []
    for mode in ("ON", "OFF"):
        compressing.execute(f"DROP DATABASE IF EXISTS {unique}")
        compressing.create_database(unique)
        before = len(written(compressing))
        with compressing.connect(unique) as connection, connection.cursor() as cursor:
            for statement in [f"SET {variable} = {mode}", IMAGES, *WRITES, f"SET {variable} = ON"]:
                cursor.execute(statement)
        by_mode.append(written(compressing)[before:])
    compressed, uncompressed = by_mode
    kinds = {event.kind for event in compressed}
    assert kinds & {EventType.TRANSACTION_PAYLOAD, EventType.WRITE_ROWS_COMPRESSED_V1}
    assert not kinds & events.ROWS
    assert changes(compressed) == changes(uncompressed)
    assert len(changes(compressed)) == 6


def test_a_compressed_binlog_is_followed(compressing: SqlServer, kafka: KafkaServer, unique: str) -> None:
    source = Source(compressing, kafka, unique)
    source.sql(IMAGES)
    with source.listening() as listening:
        listening.wait_until_ready()
        source.sql(*WRITES, f"INSERT INTO images VALUES (4, '{LONG}', 4)", "TRUNCATE images")
        source.insert(5, 600)
        entries = source.wait_for_entries(602 + 3)  # the truncation stands in each of three partitions
    rows = [entry for entry in entries if isinstance(entry, Change)]
    assert [row.op.value for row in rows[:5]] == ["c", "c", "u", "d", "c"]
    assert rows[2].after == {"id": 1, "file_path": LONG[1:], "n": 3}
    assert source.story()[-596:] == [("c", n) for n in range(5, 601)]
    assert all(row.source.pos > 4 for row in rows)


def test_a_compressed_transaction_is_written_once_though_the_listener_starts_again(
    compressing: SqlServer, kafka: KafkaServer, unique: str
) -> None:
    source = Source(compressing, kafka, unique)
    source.sql(IMAGES)
    for first in (1, 301):
        with source.listening() as listening:
            listening.wait_until_ready()
            source.insert(first, first + 299)
            source.wait_for_entries(first + 299)
    assert source.story() == [("c", n) for n in range(1, 601)]


def test_every_type_has_the_same_value_on_newer_servers(newer: SqlServer, kafka: KafkaServer, unique: str) -> None:
    check_every_type(newer, kafka, unique)


def test_vectors_and_invisible_columns_are_followed(newer: SqlServer, kafka: KafkaServer, unique: str) -> None:
    """A VECTOR before a text column: only if its collation is counted as the server counts it, the text comes out as text."""
    to_vector = "TO_VECTOR" if newer.name == "mysql" else "VEC_FromText"
    source = Source(newer, kafka, unique)
    source.sql(
        "CREATE TABLE images (id BIGINT PRIMARY KEY, v VECTOR(3), file_path VARCHAR(20), hidden VARCHAR(9) INVISIBLE, n INT)"
    )
    write = f"INSERT INTO images (id, v, file_path, hidden, n) VALUES ({{}}, {to_vector}('[1,2,3.5]'), 'ü', 'h', 7)"
    source.sql(write.format(1))
    with source.listening() as listening:
        listening.wait_until_ready()
        source.sql(write.format(2))
        read, streamed = source.wait_for_entries(2)
    wanted = {"v": "AACAPwAAAEAAAGBA", "file_path": "ü", "hidden": "h", "n": 7}
    assert isinstance(read, Change)
    assert isinstance(streamed, Change)
    assert read.after == {"id": 1, **wanted}
    assert streamed.after == {"id": 2, **wanted}


# Tagged GTIDs


def tagged_and_not(server: SqlServer, database: str) -> None:
    with server.connect(database) as connection, connection.cursor() as cursor:
        for tag in (":blue", "", ":blue", ":red", ""):
            cursor.execute(f"SET gtid_next = 'AUTOMATIC{tag}'")
            cursor.execute("INSERT INTO images (file_path) VALUES ('p')")


def test_the_gtids_in_the_binlog_make_the_servers_own_set(mysql9: SqlServer, unique: str) -> None:
    mysql9.create_database(unique)
    mysql9.execute(IMAGES, database=unique)
    tagged_and_not(mysql9, unique)
    executed = GtidSet()
    for event in written(mysql9):
        if gtid := gtid_of(event):
            executed.add(gtid)
    (server_set,) = mysql9.query("SELECT @@gtid_executed")[0]
    assert str(executed) == server_set.replace("\n", "")
    assert ":blue:" in str(executed)


def test_the_server_goes_on_behind_an_encoded_set(mysql9: SqlServer, unique: str) -> None:
    """What is sent to ask for the rest of the binlog: from there on comes what the set lacks, tagged or not."""
    mysql9.create_database(unique)
    mysql9.execute(IMAGES, database=unique)
    tagged_and_not(mysql9, unique)
    (executed,) = mysql9.query("SELECT @@gtid_executed")[0]
    tagged_and_not(mysql9, unique)
    asked = GtidSet(executed)
    for gtid in gtids_sent(mysql9, asked):
        asked.add(gtid)
    assert str(asked) == mysql9.query("SELECT @@gtid_executed")[0][0].replace("\n", "")
    assert len(gtids_sent(mysql9, GtidSet(executed))) == 5


def gtids_sent(server: SqlServer, executed: GtidSet) -> list[str]:
    """What comes until the end of the binlog (flag 1: do not wait for more)."""
    encoded = executed.encoded()
    request = struct.pack("<HIIQI", 4 | 1, 4242, 0, 4, len(encoded)) + encoded
    found = []
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET @source_binlog_checksum = 'NONE', @master_binlog_checksum = 'NONE'")
        connection._execute_command(COM_BINLOG_DUMP_GTID, request)  # type: ignore[attr-defined]
        while not (packet := connection._read_packet()).is_eof_packet():  # type: ignore[no-untyped-call]
            data = packet.get_all_data()
            found.append(gtid_of(Written(data[events.KIND], data[events.BODY :])))
    return [gtid for gtid in found if gtid]


def gtid_of(event: Written) -> str | None:
    if event.kind == EventType.GTID_TAGGED:
        return events.tagged_gtid(event.body)[0]
    if event.kind != EventType.GTID:
        return None
    packet = bytes(events.BODY) + event.body
    _, _, _, sid, number, _ = events.mysql_gtid(packet, len(packet))
    return f"{UUID(bytes=sid)}:{number}"


def test_tagged_transactions_are_written_once_though_the_listener_starts_again(
    mysql9: SqlServer, kafka: KafkaServer, unique: str
) -> None:
    source = Source(mysql9, kafka, unique)
    source.sql(IMAGES)
    for last in (5, 10):
        with source.listening() as listening:
            listening.wait_until_ready()
            tagged_and_not(mysql9, unique)
            entries = source.wait_for_entries(last)
    assert source.story() == [("c", n) for n in range(1, 11)]
    gtids = [str(entry.source.gtid) for entry in entries if isinstance(entry, Change)]
    assert [gtid.count(":blue:") for gtid in gtids] == [1, 0, 1, 0, 0] * 2


# What cannot be decoded


def test_a_partial_update_of_the_table_stops_it_and_of_another_does_not(
    mysql: MysqlServer, kafka: KafkaServer, unique: str
) -> None:
    """The server's own setting is refused at the start; a session may still have it."""
    source = Source(mysql, kafka, unique)
    source.sql("CREATE TABLE images (id INT PRIMARY KEY, file_path VARCHAR(9), doc JSON)")
    source.sql("CREATE TABLE others LIKE images")
    for table in ("images", "others"):
        source.sql(f"INSERT INTO {table} VALUES (1, 'p', JSON_OBJECT('a', REPEAT('x', 100), 'b', 1))")
    with source.listening() as listening:
        listening.wait_until_ready()
        partially(mysql, unique, "others")
        source.sql("INSERT INTO images VALUES (2, 'p', NULL)")
        source.wait_for_entries(2)
    failing = Listening(source.settings)
    failing.start()
    failing.wait_until_ready()
    partially(mysql, unique, "images")
    failure = failing.wait_until_ended()
    assert isinstance(failure, UndecodableEvent)
    assert "PARTIAL_UPDATE_ROWS (type 39)" in str(failure)
    assert "SET GLOBAL binlog_row_value_options = ''" in failure.remedy
    assert source.story() == [("r", 1), ("c", 2)]


def partially(server: SqlServer, database: str, table: str) -> None:
    with server.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("SET binlog_row_value_options = PARTIAL_JSON")
        cursor.execute(f"UPDATE {table} SET doc = JSON_SET(doc, '$.b', 2) WHERE id = 1")
