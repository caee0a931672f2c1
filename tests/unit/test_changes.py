"""The change event: what is written is what is read, and what other programs write is read too."""

from __future__ import annotations

import json
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixtail.core.changes import (
    Change,
    Malformed,
    Op,
    Record,
    Source,
    Tombstone,
    decode,
    encode,
    is_read,
    key_bytes,
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
rows = st.dictionaries(st.text(min_size=1), scalars, min_size=1)
keys = st.dictionaries(st.text(min_size=1), st.integers(0, (1 << 64) - 1) | st.text(), min_size=1, max_size=3)
seqs = st.integers(1, (1 << 53) - 1)
sources = st.builds(
    Source,
    db=st.text(),
    table=st.text(),
    gtid=st.none() | st.text(min_size=1),
    pos=st.integers(0, 1 << 40),
    ts_ms=st.integers(0, 1 << 45),
)
changes = st.builds(
    Change,
    op=st.sampled_from(Op),
    key=keys,
    before=st.none() | rows,
    after=st.none() | rows,
    seq=seqs,
    source=sources,
    ts_ms=st.integers(0, 1 << 45),
)


def read(record: Record, offset: int = 0) -> object:
    return decode(record.key, record.value, record.headers, offset)


@given(changes)
def test_a_change_reads_back_as_it_was_written(change: Change) -> None:
    assert read(encode(change)) == change


@given(changes, st.sampled_from([None, "r", "c"]), st.booleans())
def test_a_rows_operation_is_told_without_decoding_it(change: Change, decoy: str | None, spaces: bool) -> None:
    """However the columns look: a JSON column may hold anything."""
    after = {**(change.after or {}), "json": {"op": decoy, "deep": [{"op": "r"}], "text": '"op":"r"'}}
    record = encode(replace(change, after=after))
    value = json.dumps(orjson.loads(record.value or b"")).encode() if spaces else record.value
    assert is_read(value) is (change.op is Op.READ)


@pytest.mark.parametrize("op", ["r", "c"])
@pytest.mark.parametrize("wrapped", [True, False])
def test_the_operation_of_a_record_of_debezium_is_told_too(op: str, wrapped: bool) -> None:
    """Its source stands before the operation, and the schema, where there is one, before or behind all of it."""
    payload = {"before": None, "after": {"a": {"op": "r"}}, "source": {"db": "d", "table": "t"}, "op": op, "ts_ms": 1}
    schema = {"type": "struct", "fields": [{"type": "string", "optional": False, "field": "op"}]}
    bodies = [{"schema": schema, "payload": payload}, {"payload": payload, "schema": schema}] if wrapped else [payload]
    assert {is_read(orjson.dumps(body)) for body in bodies} == {op == "r"}


@given(st.none() | st.binary().filter(lambda value: b'"op":"r"' not in value))
def test_what_says_nothing_of_an_operation_is_no_rows_reading(value: bytes | None) -> None:
    """A broken record that does is either lane's: one takes it, and finds it unreadable."""
    assert not is_read(value)


@given(keys, seqs)
def test_a_tombstone_reads_back_with_its_seq(key: dict[str, object], seq: int) -> None:
    record = encode(Tombstone(key, seq))
    assert record.value is None
    assert read(record) == Tombstone(key, seq)


@given(st.none() | st.binary(), st.none() | st.binary(), st.lists(st.tuples(st.text(), st.binary())))
def test_reading_never_raises_whatever_the_bytes(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    decode(key, value, headers, 7)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (None, b"{}", "no key"),
        (b"not json", b"{}", "JSONDecodeError"),
        (b'{"id":1}', b'{"op":"x","source":{}}', "'x' is not a valid Op"),
        (b'{"id":1}', b'{"op":"c"}', "source"),
        (b"[1]", None, "no JSON object"),
    ],
)
def test_what_is_no_change_says_why(key: bytes | None, value: bytes | None, words: str) -> None:
    entry = decode(key, value, (), 3)
    assert isinstance(entry, Malformed)
    assert words in entry.problem
    assert (entry.raw_key, entry.raw_value) == (key, value)


def test_the_schema_wrapper_of_kafka_connect_is_taken_off() -> None:
    wrapped_key = orjson.dumps({"schema": {"type": "struct"}, "payload": {"id": 5}})
    body = {"op": "c", "before": None, "after": {"id": 5}, "source": {"db": "shop", "table": "images"}, "ts_ms": 9}
    entry = decode(wrapped_key, orjson.dumps({"schema": {}, "payload": body}), (), 11)
    assert entry == Change(Op.CREATE, {"id": 5}, None, {"id": 5}, 11, Source("shop", "images"), 9)


TRUNCATE = orjson.dumps({"op": "t", "source": {"db": "shop", "table": "images"}})


def test_debeziums_truncate_has_no_key() -> None:
    entry = decode(None, TRUNCATE, (), 12)
    assert entry == Change(Op.TRUNCATE, {"*": "truncate"}, None, None, 12, Source("shop", "images"))


def test_debeziums_truncate_is_refused_where_offsets_do_not_tell_what_came_before_it() -> None:
    entry = decode(None, TRUNCATE, (), 12, partitions=3)
    assert isinstance(entry, Malformed)
    assert "the other 2 partitions" in entry.problem


def test_a_record_without_seq_takes_its_offset() -> None:
    assert decode(b'{"id":1}', None, (), 99) == Tombstone({"id": 1}, 99)


def test_the_envelope_has_debeziums_fields() -> None:
    source = Source("app", "images", "pixtail", 7, "u:1-9", "bin.3", 44, 2, 1000, "true")
    body = orjson.loads(encode(Change(Op.READ, {"id": 1}, None, {"id": 1}, 5, source, 1001)).value or b"")
    assert body == {
        "before": None,
        "after": {"id": 1},
        "op": "r",
        "ts_ms": 1001,
        "source": {
            "connector": "mysql",
            "name": "pixtail",
            "db": "app",
            "table": "images",
            "server_id": 7,
            "gtid": "u:1-9",
            "file": "bin.3",
            "pos": 44,
            "row": 2,
            "ts_ms": 1000,
            "snapshot": "true",
            "sequence": "5",
        },
    }


def test_the_key_keeps_its_column_order() -> None:
    assert key_bytes({"b": 1, "a": "é"}) == '{"b":1,"a":"é"}'.encode()
