"""MySQL's packets: three bytes of length, one of sequence, then the payload. Pure.

https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_packets.html
"""

from __future__ import annotations

import struct

LONGEST = 0xFFFFFF
"""A payload of this length is continued by the next packet."""
_HEADER = 4
_length_and_number = struct.Struct("<I").unpack_from


class PacketSplitter:
    """Cuts a byte stream into payloads. Holds an incomplete one until the rest comes. For one thread."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  # of a packet that is not complete, each from its own read
        self._missing = _HEADER  # so many bytes more, at the least, before anything can be cut
        self._long: list[bytes] = []  # the full packets of a payload that goes on

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that `data` completes, in order."""
        if self._pieces:
            self._pieces.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return []
            data = b"".join(self._pieces)
            self._pieces = []
        return self._cut(data)

    def _cut(self, data: bytes) -> list[bytes]:
        found: list[bytes] = []
        at, size = 0, len(data)
        while size - at >= _HEADER:
            start = at + _HEADER
            length = _length_and_number(data, at)[0] & LONGEST
            end = start + length
            if end > size:
                self._keep(data[at:], end - size)
                return found
            if length == LONGEST or self._long:
                self._lengthen(data[start:end], found)
            else:
                found.append(data[start:end])
            at = end
        if at < size:
            self._keep(data[at:], _HEADER - (size - at))
        return found

    def _keep(self, rest: bytes, missing: int) -> None:
        self._pieces = [rest]
        self._missing = missing

    def _lengthen(self, piece: bytes, found: list[bytes]) -> None:
        self._long.append(piece)
        if len(piece) < LONGEST:
            found.append(b"".join(self._long))
            self._long = []
