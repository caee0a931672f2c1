"""Binlog events as they come over the wire: their types, their common header, and the small ones' contents. Pure.

Formats: https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_replication_binlog_event.html and
https://mariadb.com/kb/en/replication-protocol/. Every event type stands in exactly one of the tables below; one that stands in none is
never skipped.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from enum import IntEnum


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
    MARIADB_GTID = 162


KNOWN = frozenset(EventType)

# Nothing in them changes a row or moves the position.
HARMLESS = {
    3: "STOP",
    5: "INTVAR",  # 5, 13, 14 go before a statement, and the statement itself is looked at
    13: "RAND",
    14: "USER_VAR",
    9: "APPEND_BLOCK",  # 9, 11, 17: the file of a LOAD DATA, whose statement comes in EXECUTE_LOAD_QUERY
    11: "DELETE_FILE",
    17: "BEGIN_LOAD_QUERY",
    27: "HEARTBEAT",
    28: "IGNORABLE",
    29: "ROWS_QUERY",
    35: "PREVIOUS_GTIDS",
    36: "TRANSACTION_CONTEXT",
    37: "VIEW_CHANGE",
    41: "HEARTBEAT_V2",
    160: "ANNOTATE_ROWS",
    161: "BINLOG_CHECKPOINT",
    163: "GTID_LIST",
    164: "START_ENCRYPTION",
}

_NO_QUERY_COMPRESSION = "SET GLOBAL log_bin_compress = OFF"
_COMPRESSED_ROWS = {
    166: "WRITE_ROWS_COMPRESSED_V1",
    167: "UPDATE_ROWS_COMPRESSED_V1",
    168: "DELETE_ROWS_COMPRESSED_V1",
    169: "WRITE_ROWS_COMPRESSED",
    170: "UPDATE_ROWS_COMPRESSED",
    171: "DELETE_ROWS_COMPRESSED",
}

# Row events that cannot be decoded: they stop the listener if they are of its table. Type → name, and the setting that avoids it.
UNDECODABLE_ROWS = {
    39: ("PARTIAL_UPDATE_ROWS", "SET GLOBAL binlog_row_value_options = ''"),
    **{number: (name, _NO_QUERY_COMPRESSION) for number, name in _COMPRESSED_ROWS.items()},
}

# What cannot be looked into at all: it stops the listener whatever table it is about.
UNDECODABLE = {
    26: ("INCIDENT", "The server says that events were lost: take a new snapshot"),
    40: ("TRANSACTION_PAYLOAD", "SET GLOBAL binlog_transaction_compression = OFF"),
    42: ("GTID_TAGGED", "Commit without GTID tags (SET GTID_NEXT = 'AUTOMATIC')"),
    165: ("QUERY_COMPRESSED", _NO_QUERY_COMPRESSION),
}

INSERTS = frozenset({EventType.WRITE_ROWS_V1, EventType.WRITE_ROWS})
UPDATES = frozenset({EventType.UPDATE_ROWS_V1, EventType.UPDATE_ROWS})
DELETES = frozenset({EventType.DELETE_ROWS_V1, EventType.DELETE_ROWS})
ROWS = INSERTS | UPDATES | DELETES
_WITH_EXTRA_DATA = frozenset({EventType.WRITE_ROWS, EventType.UPDATE_ROWS, EventType.DELETE_ROWS, 39})

_HEADER = struct.Struct("<xIBIIIH")  # x: the packet's OK byte
_CHECKSUM_BYTES = 4
_MARIADB_STANDALONE = 1  # flag of MariaDB's GTID event: one statement, no BEGIN and no COMMIT
_MICROSECONDS_MASK = (1 << 55) - 1  # the top bit says that the original commit time follows


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `end` is the offset behind it in the binlog file, 0 if it is not in the file; `body` is without header and checksum."""

    type: int
    timestamp_s: int
    server_id: int
    end: int
    size: int
    body: bytes

    @property
    def start(self) -> int:
        return max(self.end - self.size, 0)


def parse(packet: bytes, checksums: bool) -> Event:
    """The event in a packet of the binlog stream."""
    timestamp_s, kind, server_id, size, end, _flags = _HEADER.unpack_from(packet)
    tail = len(packet) - _CHECKSUM_BYTES if checksums else len(packet)
    return Event(kind, timestamp_s, server_id, end, size, packet[_HEADER.size : tail])


def has_checksums(body: bytes) -> bool:
    """Whether the events after this FORMAT_DESCRIPTION carry checksums. `body` must still hold its own, which it always has."""
    return body[-_CHECKSUM_BYTES - 1] == 1


def rotation(body: bytes) -> tuple[str, int]:
    """The file that comes next, and where in it."""
    return body[8:].decode(), int.from_bytes(body[:8], "little")


def statement(event: Event) -> tuple[str, str]:
    """Default database and text of a QUERY or EXECUTE_LOAD_QUERY."""
    body, fixed = event.body, 13 if event.type == EventType.QUERY else 26
    start = fixed + int.from_bytes(body[11:13], "little")  # behind the status variables
    end = start + body[8]
    return body[start:end].decode(errors="replace"), body[end + 1 :].decode(errors="replace")


def mysql_gtid(body: bytes) -> tuple[str, int | None]:
    """GTID and commit time in milliseconds (None before MySQL 8.0.1) of a GTID or ANONYMOUS_GTID."""
    gtid = f"{uuid.UUID(bytes=body[1:17])}:{int.from_bytes(body[17:25], 'little')}"
    if len(body) < 49:
        return gtid, None
    return gtid, (int.from_bytes(body[42:49], "little") & _MICROSECONDS_MASK) // 1000


def mariadb_gtid(event: Event) -> tuple[str, bool]:
    """GTID, and whether it opens a transaction (else it is one statement by itself)."""
    number, domain, flags = struct.unpack_from("<QIB", event.body)
    return f"{domain}-{event.server_id}-{number}", not flags & _MARIADB_STANDALONE


def table_id(body: bytes) -> int:
    """Of a TABLE_MAP or any row event."""
    return int.from_bytes(body[:6], "little")


def row_images(event: Event) -> bytes:
    """What follows the fixed part of a row event: the number of columns, which are present, and the rows."""
    if event.type not in _WITH_EXTRA_DATA:
        return event.body[8:]
    return event.body[8 + int.from_bytes(event.body[8:10], "little") :]
