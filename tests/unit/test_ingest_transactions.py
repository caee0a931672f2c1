"""The binlog stream's packets: what becomes of each event, and that none is skipped unknowingly."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import events
from ingest.events import EventType
from ingest.rowimage import RowChange
from ingest.statements import Effect
from ingest.transactions import Followed, Transaction, Transactions
from pixtail.core.errors import SourceError, UndecodableEvent

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
FILE = "binlog.000001"
NOW_MS = 2_000_000_000_000
HEADER_S = 1_700_000_000
TABLE_ID = (77).to_bytes(6, "little")
# Two columns: id INT UNSIGNED, name VARCHAR(20) of collation 45.
SHAPE = bytes([2, 3, 15, 2, 20, 0, 0, 1, 1, 0x80, 2, 1, 45, 4, 8, 2]) + b"id" + bytes([4]) + b"name"


def packet(kind: int, body: bytes = b"", *, at_s: int = HEADER_S, end: int = 500) -> bytes:
    return b"\0" + struct.pack("<IBIIIH", at_s, kind, 1, 19 + len(body), end, 0) + body


def statement(text: str, database: str = "shop") -> bytes:
    name = database.encode()
    return packet(EventType.QUERY, struct.pack("<IIBHH", 1, 0, len(name), 0, 0) + name + b"\0" + text.encode())


def table_map(table: str = "images", shape: bytes = SHAPE) -> bytes:
    return packet(
        EventType.TABLE_MAP,
        TABLE_ID + bytes(2) + bytes([4]) + b"shop" + bytes([0, len(table)]) + table.encode() + b"\0" + shape,
    )


def row(number: int, name: str) -> bytes:
    text = name.encode()
    return b"\0" + number.to_bytes(4, "little") + bytes([len(text)]) + text


def insert(*images: bytes, present: int = 0b11) -> bytes:
    return packet(EventType.WRITE_ROWS, TABLE_ID + struct.pack("<HH", 1, 2) + bytes([2, present]) + b"".join(images))


def changed(kind: int, present: bytes, *images: bytes) -> bytes:
    return packet(kind, TABLE_ID + struct.pack("<HH", 1, 2) + b"\2" + present + b"".join(images))


def mysql_gtid(number: int, commit_us: int) -> bytes:
    sid = uuid.UUID(UUID).bytes
    body = b"\1" + sid + number.to_bytes(8, "little") + b"\2" + bytes(16) + commit_us.to_bytes(7, "little")
    return packet(EventType.GTID, body)


def mariadb_gtid(number: int, *, standalone: bool = False) -> bytes:
    return packet(EventType.MARIADB_GTID, struct.pack("<QIB", number, 0, int(standalone)))


XID = packet(EventType.XID, bytes(8))


class Told:
    """A handler that remembers what it was told."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.changes: list[RowChange] = []
        self.transactions: list[Transaction] = []
        self.commits: list[tuple[str | None, str, int, int]] = []

    def rows(self, transaction: Transaction, changes: list[RowChange], file: str, pos: int, size_bytes: int) -> None:
        self.kinds.append("rows")
        self.transactions.append(transaction)
        self.changes += changes

    def truncated(self, transaction: Transaction, file: str, pos: int) -> None:
        self.kinds.append("truncated")

    def committed(self, gtid: str | None, file: str, pos: int, commit_ms: int) -> None:
        self.kinds.append("committed")
        self.commits.append((gtid, file, pos, commit_ms))


class Stream:
    """Transactions with a handler that remembers."""

    def __init__(self, *, is_mariadb: bool = False, json: frozenset[str] = frozenset(), may_go: bool = False) -> None:
        self.told = Told()
        followed = Followed("shop", "images", is_mariadb, {45: "utf8mb4"}, json, may_go=may_go)
        self.transactions = Transactions(followed, FILE, 4, self.told)

    @property
    def altered(self) -> Effect | None:
        return self.transactions.altered


def mysql() -> Stream:
    return Stream()


def mariadb() -> Stream:
    return Stream(is_mariadb=True)


def feed(stream: Stream, *packets: bytes) -> list[str]:
    """What the handler was told, in a word each."""
    stream.told.kinds.clear()
    stream.transactions.altered = None
    stream.transactions.feed(packets, NOW_MS)
    return list(stream.told.kinds)


