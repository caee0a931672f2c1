"""A change of one row, and its form in the topic.

The form is Debezium's envelope (JSON), so that either program can stand in for the other; `seq` travels in a header. See
https://debezium.io/documentation/reference/stable/connectors/mysql.html#mysql-events for the source of the field names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

import orjson

from pixtail.core import connect

Row: TypeAlias = Mapping[str, Any]
"""Column name → JSON value, as design.md §2 lays the values down."""
Key: TypeAlias = Mapping[str, Any]
"""Primary key column → JSON value, in key order."""
Headers: TypeAlias = Iterable[tuple[str, bytes]]

TRUNCATE_KEY: Key = {"*": "truncate"}
_OP, _READ = b'"op":"', b'"op":"r"'


class Op(StrEnum):
    CREATE = "c"
    UPDATE = "u"
    DELETE = "d"
    READ = "r"
    TRUNCATE = "t"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a change was read: enough to find it in the binlog again.

    `ts_ms` is the commit time in milliseconds since the epoch; `row` counts the rows inside one transaction.
    """

    db: str
    table: str
    name: str = ""
    server_id: int = 0
    gtid: str | None = None
    file: str = ""
    pos: int = 0
    row: int = 0
    ts_ms: int = 0
    snapshot: str = "false"


@dataclass(frozen=True, slots=True)
class Change:
    """One row's change. `seq` is the row's version: of two changes of a key, the one with the higher seq is the newer."""

    op: Op
    key: Key
    before: Row | None
    after: Row | None
    seq: int
    source: Source
    ts_ms: int = 0


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The null that follows a delete; after compaction it is all that is left of it, so it deletes as well."""

    key: Key
    seq: int


@dataclass(frozen=True, slots=True)
class Malformed:
    """A record that is no change event. It is kept as it came, for the dead letters."""

    raw_key: bytes | None
    raw_value: bytes | None
    problem: str
    seq: int = 0


Entry: TypeAlias = Change | Tombstone | Malformed


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it is sent to a topic. `partition` None means: by the key's CRC-32."""

    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = field(default=())
    partition: int | None = None


def key_bytes(key: Key) -> bytes:
    """The record key: compact JSON in key order, e.g. `{"id":42}`."""
    return orjson.dumps(dict(key))


def seq_header(seq: int) -> tuple[str, bytes]:
    return ("seq", b"%d" % seq)


def encode(entry: Change | Tombstone) -> Record:
    """The record of a change or tombstone, `seq` header included."""
    headers = (seq_header(entry.seq),)
    if isinstance(entry, Tombstone):
        return Record(key_bytes(entry.key), None, headers)
    return Record(key_bytes(entry.key), orjson.dumps(_envelope(entry)), headers)


def decode(key: bytes | None, value: bytes | None, headers: Headers, offset: int, partitions: int = 1) -> Entry:
    """What a record of the topic says. Never raises: what cannot be read comes back as `Malformed`.

    Reads this program's records and Debezium's. With the schema wrapper, Debezium's default, values come out as ours (`connect.plain`);
    without it they stay as they are written. A record without a `seq` header takes its Kafka `offset` as seq, which every real seq
    outranks. `partitions`: of the topic.
    """
    seq = offset
    try:
        seq = _seq_of(headers, offset)
        return _decode(key, value, seq) if key is not None else _truncate(value, seq, partitions)
    except _UNREADABLE as error:
        return Malformed(key, value, f"not a change event ({type(error).__name__}: {error})", seq)


def is_read(value: bytes | None) -> bool:
    """Whether a record is of a snapshot or a back-fill: a row as it was found, which nobody has just changed.

    Told without decoding it: of all that looks like an operation, the envelope's own stands last, here and in Debezium's records.
    """
    at = -1 if value is None else value.rfind(_OP)
    if value is None or at >= 0:
        return value is not None and value.startswith(_READ, at)
    try:  # written with spaces, or no change event
        body = _unwrap(orjson.loads(value))
    except _UNREADABLE:
        return False
    return isinstance(body, dict) and body.get("op") == Op.READ


def _seq_of(headers: Headers, offset: int) -> int:
    return next((int(text) for name, text in headers if name == "seq"), offset)


def _truncate(value: bytes | None, seq: int, partitions: int) -> Change:
    """Debezium's TRUNCATE: one record without key or seq. Offsets tell what came before it only where there is one partition."""
    body = _unwrap(orjson.loads(value or b"null"))
    if not isinstance(body, dict) or body.get("op") != Op.TRUNCATE:
        raise ValueError("the record has no key")
    if partitions > 1:
        raise ValueError(f"a TRUNCATE without seq says nothing about the other {partitions - 1} partitions")
    return _change(TRUNCATE_KEY, body, seq)


def _decode(key: bytes, value: bytes | None, seq: int) -> Entry:
    row_key = _unwrap(orjson.loads(key))
    if not isinstance(row_key, dict) or not row_key:
        raise ValueError("the key is no JSON object")
    if value is None:
        return Tombstone(row_key, seq)
    return _change(row_key, _unwrap(orjson.loads(value)), seq)


def _change(key: Key, body: dict[str, Any], seq: int) -> Change:
    source = body["source"]
    return Change(
        op=Op(body["op"]),
        key=key,
        before=body.get("before"),
        after=body.get("after"),
        seq=seq,
        source=Source(**{name: source[name] for name in _SOURCE_FIELDS if source.get(name) is not None}),
        ts_ms=body.get("ts_ms") or 0,
    )


def _unwrap(body: Any) -> Any:
    """Without the schema that Kafka Connect's JsonConverter wraps around a value by default."""
    if not isinstance(body, dict) or body.keys() != {"schema", "payload"}:
        return body
    return connect.plain(body["schema"] or {}, body["payload"])


def _envelope(change: Change) -> dict[str, Any]:
    source = change.source
    return {
        "before": change.before,
        "after": change.after,
        "op": change.op.value,
        "ts_ms": change.ts_ms,
        "source": {
            "connector": "mysql",
            "name": source.name,
            "db": source.db,
            "table": source.table,
            "server_id": source.server_id,
            "gtid": source.gtid,
            "file": source.file,
            "pos": source.pos,
            "row": source.row,
            "ts_ms": source.ts_ms,
            "snapshot": source.snapshot,
            "sequence": str(change.seq),
        },
    }


_SOURCE_FIELDS = tuple(Source.__dataclass_fields__)
# orjson.JSONDecodeError is a ValueError; dates beyond the year 9999 overflow.
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OverflowError)
