"""Binlog events as they come over the wire: their types, their common header, and the small ones' contents. Pure.

Formats: https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_replication_binlog_event.html and
https://mariadb.com/kb/en/replication-protocol/. Every event type has its line in `TYPES`; one that has none is never skipped.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from enum import IntEnum, StrEnum


class EventType(IntEnum):
    """The types that the listener acts upon."""

    QUERY = 2
    ROTATE = 4
    FORMAT_DESCRIPTION = 15
    XID = 16
    EXECUTE_LOAD_QUERY = 18
    TABLE_MAP = 19
    WRITE_ROWS_V1 = 23
    UPDATE_ROWS_V1 = 24
    DELETE_ROWS_V1 = 25
    WRITE_ROWS = 30
    UPDATE_ROWS = 31
    DELETE_ROWS = 32
    GTID = 33
    ANONYMOUS_GTID = 34
    XA_PREPARE = 38
    HEARTBEAT = 27
    TRANSACTION_PAYLOAD = 40
    GTID_TAGGED = 42
    MARIADB_GTID = 162
    QUERY_COMPRESSED = 165
    WRITE_ROWS_COMPRESSED_V1 = 166
    UPDATE_ROWS_COMPRESSED_V1 = 167
    DELETE_ROWS_COMPRESSED_V1 = 168
    WRITE_ROWS_COMPRESSED = 169
    UPDATE_ROWS_COMPRESSED = 170
    DELETE_ROWS_COMPRESSED = 171


KNOWN = frozenset(EventType)


class Handling(StrEnum):
    """What becomes of an event type."""

    DECODED = "decoded"
    IGNORED = "ignored"
    STOPS = "stops"
    STOPS_FOR_TABLE = "stops if it is of the table"


@dataclass(frozen=True, slots=True)
class Line:
    """One event type's. `why`: what is taken from it (decoded), why nothing is lost (ignored), or the remedy (stops)."""

    name: str
    handling: Handling
    why: str


def _lines(handling: Handling, *lines: tuple[int, str, str]) -> dict[int, Line]:
    return {number: Line(name, handling, why) for number, name, why in lines}


_ROWS_DECODED = "rows, of the table that its TABLE_MAP names"
_INFLATED = "the same as without _COMPRESSED, once it is inflated (zlib)"
_WITH_STATEMENT = "belongs to the statement behind it, and that is looked at"
_OF_LOAD_DATA = (
    "a piece of LOAD DATA's file; the statement comes in EXECUTE_LOAD_QUERY, and in ROW format neither comes"
)
_TOO_OLD = "Only servers before MySQL 5.1 wrote it: use one that is supported, with a binlog of its own"
_NOT_WRITTEN = "No server writes it: look whether the binlog is damaged (mysqlbinlog --verify-binlog-checksum)"