def test_each_event_type_stands_in_exactly_one_table() -> None:
    tables = [set(events.KNOWN), set(events.HARMLESS), set(events.UNDECODABLE), set(events.UNDECODABLE_ROWS)]
    assert sum(map(len, tables)) == len(set.union(*tables))


def test_a_transaction_brings_its_rows_and_then_its_position() -> None:
    stream = mysql()
    begin = [mysql_gtid(5, 1_800_000_000_123_456), statement("BEGIN"), table_map()]
    assert feed(stream, *begin, insert(row(1, "a"), row(2, "ü")), XID) == ["rows", "committed"]
    assert stream.told.changes == [(None, {"id": 1, "name": "a"}), (None, {"id": 2, "name": "ü"})]
    assert stream.told.transactions == [Transaction(f"{UUID}:5", 1, 1_800_000_000_123)]
    assert stream.told.commits == [(f"{UUID}:5", FILE, 500, 1_800_000_000_123)]


def test_without_its_own_commit_time_a_transaction_has_the_headers() -> None:
    stream = mariadb()
    feed(stream, mariadb_gtid(5), XID)
    assert stream.told.commits == [("0-1-5", FILE, 500, HEADER_S * 1000 + 999)]


def test_other_tables_move_the_position_only() -> None:
    packets = [mysql_gtid(5, 1), statement("BEGIN"), table_map("other", b"\xff"), insert(b"torn"), XID]
    assert feed(mysql(), *packets) == ["committed"]


def test_statements_outside_a_transaction_are_transactions() -> None:
    stream = mysql()
    packets = [mysql_gtid(5, 1), statement("CREATE TABLE x (id INT)"), mysql_gtid(6, 1), statement("TRUNCATE images")]
    assert feed(stream, *packets) == ["committed", "truncated", "committed"]
    assert stream.altered is None
    assert feed(stream, mysql_gtid(7, 1), statement("ALTER TABLE images ADD x INT")) == ["committed"]
    assert stream.altered is Effect.ALTERED


def test_nothing_is_read_behind_an_alteration() -> None:
    stream = mysql()
    packets = [mysql_gtid(7, 1), statement("ALTER TABLE images ADD x INT"), mysql_gtid(8, 1), XID]
    assert feed(stream, *packets) == ["committed"]
    assert stream.transactions.pos == 500


def test_a_statement_inside_a_transaction_does_not_end_it() -> None:
    packets = [mariadb_gtid(5), statement("SAVEPOINT a"), table_map(), insert(row(1, "a")), statement("COMMIT")]
    assert feed(mariadb(), *packets) == ["rows", "committed"]
    assert feed(mariadb(), mariadb_gtid(5, standalone=True), statement("CREATE TABLE y (id INT)")) == ["committed"]


def test_a_begin_is_known_again_and_a_statement_that_looks_like_it_is_none() -> None:
    stream = mysql()
    for number in (5, 6):
        packets = [mysql_gtid(number, 1), statement("BEGIN"), table_map(), insert(row(1, "a")), XID]
        assert feed(stream, *packets) == ["rows", "committed"]
    assert feed(stream, mysql_gtid(7, 1), statement("DROP VIEW x /*\0BEGIN")) == ["committed"]


def test_a_rotation_moves_the_file_and_only_a_real_one_the_position() -> None:
    body = (4).to_bytes(8, "little") + b"binlog.000002"
    stream = mysql()
    assert feed(stream, packet(EventType.ROTATE, body, at_s=0)) == []
    assert feed(stream, packet(EventType.ROTATE, body)) == ["committed"]
    assert stream.told.commits == [(None, "binlog.000002", 4, HEADER_S * 1000)]


def test_a_heartbeat_says_how_far_the_server_is() -> None:
    stream = mysql()
    assert feed(stream, packet(EventType.HEARTBEAT, b"binlog.000003", end=700)) == []
    assert (stream.transactions.file, stream.transactions.pos) == ("binlog.000003", 700)


def test_checksums_are_cut_off_once_the_format_description_announces_them() -> None:
    stream = mysql()
    assert feed(stream, packet(EventType.FORMAT_DESCRIPTION, bytes(80) + b"\1" + bytes(4))) == []
    assert feed(stream, statement("CREATE TABLE x (id INT)") + b"\xde\xad\xbe\xef") == ["committed"]
    with pytest.raises(SourceError):
        feed(stream, statement("DROP TABLE images") + b"\xde\xad\xbe\xef")


