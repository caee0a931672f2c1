"""Which writes of a batch may be done together, and which of them the stored versions refuse. Pure.

The one rule is `refused`; every store decides by it, be it in Python under its own lock or as a filter on the server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias, TypeVar

from pixtail.core.points import Delete, PointId, SetPayload, Sync, Truncate, Upsert, Write

PointWrite: TypeAlias = Upsert | SetPayload | Delete
Stored: TypeAlias = Mapping[PointId, Sync | None]
"""The bookkeeping of the points that exist; None for one without."""
Conditional = TypeVar("Conditional", Upsert, Delete)

MAX_GROUP = 256
"""Qdrant does best with 64 to 256 points in a request."""


def groups(writes: Iterable[Write], limit: int = MAX_GROUP) -> Iterator[Truncate | list[PointWrite]]:
    """The writes in their order, cut so that no group holds an id twice: inside a group the order does not matter."""
    group: dict[PointId, PointWrite] = {}
    for write in writes:
        if group and (isinstance(write, Truncate) or write.id in group or len(group) == limit):
            yield list(group.values())
            group = {}
        if isinstance(write, Truncate):
            yield write
        else:
            group[write.id] = write
    if group:
        yield list(group.values())


def refused(write: PointWrite, stored: Stored) -> bool:
    """Whether what is stored is newer. A point without bookkeeping is older than everything; a delete also takes its own version."""
    sync = stored.get(write.id)
    if sync is None:
        return False
    return sync.seq > write.seq if isinstance(write, Delete) else sync.seq >= write.seq


def undone(write: PointWrite, stored: Stored) -> bool:
    """Whether, after the write, there still is an older version: somebody wrote it between our look and our write."""
    return stored.get(write.id) is not None and not refused(write, stored)


def overtaken(write: PointWrite, stored: Stored) -> bool:
    """Whether, after the write, there is a newer version."""
    sync = stored.get(write.id)
    return sync is not None and sync.seq > write.seq


def by_floor(writes: Sequence[Conditional], stored: Stored) -> tuple[list[Conditional], list[Conditional], int]:
    """Those that may share one condition, those that need one of their own, and the lowest seq, which is the shared condition.

    Whatever is older than the lowest seq is older than each of them, so the shared condition never lets a stale write pass.
    """
    floor = min((write.seq for write in writes), default=0)
    shared = [write for write in writes if not _reaches(floor, write, stored)]
    single = [write for write in writes if _reaches(floor, write, stored)]
    return shared, single, floor


def _reaches(floor: int, write: Upsert | Delete, stored: Stored) -> bool:
    sync = stored.get(write.id)
    if sync is None:
        return False
    return sync.seq > floor if isinstance(write, Delete) else sync.seq >= floor