TYPES: dict[int, Line] = {
    **_lines(
        Handling.DECODED,
        (2, "QUERY", "statement: begin, commit, or what it does to the table"),
        (4, "ROTATE", "the next file, and where in it"),
        (15, "FORMAT_DESCRIPTION", "whether events carry checksums"),
        (16, "XID", "commit"),
        (18, "EXECUTE_LOAD_QUERY", "statement: a LOAD DATA in STATEMENT format stops if it is into the table"),
        (19, "TABLE_MAP", "which table, and its columns"),
        (23, "WRITE_ROWS_V1", _ROWS_DECODED),
        (24, "UPDATE_ROWS_V1", _ROWS_DECODED),
        (25, "DELETE_ROWS_V1", _ROWS_DECODED),
        (27, "HEARTBEAT", "how far the server is, where it has nothing for us"),
        (30, "WRITE_ROWS", _ROWS_DECODED),
        (31, "UPDATE_ROWS", _ROWS_DECODED),
        (32, "DELETE_ROWS", _ROWS_DECODED),
        (33, "GTID", "GTID and commit time of the transaction behind it"),
        (34, "ANONYMOUS_GTID", "commit time of the transaction behind it"),
        (38, "XA_PREPARE", "end of a prepared XA transaction: stops if it has rows of the table, unless it commits in one phase"),
        (40, "TRANSACTION_PAYLOAD", "the transaction's events, once they are decompressed (zstd, or not compressed)"),
        (42, "GTID_TAGGED", "GTID with its tag, and commit time (MySQL 8.3)"),
        (162, "GTID (MariaDB)", "GTID of the transaction behind it, and whether it is one statement"),
        (165, "QUERY_COMPRESSED", _INFLATED),
        (166, "WRITE_ROWS_COMPRESSED_V1", _INFLATED),
        (167, "UPDATE_ROWS_COMPRESSED_V1", _INFLATED),
        (168, "DELETE_ROWS_COMPRESSED_V1", _INFLATED),
        (169, "WRITE_ROWS_COMPRESSED", _INFLATED),
        (170, "UPDATE_ROWS_COMPRESSED", _INFLATED),
        (171, "DELETE_ROWS_COMPRESSED", _INFLATED),
    ),
    **_lines(
        Handling.IGNORED,
        (3, "STOP", "the server was shut down in good order: says nothing of rows"),
        (5, "INTVAR", _WITH_STATEMENT),
        (9, "APPEND_BLOCK", _OF_LOAD_DATA),
        (11, "DELETE_FILE", _OF_LOAD_DATA),
        (13, "RAND", _WITH_STATEMENT),
        (14, "USER_VAR", _WITH_STATEMENT),
        (17, "BEGIN_LOAD_QUERY", _OF_LOAD_DATA),
                (28, "IGNORABLE", "by its definition a replica may leave it out"),
        (29, "ROWS_QUERY", "the statement's text, for people; its rows come in row events"),
        (35, "PREVIOUS_GTIDS", "what earlier files hold; the position says what we have"),
        (36, "TRANSACTION_CONTEXT", "Group Replication's certification of the transaction, which is over"),
        (37, "VIEW_CHANGE", "members of a replication group came or went: says nothing of rows"),
        (41, "HEARTBEAT_V2", "keeps an idle connection alive, and is not in the file"),
        (160, "ANNOTATE_ROWS", "the statement's text, for people; its rows come in row events"),
        (161, "BINLOG_CHECKPOINT", "for the server's own recovery after a crash"),
        (163, "GTID_LIST", "what earlier files hold; the position says what we have"),
        (164, "START_ENCRYPTION", "the file is encrypted on disk; the server decrypts what it sends"),
    ),
    **_lines(
        Handling.STOPS_FOR_TABLE,
        (39, "PARTIAL_UPDATE_ROWS", "SET GLOBAL binlog_row_value_options = ''"),
    ),
    **_lines(
        Handling.STOPS,
        (0, "UNKNOWN", _NOT_WRITTEN),
        (1, "START_V3", _TOO_OLD),
        (6, "LOAD", _TOO_OLD),
        (7, "SLAVE", _NOT_WRITTEN),
        (8, "CREATE_FILE", _TOO_OLD),
        (10, "EXEC_LOAD", _TOO_OLD),
        (12, "NEW_LOAD", _TOO_OLD),
        (20, "PRE_GA_WRITE_ROWS", _TOO_OLD),
        (21, "PRE_GA_UPDATE_ROWS", _TOO_OLD),
        (22, "PRE_GA_DELETE_ROWS", _TOO_OLD),
        (26, "INCIDENT", "The server says that events were lost: take a new snapshot"),
        (172, "PARTIAL_ROW_DATA", "SET GLOBAL binlog_row_event_fragment_threshold = 1073741824 (MariaDB 12.3)"),
    ),
}  # fmt: skip
"""Every event type of MySQL 8.0 to 9.7 and of MariaDB 10.6 to 12.3, from `enum Log_event_type` of both. Any other stops as unknown;
`docs/events.md` is this table, for people."""


def _named(handling: Handling) -> dict[int, tuple[str, str]]:
    return {number: (line.name, line.why) for number, line in TYPES.items() if line.handling is handling}


HARMLESS = {number: name for number, (name, _) in _named(Handling.IGNORED).items()}
"""Nothing in them changes a row or moves the position."""

UNDECODABLE_ROWS = _named(Handling.STOPS_FOR_TABLE)
"""Row events that cannot be decoded: they stop the listener if they are of its table. Type → name and remedy."""

UNDECODABLE = _named(Handling.STOPS)
"""What cannot be looked into at all: it stops the listener whatever table it is about. Type → name and remedy."""

INSERTS = frozenset({EventType.WRITE_ROWS_V1, EventType.WRITE_ROWS})
UPDATES = frozenset({EventType.UPDATE_ROWS_V1, EventType.UPDATE_ROWS})
DELETES = frozenset({EventType.DELETE_ROWS_V1, EventType.DELETE_ROWS})
ROWS = INSERTS | UPDATES | DELETES
COMPRESSED_ROWS = frozenset(range(EventType.WRITE_ROWS_COMPRESSED_V1, EventType.DELETE_ROWS_COMPRESSED + 1))
"""MariaDB's; `compression.plain` makes them one of `ROWS`."""
OUTSIDE_FILE = frozenset({EventType.ROTATE, EventType.FORMAT_DESCRIPTION, EventType.HEARTBEAT, 163})
"""May come without standing in the file at that place: made up by the server when a stream begins, or while it waits."""
_WITH_EXTRA_DATA = frozenset({EventType.WRITE_ROWS, EventType.UPDATE_ROWS, EventType.DELETE_ROWS, 39})

HEADER = struct.Struct("<xIBIIIH")  # x: the packet's OK byte; time, type, server, size, end, flags
KIND = 5  # where the type stands
BODY = HEADER.size
_END = struct.Struct("<I")
_SIZE_AND_END = struct.Struct("<II")
_GTID = struct.Struct("<xIBI10xx16sQ17x7s")
_SHORT_GTID = struct.Struct("<xIBIIIHB16sQ")
QUERY_FIXED, LOAD_FIXED = BODY + 13, BODY + 26
_CHECKSUM_BYTES = 4
_MARIADB_STANDALONE = 1  # flag of MariaDB's GTID event: one statement, no BEGIN and no COMMIT
_MARIADB_GTID = struct.Struct("<QIB")
_MICROSECONDS_MASK = (1 << 55) - 1  # the top bit says that the original commit time follows
_LAST_TAGGED_FIELD = 11
_BYTE_BITS = 8


