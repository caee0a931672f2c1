"""MariaDB's COMPRESSED columns: what their values are in the binlog. Pure.

The attribute: https://mariadb.com/kb/en/storage-engine-independent-column-compression/. Seen in the binlog of MariaDB 10.11: an empty
value is no bytes at all. Else one byte says how the rest is packed: 0 for not at all; else its high half is 8 (zlib), its bit 3 is set if
zlib's header and checksum are left out, and its low three bits are the number of bytes, big-endian, of the value's size, which follows.
"""

from __future__ import annotations

import zlib

_ZLIB = 8


def value(data: bytes) -> bytes:
    """The value as it was before. Takes no more memory than the size it names. Raises `ValueError`, without the data in it."""
    if not data:
        return b""
    if data[0] == 0:
        return data[1:]
    if data[0] >> 4 != _ZLIB:
        raise ValueError(f"it is compressed by the unknown method {data[0] >> 4}")
    start = 1 + (data[0] & 7)
    return _inflated(data[start:], int.from_bytes(data[1:start], "big"), bare=bool(data[0] & 8))


def _inflated(data: bytes, size: int, *, bare: bool) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS if bare else zlib.MAX_WBITS)
    try:
        found = inflater.decompress(data, size + 1)
    except zlib.error:
        raise ValueError("its compressed bytes are torn") from None
    if len(found) != size or not inflater.eof:
        raise ValueError(f"its compressed bytes do not make the {size} that they should")
    return found
