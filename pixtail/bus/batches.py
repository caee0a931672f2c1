"""Record batches of Kafka's message format v2, made whole: one join, one compression and one checksum instead of a call per record.

Layout: https://kafka.apache.org/documentation/#messageformat
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from kafka.codec import lz4_encode
from kafka.record.util import calc_crc32c

HEADER = struct.Struct(">qiibIhiqqqhii")
MAX_RECORDS = 1 << 13  # of a batch: offsets in it then take two bytes at most
_AFTER_LENGTH = struct.calcsize(">qi")
_CHECKSUM = struct.calcsize(">qiib")
_AFTER_CHECKSUM = struct.calcsize(">qiibI")
_MAGIC, _LZ4, _TRANSACTIONAL = 2, 3, 0x10


Outgoing: TypeAlias = tuple[bytes, bytes | None, bytes | None]
"""A record as it is written: key, value (None: a tombstone), and the header `seq` in ASCII decimal (None: no header). A plain tuple: the
listener makes one for each row."""


def varint(number: int) -> bytes:
    """Zigzag, then seven bits a byte, the lowest first."""
    number, out = (number << 1) ^ (number >> 63), bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class _Varints(dict[int, bytes]):
    """Those of one and two bytes are looked up, larger ones computed each time."""

    def __missing__(self, number: int) -> bytes:
        return varint(number)


_VARINT = _Varints((n, varint(n)) for n in range(MAX_RECORDS))
_NO_VALUE, _NO_HEADERS = varint(-1), varint(0)
_SEQ = varint(1) + varint(3) + b"seq"
_SAME_TIME = b"\0\0"  # no attributes, and no milliseconds after the first record's time
_LARGEST_FRAME = 5 + len(_SAME_TIME) + 2  # a record's length, what is the same in all, its offset


class RecordBatch:
    """A batch, compressed if that makes it smaller. The sender says who sends it, and closes it once however often it is sent.

    Has the methods that kafka-python's sender asks of a `MemoryRecordsBuilder`, under their names. For one thread at a time.
    """

    def __init__(self, records: bytes, count: int, timestamp_ms: int) -> None:
        packed = lz4_encode(records)
        self._codec = _LZ4 if len(packed) < len(records) else 0
        self._buffer = bytearray(HEADER.size) + (packed if self._codec else records)
        self._count = count
        self._timestamp_ms = timestamp_ms
        self._transactional = False
        self._closed = False
        self.producer_id = self.producer_epoch = self.base_sequence = -1

    def next_offset(self) -> int:
        """The number of records."""
        return self._count

    def size_in_bytes(self) -> int:
        return len(self._buffer)

    def is_full(self) -> bool:
        return True

    def set_producer_state(
        self, producer_id: int, producer_epoch: int, base_sequence: int, is_transactional: bool
    ) -> None:
        self.producer_id, self.producer_epoch, self.base_sequence = producer_id, producer_epoch, base_sequence
        self._transactional = is_transactional

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        HEADER.pack_into(
            self._buffer,
            0,
            0,  # base offset: for the broker
            len(self._buffer) - _AFTER_LENGTH,
            0,  # leader epoch: for the broker
            _MAGIC,
            0,  # checksum: below
            self._codec | (_TRANSACTIONAL if self._transactional else 0),
            self._count - 1,
            self._timestamp_ms,
            self._timestamp_ms,
            self.producer_id,
            self.producer_epoch,
            self.base_sequence,
            self._count,
        )
        struct.pack_into(">I", self._buffer, _CHECKSUM, calc_crc32c(memoryview(self._buffer)[_AFTER_CHECKSUM:]))

    def buffer(self) -> bytearray:
        """What goes over the wire, once it is closed."""
        return self._buffer


def record_batches(records: Sequence[Outgoing], max_bytes: int, timestamp_ms: int) -> Iterator[RecordBatch]:
    """The records of one partition, in their order, in few batches.

    No batch of several records is larger than `max_bytes`, whatever compression makes of it. A record that is larger by itself stands
    alone, and its batch may be larger even compressed: look at its size. Raises `ValueError` for a seq that is not ASCII decimal.
    """
    parts: list[bytes] = []
    size, count = HEADER.size, 0
    for key, value, seq in records:
        if seq is not None and not seq.isdigit():
            raise ValueError("a seq that is not ASCII decimal")
        headers = _NO_HEADERS if seq is None else _SEQ + _VARINT[len(seq)] + seq
        body = _VARINT[len(key)] + key + (_NO_VALUE if value is None else _VARINT[len(value)])
        length = len(body) + len(value or b"") + len(headers)
        if count and (size + length + _LARGEST_FRAME > max_bytes or count == MAX_RECORDS):
            yield RecordBatch(b"".join(parts), count, timestamp_ms)
            parts, size, count = [], HEADER.size, 0
        frame = _SAME_TIME + _VARINT[count]
        frame = _VARINT[len(frame) + length] + frame
        parts += (frame, body, value or b"", headers)  # the value is copied once, by the join
        size += len(frame) + length
        count += 1
    if count:
        yield RecordBatch(b"".join(parts), count, timestamp_ms)
