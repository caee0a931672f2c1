"""Compressed binlog events, made the plain ones that they stand for. Pure.

MySQL's TRANSACTION_PAYLOAD (since 8.0.20) holds the events of one whole transaction in a zstd stream:
https://dev.mysql.com/doc/dev/mysql-server/latest/classmysql_1_1binlog_1_1event_1_1Transaction__payload__event.html. MariaDB's compressed
events hold a statement or rows each, in zlib: https://mariadb.com/kb/en/compressing-events-to-reduce-size-of-the-binary-log/.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import IO, cast

import zstandard

from ingest.events import EventType
from ingest.tablemap import length_coded

HEADER_BYTES = 19
MAX_EVENT_BYTES = 1 << 30  # both servers' largest max_allowed_packet
_STEP_BYTES = 256 << 10
_PAYLOAD_SIZE, _COMPRESSION, _PLAIN_SIZE = 1, 2, 3  # fields before a payload
_ZSTD, _NOT_COMPRESSED = 0, 255
_TORN = (IndexError, KeyError)  # of a length that is cut off, or is none

_PLAIN = {
    EventType.QUERY_COMPRESSED: EventType.QUERY,
    EventType.WRITE_ROWS_COMPRESSED_V1: EventType.WRITE_ROWS_V1,
    EventType.UPDATE_ROWS_COMPRESSED_V1: EventType.UPDATE_ROWS_V1,
    EventType.DELETE_ROWS_COMPRESSED_V1: EventType.DELETE_ROWS_V1,
    EventType.WRITE_ROWS_COMPRESSED: EventType.WRITE_ROWS,
    EventType.UPDATE_ROWS_COMPRESSED: EventType.UPDATE_ROWS,
    EventType.DELETE_ROWS_COMPRESSED: EventType.DELETE_ROWS,
}
_UPDATES = {EventType.UPDATE_ROWS_COMPRESSED_V1, EventType.UPDATE_ROWS_COMPRESSED}
_QUERY_HEADER_BYTES = 13
_ZLIB = 0x80


class Torn(ValueError):
    """What is compressed cannot be restored; the text says why, and holds none of it."""


def inner_events(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The events in a TRANSACTION_PAYLOAD, in order: each whole, with its header of 19 bytes, and without a checksum.

    `chunks` make up the body without the event's header; its checksum may follow, or not. The first holds at least the payload's own
    header: 40 bytes, if there are so many. Whatever their number, about one chunk, 256 KiB and the largest inner event are in memory.
    The offsets in the inner headers mean nothing: the position behind the transaction is that behind the outer event.
    For one thread. Raises `Torn`, behind the events that could be restored.
    """
    parts = iter(chunks)
    first = next(parts, b"")
    try:
        fields, start = _fields(first)
        size, method = fields[_PAYLOAD_SIZE], fields[_COMPRESSION]
        plain_size = size if method == _NOT_COMPRESSED else fields[_PLAIN_SIZE]
    except _TORN:
        raise Torn("the header of the transaction's payload is torn") from None
    payload = _limited(chain([memoryview(first)[start:]], parts), size)
    if method == _ZSTD:
        yield from _cut(_inflated(payload), plain_size)
    elif method == _NOT_COMPRESSED:
        yield from _cut(payload, plain_size)
    else:
        raise Torn(f"the transaction is compressed by the unknown method {method}")


def plain(kind: int, body: bytes) -> tuple[EventType, bytes]:
    """Type and body of the plain event that MariaDB's compressed one (165 to 171) stands for, both without header and checksum.

    Takes no more memory than the event's plain size. Raises `Torn`; `KeyError` for another type.
    """
    compressed = EventType(kind)
    try:
        start = _statement_start(body) if compressed is EventType.QUERY_COMPRESSED else _rows_start(compressed, body)
        return _PLAIN[compressed], body[:start] + _unzipped(body, start)
    except IndexError:
        raise Torn("its header is torn") from None


