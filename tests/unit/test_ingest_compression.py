"""Compressed events become the plain ones that they stand for, in bounded memory, or are refused; the samples are real servers'."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from collections.abc import Iterable, Iterator

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ingest import events
from ingest.compression import Torn, inner_events, plain
from ingest.events import EventType

# Of MySQL 9.7.4: INSERT INTO images VALUES (1, 'a'), (2, 'ü').
PAYLOAD = bytes.fromhex(
    "0201000301d80101a20028b52ffd20d8cd0400e2871c27902b8d017877f7bf5931a3d8e5277db988909c9182de3c0325d04f55e452a3257fb29122b79429"
    "ff3fe030d070f4d75f1e759db0486c32703aea7a949d2a757bec34c564ea1015341d52917755cf9e936f18acc4b287438a185b2a12782c1c77bac0f64499"
    "1539e27768b7f4a75a8965011000a004c48d1ac80c81813e30f6251849aa39201ca4a0040b398b2cf6407b00e7017801"
)
# Of MariaDB 10.11, the same table: CREATE TABLE, UPDATE, DELETE.
CREATE = bytes.fromhex(
    "0600000000000000040000230000000000010100002054000000000603737464042d002d00080081080000000000000073686f70008143789c0dc9410a80"
    "300c04c0afecb1050fe28f62bbd4a00d9246a1bfd7b94e714a1021fb456897c681a4156a81c7863663c5edfff8c4c9b9c0a413af7839c4d3b6e6fc013c44"
    "178d"
)
UPDATE = bytes.fromhex(
    "12000000000001000203038127789cfbc3c8c0c0c098f80744b15580c11f26209be9f01e300d150300d3bf0b86"
)  # fmt: skip
DELETE = bytes.fromhex("120000000000010002038118789cfbc3c8c0c0c05601067f98106c0059c107a8")


def test_a_real_compressed_transaction_gives_its_events() -> None:
    found = list(inner_events([PAYLOAD]))
    assert [event[4] for event in found] == [EventType.QUERY, EventType.TABLE_MAP, EventType.WRITE_ROWS, EventType.XID]
    assert [int.from_bytes(event[9:13], "little") for event in found] == [len(event) for event in found]
    assert b"shop" in found[1]
    assert found[2].endswith(b"\0\1\0\0\0\1a\0\2\0\0\0\2\xc3\xbc")


def test_real_compressed_events_of_mariadb_become_plain_ones() -> None:
    kind, body = plain(EventType.QUERY_COMPRESSED, CREATE)
    packet = bytes(events.BODY) + body
    start = events.text_start(packet, events.QUERY_FIXED)
    assert (kind, events.default_database(packet, start)) == (EventType.QUERY, "shop")
    assert packet[start:] == b"create table images (id int unsigned primary key, name varchar(20))"
    assert plain(EventType.UPDATE_ROWS_COMPRESSED_V1, UPDATE) == (
        EventType.UPDATE_ROWS_V1,
        UPDATE[:8] + b"\2\3\3" + b"\xfc\1\0\0\0\1a\xfc\1\0\0\0\6xxxxxx" + b"\xfc\2\0\0\0\2\xc3\xbc\xfc\2\0\0\0\6xxxxxx",
    )
    assert plain(EventType.DELETE_ROWS_COMPRESSED_V1, DELETE) == (
        EventType.DELETE_ROWS_V1,
        DELETE[:8] + b"\2\3" + b"\xfc\1\0\0\0\6xxxxxx" + b"\xfc\2\0\0\0\6xxxxxx",
    )


def event(body: bytes, kind: int = EventType.WRITE_ROWS) -> bytes:
    return struct.pack("<IBIIIH", 1, kind, 1, 19 + len(body), 0, 0) + body


def number(value: int) -> bytes:
    return b"\xfe" + value.to_bytes(8, "little")


def payload(data: bytes, *, method: int = 0, plain_size: int | None = None, size: int | None = None) -> bytes:
    fields = b"\2\3\xfc" + method.to_bytes(2, "little") if method > 250 else bytes([2, 1, method])
    if plain_size is not None:
        fields += b"\3\x09" + number(plain_size)
    unknown = b"\x09\2xx"
    return fields + unknown + b"\1\x09" + number(len(data) if size is None else size) + b"\0" + data


def chunked(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


@given(
    bodies=st.lists(st.binary(max_size=40), max_size=20),
    large=st.none() | st.integers(0, 700_000),
    chunk=st.integers(60, 5000),
    zstd=st.booleans(),
    checksum=st.sampled_from([b"", b"\xde\xad\xbe\xef"]),
    frames=st.booleans(),
)
def test_events_come_out_as_they_went_in_however_they_are_cut(
    bodies: list[bytes], large: int | None, chunk: int, zstd: bool, checksum: bytes, frames: bool
) -> None:
    wanted = [event(body) for body in bodies]
    if large is not None:
        wanted.insert(len(wanted) // 2, event(zlib.compress(bytes(range(256))) * (large // 200)))
    data = b"".join(wanted)
    if not zstd:
        body = payload(data, method=255)
    elif frames:
        middle = len(data) // 2
        parts = [zstandard.ZstdCompressor().compress(half) for half in (data[:middle], data[middle:])]
        body = payload(b"".join(parts), plain_size=len(data))
    else:
        body = payload(zstandard.ZstdCompressor().compress(data), plain_size=len(data))
    assert list(inner_events(chunked(body + checksum, chunk))) == wanted
    assert list(inner_events([body + checksum])) == wanted


def test_a_transaction_that_compresses_well_takes_little_memory() -> None:
    one = event(bytes(8192))
    compressor = zstandard.ZstdCompressor().compressobj()
    data = b"".join([*(compressor.compress(one) for _ in range(8000)), compressor.flush()])
    body = payload(data, plain_size=8000 * len(one))
    assert len(body) < 1 << 20
    tracemalloc.start()
    try:
        assert sum(len(found) for found in inner_events([body])) == 8000 * len(one)  # 63 MiB
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


TWO = event(b"a") + event(b"b")
ZSTD = zstandard.ZstdCompressor().compress(TWO)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "header"),
        (PAYLOAD[:3], "header"),
        (b"\2\1\0\0", "header"),  # no size
        (payload(ZSTD, method=7, plain_size=len(TWO)), "unknown method 7"),
        (payload(ZSTD), "header"),  # no plain size
        (payload(ZSTD[:-3], plain_size=len(TWO)), "end in the middle"),
        (payload(ZSTD, plain_size=len(TWO))[:-3], "3 bytes .* missing"),
        (payload(b"junk" + ZSTD, plain_size=len(TWO)), "bytes are torn"),
        (payload(TWO[:-1], method=255), "end in the middle"),
        (payload(TWO, method=255, size=len(TWO) - 1), "end in the middle"),
        (payload(zstandard.ZstdCompressor().compress(event(b"a")), plain_size=len(TWO)), "end in the middle"),
        (payload(event(b"a") + bytes(30), method=255), "cannot have 0 bytes"),
        (payload(event(b"a") + b"\xff" * 30, method=255), "cannot have 4294967295 bytes"),
    ],
)
def test_a_torn_transaction_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(Torn, match=why):
        list(inner_events([body]))


def compressed(kind: int, head: bytes, data: bytes) -> bytes:
    size = len(data).to_bytes(4, "big").lstrip(b"\0") or b"\0"
    return head + bytes([0x80 | len(size)]) + size + zlib.compress(data)


ROWS = b"\x12\0\0\0\0\0\1\0"
EXTRA = b"\5\0abc"  # its size counts itself
HEADS = {
    EventType.QUERY_COMPRESSED: struct.pack("<IIBHH", 1, 0, 4, 0, 2) + b"vv" + b"shop\0",
    EventType.WRITE_ROWS_COMPRESSED_V1: ROWS + b"\x09\xff\1",
    EventType.UPDATE_ROWS_COMPRESSED_V1: ROWS + b"\x09\xff\1\xff\1",
    EventType.DELETE_ROWS_COMPRESSED_V1: ROWS + b"\x09\xff\1",
    EventType.WRITE_ROWS_COMPRESSED: ROWS + EXTRA + b"\2\3",
    EventType.UPDATE_ROWS_COMPRESSED: ROWS + EXTRA + b"\2\3\3",
    EventType.DELETE_ROWS_COMPRESSED: ROWS + EXTRA + b"\2\3",
}


@pytest.mark.parametrize("kind", HEADS)
@given(data=st.binary(max_size=1000))
def test_each_compressed_event_of_mariadb_becomes_the_plain_one(kind: EventType, data: bytes) -> None:
    assert plain(kind, compressed(kind, HEADS[kind], data)) == (
        EventType[kind.name.replace("_COMPRESSED", "")],
        HEADS[kind] + data,
    )


def test_the_compressed_types_are_those_that_can_be_made_plain() -> None:
    assert set(HEADS) - {EventType.QUERY_COMPRESSED} == events.COMPRESSED_ROWS
    with pytest.raises(KeyError):
        plain(EventType.QUERY, HEADS[EventType.QUERY_COMPRESSED] + b"BEGIN")


def torn_events() -> Iterable[tuple[bytes, str]]:
    head = HEADS[EventType.WRITE_ROWS_COMPRESSED_V1]
    whole = compressed(0, head, b"row" * 9)
    return [
        (b"", "header"),
        (head, "header"),
        (whole[:-1], "do not make the 27"),
        (whole[: len(head) + 4], "do not make the 27"),
        (head + b"\x81\x1b" + b"junk", "torn"),
        (head + b"\x81\x1a" + zlib.compress(b"row" * 9), "do not make the 26"),
        (head + b"\x91\x1b" + zlib.compress(b"row" * 9), "unknown method 1"),
        (head + b"\1\x1b" + zlib.compress(b"row" * 9), "unknown method"),
    ]


@pytest.mark.parametrize(("body", "why"), torn_events())
def test_a_torn_event_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(Torn, match=why) as caught:
        plain(EventType.WRITE_ROWS_COMPRESSED_V1, body)
    assert "row" not in str(caught.value)


def test_an_event_cannot_take_more_memory_than_the_size_it_names() -> None:
    bomb = HEADS[EventType.WRITE_ROWS_COMPRESSED_V1] + b"\x82\3\xe8" + zlib.compress(bytes(64 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(Torn, match="do not make the 1000"):
            plain(EventType.WRITE_ROWS_COMPRESSED_V1, bomb)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
