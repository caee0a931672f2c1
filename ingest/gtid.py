"""GTIDs: MySQL's executed sets and MariaDB's last GTID of each domain. Pure.

MySQL: `uuid:1-5:8,uuid2:3` — https://dev.mysql.com/doc/refman/8.0/en/replication-gtids-concepts.html
MariaDB: `domain-server-number,…` — https://mariadb.com/kb/en/gtid/
"""

from __future__ import annotations

import struct
from typing import Protocol
from uuid import UUID

from pixtail.core.errors import SourceError

_U64 = struct.Struct("<Q")
_INTERVAL = struct.Struct("<QQ")  # first, and behind the last
_TAGGED = 1 << 56 | 1


class Executed(Protocol):
    """What has been executed; grows by one GTID at a time. For one thread."""

    def add(self, gtid: str) -> None: ...

    def __str__(self) -> str: ...


class GtidSet:
    """MySQL's set of executed GTIDs, tagged ones (MySQL 8.3) too: `uuid:1-5:blue:1-3`. Raises `SourceError` for a text it cannot read."""

    def __init__(self, text: str = "") -> None:
        self._intervals: dict[str, list[list[int]]] = {}  # by `uuid` or `uuid:tag`; in order, and none touches the next
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            self._add_part(part)

    def _add_part(self, part: str) -> None:
        """A tag holds for the intervals behind it."""
        uuid, *pieces = part.lower().split(":")
        source = uuid
        try:
            for piece in map(str.strip, pieces):
                if piece[:1].isdigit():
                    first, dash, last = piece.partition("-")
                    self._insert(source, int(first), int(last if dash else first))
                else:
                    source = f"{uuid}:{_tag(piece)}"
        except ValueError:
            raise SourceError(f"the GTID set {part} cannot be read") from None

    def add(self, gtid: str) -> None:
        """Of a transaction: `uuid:5` or `uuid:blue:5`. The usual case, the next number of the last interval, is quick."""
        source, _, text = gtid.rpartition(":")
        try:
            number = int(text)
            last = self._intervals[source][-1]
        except KeyError:
            self._insert(source.lower(), number, number)
            return
        except ValueError:
            raise SourceError(f"the GTID {gtid} cannot be read") from None
        if last[1] + 1 == number:
            last[1] = number
        else:
            self._insert(source, number, number)

    def _insert(self, source: str, first: int, last: int) -> None:
        """Adds [first, last], and joins what touches."""
        merged: list[list[int]] = []
        for low, high in sorted([*self._intervals.get(source, ()), [first, last]]):
            if merged and low <= merged[-1][1] + 1:
                merged[-1][1] = max(merged[-1][1], high)
            else:
                merged.append([low, high])
        self._intervals[source] = merged

    def covers(self, other: GtidSet) -> bool:
        """Does it hold all of `other`?"""
        return all(
            any(low <= first and last <= high for low, high in self._intervals.get(source, ()))
            for source, intervals in other._intervals.items()
            for first, last in intervals
        )

    def __str__(self) -> str:
        """As the server writes it: untagged intervals before tagged ones."""
        parts: dict[str, list[str]] = {}
        for source, intervals in sorted(self._intervals.items()):
            uuid, _, tag = source.partition(":")
            parts.setdefault(uuid, [uuid]).extend([tag] * bool(tag) + [*map(_interval, intervals)])
        return ",".join(map(":".join, parts.values()))

    def encoded(self) -> bytes:
        """As COM_BINLOG_DUMP_GTID wants it. Only a set that holds tags is in the newer form, which servers before MySQL 8.3 refuse."""
        sources = [source.partition(":") for source in sorted(self._intervals)]
        tagged = any(tag for _, _, tag in sources)
        parts = [_U64.pack(_TAGGED | len(sources) << 8 if tagged else len(sources))]
        for uuid, colon, tag in sources:
            intervals = self._intervals[uuid + colon + tag]
            parts += [UUID(uuid).bytes, _short(tag) if tagged else b"", _U64.pack(len(intervals))]
            parts += [_INTERVAL.pack(first, last + 1) for first, last in intervals]
        return b"".join(parts)


def _short(tag: str) -> bytes:
    """A tag has 32 characters at most: its length fits into one byte, which keeps a zero bit to say so."""
    return bytes([len(tag) << 1]) + tag.encode()


def _tag(text: str) -> str:
    if not text.isidentifier() or not text.isascii():
        raise ValueError(text)
    return text


def _interval(bounds: list[int]) -> str:
    first, last = bounds
    return str(first) if first == last else f"{first}-{last}"


class DomainPositions:
    """MariaDB's position: the last GTID of each replication domain."""

    def __init__(self, text: str = "") -> None:
        self.last: dict[int, str] = {}
        for gtid in filter(None, (piece.strip() for piece in text.split(","))):
            self.add(gtid)

    def add(self, gtid: str) -> None:
        try:
            domain, _server, _number = (int(part) for part in gtid.split("-"))
        except ValueError:
            raise SourceError(f"the GTID {gtid} cannot be read") from None
        self.last[domain] = gtid

    def covers(self, other: DomainPositions) -> bool:
        """Is it at `other` in every domain, or behind it? Servers of one cluster count in one row."""
        return all(number_of(self.last.get(domain, "0-0-0")) >= number_of(gtid) for domain, gtid in other.last.items())

    def __str__(self) -> str:
        return ",".join(gtid for _, gtid in sorted(self.last.items()))


def number_of(gtid: str) -> int:
    """MariaDB's sequence number of a GTID."""
    return int(gtid.rpartition("-")[2])