def _fields(body: bytes) -> tuple[dict[int, int], int]:
    """The numbers before a payload, by type, and where the payload begins. Unknown ones are skipped, as servers do."""
    fields: dict[int, int] = {}
    kind, at = length_coded(body, 0)
    while kind:
        size, at = length_coded(body, at)
        if kind in (_PAYLOAD_SIZE, _COMPRESSION, _PLAIN_SIZE):
            fields[kind], _ = length_coded(body, at)
        kind, at = length_coded(body, at + size)
    return fields, at


def _limited(chunks: Iterable[bytes | memoryview], size: int) -> Iterator[bytes]:
    """The chunks up to `size` bytes, in pieces, so that a large chunk is not copied whole."""
    left = size
    for chunk in chunks:
        whole = memoryview(chunk)[:left]
        left -= len(whole)
        for at in range(0, len(whole), _STEP_BYTES):
            yield bytes(whole[at : at + _STEP_BYTES])
        if not left:
            return
    raise Torn(f"{left} bytes of the transaction's payload are missing")


def _inflated(payload: Iterator[bytes]) -> Iterator[bytes]:
    """In pieces of a bounded size, however well they compress."""
    source = cast(IO[bytes], _Source(payload))  # of which it only calls `read`
    reader = zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True)
    try:
        while piece := reader.read(_STEP_BYTES):
            yield piece
    except zstandard.ZstdError:
        raise Torn("the transaction's compressed bytes are torn") from None


class _Source:
    """Pieces, as zstandard reads them: it takes what comes, whatever size it asks for."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, _size: int) -> bytes:
        return next(self._pieces, b"")


def _cut(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Cuts a stream of events, `size` bytes together, at their ends."""
    waiting: list[bytes] = []
    held, wanted, seen = 0, HEADER_BYTES, 0
    for piece in pieces:
        waiting.append(piece)
        held += len(piece)
        seen += len(piece)
        if held < wanted:
            continue
        data = b"".join(waiting)  # once for an event, however many pieces it takes
        at, wanted = 0, _size_at(data, 0)
        while len(data) - at >= wanted:
            yield data[at : at + wanted]
            at += wanted
            wanted = _size_at(data, at)
        waiting, held = [data[at:]], len(data) - at
    if held or seen != size:
        raise Torn("the transaction's events end in the middle")


def _size_at(data: bytes, at: int) -> int:
    """How many bytes the event there has; those of its header, if that is not there yet."""
    if len(data) - at < HEADER_BYTES:
        return HEADER_BYTES
    size = int.from_bytes(data[at + 9 : at + 13], "little")
    if not HEADER_BYTES <= size <= MAX_EVENT_BYTES:
        raise Torn(f"an event in the transaction's payload cannot have {size} bytes")
    return size


def _statement_start(body: bytes) -> int:
    """Behind the status variables, and the database's name with its zero byte."""
    return _QUERY_HEADER_BYTES + int.from_bytes(body[11:13], "little") + body[8] + 1


def _rows_start(kind: EventType, body: bytes) -> int:
    """Behind table id, flags, extra data, and the bitmaps of the columns that are present."""
    at = 8
    if kind >= EventType.WRITE_ROWS_COMPRESSED:
        at += int.from_bytes(body[8:10], "little")
    columns, at = length_coded(body, at)
    return at + (columns + 7) // 8 * (2 if kind in _UPDATES else 1)


def _unzipped(body: bytes, at: int) -> bytes:
    """One byte says method and how many bytes the plain size has; it follows, big-endian, and then a zlib stream."""
    if body[at] & 0xF8 != _ZLIB:
        raise Torn(f"it is compressed by the unknown method {body[at] >> 4 & 7}")
    start = at + 1 + (body[at] & 7)
    size = int.from_bytes(body[at + 1 : start], "big")
    inflater = zlib.decompressobj()
    try:
        found = inflater.decompress(memoryview(body)[start:], size + 1)
    except zlib.error:
        raise Torn("its compressed bytes are torn") from None
    if len(found) != size or not inflater.eof:
        raise Torn(f"its compressed bytes do not make the {size} that they should")
    return found
