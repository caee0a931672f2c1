"""GTIDs: MySQL's executed sets and MariaDB's last GTID of each domain. Pure.

MySQL: `uuid:1-5:8,uuid2:3` — https://dev.mysql.com/doc/refman/8.0/en/replication-gtids-concepts.html
MariaDB: `domain-server-number,…` — https://mariadb.com/kb/en/gtid/
"""

from __future__ import annotations

from typing import Protocol

from pixtail.core.errors import SourceError


class Executed(Protocol):
    """What has been executed; grows by one GTID at a time. For one thread."""

    def add(self, gtid: str) -> None: ...

    def __str__(self) -> str: ...


class GtidSet:
    """MySQL's set of executed GTIDs. Raises `SourceError` for a text it cannot read (tagged GTIDs of MySQL 8.3 are not known here)."""

    def __init__(self, text: str = "") -> None:
        self._intervals: dict[str, list[list[int]]] = {}
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            self._add_part(part)

    def _add_part(self, part: str) -> None:
        uuid, *intervals = part.lower().split(":")
        try:
            for interval in intervals:
                first, _, last = interval.partition("-")
                self._insert(uuid, int(first), int(last or first))
        except ValueError:
            raise SourceError(f"the GTID set {part} cannot be read", "Tagged GTIDs are not supported") from None

    def add(self, gtid: str) -> None:
        uuid, _, number = gtid.partition(":")
        self._insert(uuid.lower(), int(number), int(number))

    def _insert(self, uuid: str, first: int, last: int) -> None:
        """Adds [first, last], and joins what touches. The usual case, the next number of the last interval, is quick."""
        intervals = self._intervals.setdefault(uuid, [])
        if intervals and intervals[-1][1] + 1 == first:
            intervals[-1][1] = last
            return
        merged: list[list[int]] = []
        for low, high in sorted([*intervals, [first, last]]):
            if merged and low <= merged[-1][1] + 1:
                merged[-1][1] = max(merged[-1][1], high)
            else:
                merged.append([low, high])
        self._intervals[uuid] = merged

    def __str__(self) -> str:
        return ",".join(f"{uuid}:{':'.join(map(_interval, found))}" for uuid, found in sorted(self._intervals.items()))


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

    def __str__(self) -> str:
        return ",".join(gtid for _, gtid in sorted(self.last.items()))


def number_of(gtid: str) -> int:
    """MariaDB's sequence number of a GTID."""
    return int(gtid.rpartition("-")[2])