@pytest.mark.parametrize(
    ("text", "effect"),
    [
        ("DROP TABLE images", Effect.DROPPED),
        ("RENAME TABLE images TO old", Effect.RENAMED),
        ("DROP DATABASE shop", Effect.DATABASE_DROPPED),
        ("CREATE OR REPLACE TABLE images (id INT)", Effect.REPLACED),
    ],
)
def test_a_table_that_goes_is_an_empty_one_if_it_may_go(text: str, effect: Effect) -> None:
    with pytest.raises(SourceError, match=r"DROP|RENAME|REPLACE"):
        feed(mysql(), mysql_gtid(5, 1), statement(text))
    stream = Stream(may_go=True)
    assert feed(stream, mysql_gtid(5, 1), statement(text)) == ["truncated", "committed"]
    assert stream.altered is effect


def test_a_table_that_takes_its_place_is_looked_at() -> None:
    stream = mysql()
    assert feed(stream, mysql_gtid(5, 1), statement("RENAME TABLE images TO o, g TO images")) == ["committed"]
    assert stream.altered is Effect.SWAPPED


@pytest.mark.parametrize("kind", sorted(events.HARMLESS))
def test_a_harmless_event_brings_nothing(kind: int) -> None:
    assert feed(mysql(), packet(kind, b"whatever")) == []


@pytest.mark.parametrize("kind", [*events.UNDECODABLE, 0, 99, 200])
def test_an_event_that_cannot_be_looked_into_stops_the_listener(kind: int) -> None:
    with pytest.raises(UndecodableEvent, match=rf"\(type {kind}\) at {FILE}:"):
        feed(mysql(), packet(kind, b"whatever"))


@pytest.mark.parametrize("kind", events.UNDECODABLE_ROWS)
def test_undecodable_rows_stop_it_if_they_are_of_its_table(kind: int) -> None:
    rows = packet(kind, TABLE_ID + b"compressed")
    assert feed(mysql(), table_map("other"), rows) == []
    with pytest.raises(UndecodableEvent, match=f"type {kind}") as caught:
        feed(mysql(), table_map(), rows)
    assert "SET GLOBAL" in caught.value.remedy


def test_rows_without_their_table_map_stop_it() -> None:
    with pytest.raises(UndecodableEvent, match="TABLE_MAP"):
        feed(mysql(), statement("BEGIN"), insert(row(1, "a")))


def test_a_partial_row_image_stops_it() -> None:
    with pytest.raises(UndecodableEvent, match="incomplete"):
        feed(mysql(), table_map(), insert(b"\0" + bytes(4), present=0b01))


def test_a_table_map_without_names_stops_it() -> None:
    with pytest.raises(UndecodableEvent) as caught:
        feed(mysql(), table_map(shape=SHAPE[:11]))
    assert "binlog_row_metadata" in caught.value.remedy


def test_an_unreadable_value_is_named_by_its_column_and_never_shown() -> None:
    torn = b"\0" + bytes(4) + bytes([2]) + b"\xff\xfe"
    with pytest.raises(UndecodableEvent, match="column name") as caught:
        feed(mysql(), table_map(), insert(torn))
    assert "\\xff" not in str(caught.value)


@pytest.mark.parametrize(
    "end", [statement("ROLLBACK"), statement("ROLLBACK TO `a`"), packet(EventType.XA_PREPARE, bytes(13))]
)
def test_rows_that_may_not_be_committed_stop_it(end: bytes) -> None:
    with pytest.raises(UndecodableEvent):
        feed(mysql(), mysql_gtid(5, 1), statement("BEGIN"), table_map(), insert(row(1, "a")), end)
    assert set(feed(mysql(), mysql_gtid(5, 1), statement("BEGIN"), end, XID)) == {"committed"}


def test_an_xa_transaction_that_commits_in_one_phase_is_one() -> None:
    end = packet(EventType.XA_PREPARE, b"\1" + bytes(12))
    packets = [mysql_gtid(5, 1), statement("XA START 'x'"), table_map(), insert(row(1, "a")), end]
    assert feed(mysql(), *packets) == ["rows", "committed"]