def timestamp_s(packet: bytes) -> int:
    return int.from_bytes(packet[1:5], "little")


def end(packet: bytes) -> int:
    """The offset behind the event in the binlog file; 0 if it is not in the file."""
    behind: int = _END.unpack_from(packet, 14)[0]
    return behind


def size_and_end(packet: bytes) -> tuple[int, int]:
    """Both of the above at once."""
    found, behind = _SIZE_AND_END.unpack_from(packet, 10)
    return found, behind


def size(packet: bytes) -> int:
    """Of the event in the binlog file, its checksum included."""
    found: int = _END.unpack_from(packet, 10)[0]
    return found


def checksum_bytes(packet: bytes) -> int:
    """The size of the checksum of every event after this FORMAT_DESCRIPTION, which has one itself always."""
    return _CHECKSUM_BYTES if packet[-_CHECKSUM_BYTES - 1] == 1 else 0


def rotation(body: bytes) -> tuple[str, int]:
    """The file that comes next, and where in it."""
    return body[8:].decode(), int.from_bytes(body[:8], "little")


def text_start(packet: bytes, fixed: int) -> int:
    """Where the text of a QUERY or EXECUTE_LOAD_QUERY begins: behind the status variables and the default database."""
    return fixed + (packet[BODY + 11] | packet[BODY + 12] << 8) + packet[BODY + 8] + 1


def default_database(packet: bytes, start: int) -> str:
    """Of the statement whose text begins at `start`."""
    end = start - 1
    return packet[end - packet[BODY + 8] : end].decode(errors="replace")


def mysql_gtid(packet: bytes, stop: int) -> tuple[int, int, int, bytes, int, int | None]:
    """Time, type, server, the server's UUID, the transaction's number, and its commit time in milliseconds (None before MySQL 8.0.1) of a
    GTID or ANONYMOUS_GTID."""
    if stop < _GTID.size:
        timestamp_s, kind, server_id, _, _, _, _, sid, number = _SHORT_GTID.unpack_from(packet)
        return timestamp_s, kind, server_id, sid, number, None
    timestamp_s, kind, server_id, sid, number, commit_us = _GTID.unpack_from(packet)
    return timestamp_s, kind, server_id, sid, number, (int.from_bytes(commit_us, "little") & _MICROSECONDS_MASK) // 1000


def tagged_gtid(body: bytes) -> tuple[str, int]:
    """GTID (`uuid:tag:number`, or `uuid:number` if the tag is empty) and commit time in milliseconds of a GTID_TAGGED.

    Raises `ValueError` if it is torn, or if a newer server says that it holds a field that must be understood.
    """
    read = _Serialized(body)
    _version, _size, must_know = read.number(), read.number(), read.number()
    if must_know > _LAST_TAGGED_FIELD:
        raise ValueError(f"it needs the field {must_know} to be understood")
    read.field(0)  # flags
    read.number()
    read.field(1)
    source = uuid.UUID(bytes=bytes(read.number() for _ in range(16)))
    read.field(2)
    number = read.number() >> 1  # signed: the lowest bit is the sign
    read.field(3)
    tag = read.text()
    for field in (4, 5):  # of the replica's parallel workers
        read.field(field)
        read.number()
    read.field(6)
    return ":".join(filter(None, (str(source), tag, str(number)))), read.number() // 1000


class _Serialized:
    """What MySQL's library mysql::serialization wrote: fields in order, each behind its number, and numbers of 1 to 9 bytes.

    https://dev.mysql.com/doc/dev/mysql-server/latest/PageLibsMysqlSerialization.html
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self) -> int:
        """As many bytes as its first byte has ones at the low end, and one; with eight of them, the number is all that follows."""
        first = self._take(1)[0]
        size = (~first & first + 1).bit_length()
        rest = int.from_bytes(self._take(size - 1), "little")
        return rest if size > _BYTE_BITS else (rest << _BYTE_BITS | first) >> size

    def field(self, wanted: int) -> None:
        if (found := self.number()) != wanted:
            raise ValueError(f"it has the field {found} where {wanted} should be")

    def text(self) -> str:
        return self._take(self.number()).decode("ascii")

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise ValueError("its fields are torn")
        found, self._at = self._data[self._at : end], end
        return found


def mariadb_gtid(packet: bytes, server_id: int) -> tuple[str, bool]:
    """GTID, and whether it opens a transaction (else it is one statement by itself)."""
    number, domain, flags = _MARIADB_GTID.unpack_from(packet, BODY)
    return f"{domain}-{server_id}-{number}", not flags & _MARIADB_STANDALONE


def rows_start(packet: bytes) -> int:
    """Where the number of columns stands in a row event: behind its fixed part."""
    if packet[KIND] not in _WITH_EXTRA_DATA:
        return BODY + 8
    return BODY + 8 + (packet[BODY + 8] | packet[BODY + 9] << 8)
