"""Record batches: what is made is what kafka-python's own reader reads, and no batch is larger than the topic takes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.record.memory_records import MemoryRecords
from kafka.record.util import decode_varint

from pixtail.bus.batches import HEADER, MAX_RECORDS, Outgoing, RecordBatch, record_batches, varint

LIMIT = 1 << 20
NOW = 1_790_000_000_123

payloads = st.binary(max_size=300) | st.integers(0, 9000).map(lambda size: b"v" * size)
outgoing = st.tuples(
    st.binary(min_size=1, max_size=200),
    st.none() | payloads,
    st.none() | st.integers(0, 1 << 70).map(lambda seq: b"%d" % seq),
)


def closed(batch: RecordBatch) -> RecordBatch:
    batch.set_producer_state(7, 3, 41, is_transactional=True)
    batch.close()
    return batch


def read(batches: Sequence[RecordBatch]) -> list[Outgoing]:
    """By kafka-python's reader, which checks nothing but what it needs."""
    found = []
    for batch in batches:
        for stored in MemoryRecords(bytes(closed(batch).buffer())):
            assert stored.validate_crc()
            for number, record in enumerate(stored):
                assert (record.offset, record.timestamp) == (number, NOW)
                found.append((record.key, record.value, dict(record.headers).get("seq")))
    return found


@given(st.lists(outgoing, max_size=40), st.integers(100, 20_000))
def test_the_records_come_out_in_order_whatever_the_limit(records: list[Outgoing], max_bytes: int) -> None:
    batches = list(record_batches(records, max_bytes, NOW))
    assert read(batches) == records
    assert sum(batch.next_offset() for batch in batches) == len(records)


@given(st.lists(st.binary(min_size=1, max_size=400), max_size=60), st.integers(100, 2000))
def test_a_batch_of_several_records_never_exceeds_the_limit(values: list[bytes], max_bytes: int) -> None:
    records: list[Outgoing] = [(b"k", value, b"1") for value in values]
    for batch in record_batches(records, max_bytes, NOW):
        assert batch.next_offset() == 1 or batch.size_in_bytes() <= max_bytes


@given(st.integers(-(1 << 62), 1 << 62))
def test_varints_are_those_of_the_reader(number: int) -> None:
    assert decode_varint(varint(number)) == (number, len(varint(number)))


def test_batches_are_as_few_as_the_limit_allows() -> None:
    records: list[Outgoing] = [(b"%d" % n, b"x" * 500, b"1") for n in range(1000)]
    assert len(list(record_batches(records, LIMIT, NOW))) == 1
    assert [b.next_offset() for b in record_batches([(b"k", None, None)] * (MAX_RECORDS + 5), LIMIT, NOW)] == [
        MAX_RECORDS,
        5,
    ]


def test_a_large_record_stands_alone_and_counts_as_it_is_compressed() -> None:
    records: list[Outgoing] = [(b"a", b"1", b"1"), (b"b", b"x" * 50_000, b"2"), (b"c", b"3", b"3")]
    sizes = [(batch.next_offset(), batch.size_in_bytes()) for batch in record_batches(records, 2000, NOW)]
    assert [count for count, _ in sizes] == [1, 1, 1]
    assert max(size for _, size in sizes) < 2000


def test_what_does_not_compress_is_stored_as_it_is() -> None:
    (batch,) = record_batches([(b"k", None, b"7")], LIMIT, NOW)
    assert closed(batch).buffer()[22] & 0x07 == 0
    record = b"\0\0\0\x02k\x01\x02\x06seq\x027"  # attributes, time, offset, key, no value, one header
    assert bytes(batch.buffer()[HEADER.size :]) == varint(len(record)) + record


def test_the_producer_is_written_down_once_however_often_the_batch_is_sent() -> None:
    (batch,) = record_batches([(b"k", b"v", b"1")], LIMIT, NOW)
    first = bytes(closed(batch).buffer())
    batch.close()
    assert bytes(batch.buffer()) == first
    (stored,) = list(MemoryRecords(first))
    assert (stored.producer_id, stored.producer_epoch, stored.base_sequence) == (7, 3, 41)
    assert stored.is_transactional


@pytest.mark.parametrize("seq", [b"", b"-1", b"1.5", b" 1", b"\xd9\xa1"])
def test_a_seq_that_is_no_decimal_number_is_refused_without_telling_the_record(seq: bytes) -> None:
    with pytest.raises(ValueError, match="ASCII decimal") as raised:
        list(record_batches([(b"secret-key", b"secret-value", seq)], LIMIT, NOW))
    assert "secret" not in str(raised.value)


def test_no_records_make_no_batch() -> None:
    assert list(record_batches([], LIMIT, NOW)) == []