def test_a_reused_table_id_means_the_table_that_was_mapped_last() -> None:
    packets = [table_map(), insert(row(1, "a")), XID, table_map("other", b"\xff"), insert(b"torn"), XID]
    assert feed(mysql(), *packets) == ["rows", "committed", "committed"]


# A transaction of one row event takes a short way when its packets come together, and the long one when they come in pieces.

CHECKSUM = b"sum!"
WITH_CHECKSUMS = packet(EventType.FORMAT_DESCRIPTION, bytes(57) + b"\1" + CHECKSUM)
_rows = st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["", "a", "ü"])).map(lambda pair: row(*pair)), max_size=3)
_row_events = st.one_of(
    _rows.map(lambda images: insert(*images)),
    _rows.map(lambda images: changed(EventType.DELETE_ROWS, b"\3", *images)),
    _rows.map(lambda images: changed(EventType.UPDATE_ROWS, b"\3\3", *images, *images)),
    st.sampled_from(
        [
            insert(b"torn"),
            insert(row(1, "a"), present=0b01),
            changed(39, b"\3\3", row(1, "a"), row(1, "b")),  # PARTIAL_UPDATE_ROWS
            insert(row(2, "b")).replace(TABLE_ID, bytes(6)),  # without its TABLE_MAP
            insert(row(3, "c")).replace(TABLE_ID, (0xFFFFFF).to_bytes(6, "little")),
        ]
    ),
)
_parts = st.one_of(
    _row_events,
    st.sampled_from([table_map(), table_map(), table_map("other", b"\xff"), table_map(shape=SHAPE[:4]), XID, XID]),
    st.sampled_from(
        ["BEGIN", "BEGIN", "SAVEPOINT `a`", "COMMIT", "ROLLBACK", "TRUNCATE images", "DROP TABLE other"]
    ).map(lambda text: statement(text)),
    st.integers(1, 9).map(lambda number: mysql_gtid(number, number * 1000)),
    st.just(packet(EventType.ANONYMOUS_GTID, mysql_gtid(1, 7)[20:])),
)
_short = st.builds(
    lambda number, text, described, event: [mysql_gtid(number, 5000), statement(text), described, event, XID],
    st.integers(1, 9),
    st.sampled_from(["BEGIN", "BEGIN", "BEGIN", "TRUNCATE images"]),
    st.sampled_from([table_map(), table_map(), table_map("other", b"\xff")]),
    _row_events,
)
_streams = st.lists(st.one_of(_short, _short, st.lists(_parts, max_size=5)), max_size=8).map(
    lambda groups: [packet for group in groups for packet in group]
)


def summed(packet: bytes) -> bytes:
    """With a checksum behind it, which its size counts."""
    return packet[:10] + struct.pack("<I", len(packet) - 1 + len(CHECKSUM)) + packet[14:] + CHECKSUM


def story(packets: list[bytes], pieces: Callable[[list[bytes]], list[list[bytes]]]) -> tuple[object, ...]:
    """All that can be seen of a stream that comes in these pieces, the error that ended it too."""
    stream, error = mysql(), ""
    try:
        for piece in pieces(packets):
            stream.transactions.feed(piece, NOW_MS)
    except (SourceError, UndecodableEvent) as caught:
        error = str(caught)
    told, read = stream.told, stream.transactions
    return told.kinds, told.changes, told.transactions, told.commits, read.file, read.pos, error


@pytest.mark.parametrize("checksums", [False, True])
@settings(max_examples=400, deadline=None)
@given(packets=_streams)
def test_it_does_not_matter_in_which_pieces_the_packets_come(checksums: bool, packets: list[bytes]) -> None:
    if checksums:
        packets = [WITH_CHECKSUMS, *map(summed, packets)]
    one_by_one = story(packets, lambda packets: [[packet] for packet in packets])
    assert story(packets, lambda packets: [packets]) == one_by_one


def test_a_transaction_of_one_row_event_takes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = mysql()
    short = [statement("BEGIN"), table_map(), insert(row(1, "a")), XID]
    feed(stream, mysql_gtid(1, 1), *short)  # what is new to it goes the long way
    monkeypatch.setattr(stream.transactions, "_takes", {})
    assert feed(stream, mysql_gtid(2, 2000), *short) == ["rows", "committed"]
    assert stream.told.commits[-1] == (f"{UUID}:2", FILE, 500, 2)
