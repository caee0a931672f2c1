"""Which writes of a batch may be done together, and which of them the stored versions refuse. Pure.

The one rule is `refused`; every store decides by it, be it in Python under its own lock or as a filter on the server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias, TypeVar

from pixtail.core.points import Delete, Gone, PointId, SetNames, SetPayload, Sync, Truncate, Upsert, Version, Write

PointWrite: TypeAlias = Upsert | SetPayload | Delete
Stored: TypeAlias = Mapping[PointId, Version]
Conditional = TypeVar("Conditional", Upsert, Delete)

MAX_GROUP = 256
"""Qdrant does best with 64 to 256 points in a request."""


class Naming(tuple[SetNames, ...]):
    """Names to be set, one after the other."""

    __slots__ = ()


def groups(writes: Iterable[Write], limit: int = MAX_GROUP) -> Iterator[Truncate | Naming | list[PointWrite]]:
    """The writes in their order, cut so that no list holds an id twice: inside a list the order does not matter."""
    group: dict[PointId, PointWrite] = {}
    naming: list[SetNames] = []
    for write in writes:
        if group and (isinstance(write, Truncate | SetNames) or write.id in group or len(group) == limit):
            yield list(group.values())
            group = {}
        if naming and (not isinstance(write, SetNames) or len(naming) == limit):
            yield Naming(naming)
            naming = []
        match write:
            case Truncate():
                yield write
            case SetNames():
                naming.append(write)
            case _:
                group[write.id] = write
    if naming:
        yield Naming(naming)
    if group:
        yield list(group.values())


def refused(write: PointWrite, stored: Stored) -> bool:
    """Whether what is stored is newer. A point without bookkeeping is older than everything.

    A delete also takes its own version, and a tombstone lets its own version pass: that is the picture that failed once.
    """
    found = stored.get(write.id)
    if found is None:
        return False
    return found.seq > write.seq if isinstance(write, Delete) or isinstance(found, Gone) else found.seq >= write.seq


def versions(
    ids: Iterable[PointId], points: Mapping[PointId, Sync | None], gone: Mapping[PointId, int], floor: int
) -> dict[PointId, Version]:
    """What counts of the points that are there and of the tombstones: the newer one. `floor`: the seq of the last TRUNCATE, or 0."""
    found: dict[PointId, Version] = {}
    for point_id in ids:
        sync, tombstone = points.get(point_id), max(gone.get(point_id, 0), floor)
        if tombstone and (sync is None or sync.seq < tombstone):
            found[point_id] = Gone(tombstone)
        elif point_id in points:
            found[point_id] = sync
    return found


def undone(write: PointWrite, stored: Stored) -> bool:
    """Whether, after the write, there still is an older version: somebody wrote it between our look and our write."""
    return isinstance(stored.get(write.id), Sync) and not isinstance(write, SetPayload) and not refused(write, stored)


def overtaken(write: PointWrite, stored: Stored) -> bool:
    """Whether, after the write, there is a newer version."""
    found = stored.get(write.id)
    return found is not None and found.seq > write.seq


def by_floor(writes: Sequence[Conditional], stored: Stored) -> tuple[list[Conditional], list[Conditional], int]:
    """Those that may share one condition, those that need one of their own, and the lowest seq, which is the shared condition.

    Whatever is older than the lowest seq is older than each of them, so the shared condition never lets a stale write pass.
    """
    floor = min((write.seq for write in writes), default=0)
    shared = [write for write in writes if not _reaches(floor, write, stored)]
    single = [write for write in writes if _reaches(floor, write, stored)]
    return shared, single, floor


def _reaches(floor: int, write: Upsert | Delete, stored: Stored) -> bool:
    """Where there is no point, no condition is asked."""
    found = stored.get(write.id)
    if not isinstance(found, Sync):
        return False
    return found.seq > floor if isinstance(write, Delete) else found.seq >= floor
