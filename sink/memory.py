"""The index in memory: exact, for tests and as the reference of the contract suite. Nothing is kept."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

import numpy as np

from pixtail.core.errors import PixtailError
from pixtail.core.points import (
    Delete,
    Hit,
    PointId,
    SetNames,
    SetPayload,
    StoredPoint,
    Sync,
    Truncate,
    Upsert,
    Version,
    Write,
)
from pixtail.core.ports import NOTHING, Applied
from sink.batches import refused, versions
from sink.collection import missing, no_snapshot, require_dimension, require_model
from sink.points import check_vectors, conditions, first_too_new, matches, names_of, payload_of, stored_point
from sink.scanning import id_order

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pixtail.core.points import Vector

PLACE = "the in-memory store"


class _Point:
    """A stored point: its payload with the bookkeeping, its vector of unit length."""

    def __init__(self, payload: dict[str, Any], vector: NDArray[np.float32]) -> None:
        self.payload = payload
        self.vector = vector

    @property
    def sync(self) -> Sync | None:
        return Sync.from_payload(self.payload)


class MemoryStore:
    """A `VectorStore` that keeps everything in a dictionary. Thread-safe.

    `fail_with`, when set, is raised by every method named in `fail_in` (None: by all but `close`), until it is set back to None.
    """

    def __init__(self, alias: str = "images", generation: str = "") -> None:
        self.fail_with: PixtailError | None = None
        self.fail_in: Collection[str] | None = None
        self._alias = alias
        self._generation = generation
        self._dimension: int | None = None
        self.made_by: Mapping[str, str] = NOTHING
        self._points: dict[PointId, _Point] = {}
        self._gone: dict[PointId, int] = {}
        self._floor = 0
        self._lock = threading.Lock()

    def prepare(self, dimension: int, fingerprint: str, made_by: Mapping[str, str] = NOTHING) -> None:
        self._may_fail("prepare")
        with self._lock:
            require_dimension(self._dimension or dimension, dimension, self._alias, PLACE)
            self._generation = self._generation or fingerprint
            require_model(self._generation, fingerprint, self._alias, PLACE)
            self._dimension, self.made_by = dimension, self.made_by or made_by

    def check(self) -> str:
        self._may_fail("check")
        return f"{PLACE}, {len(self._points)} points; nothing is kept"

    def dimension(self) -> int | None:
        self._may_fail("dimension")
        return self._dimension

    def versions(self, ids: Collection[PointId]) -> Mapping[PointId, Version]:
        self._may_fail("versions")
        with self._lock:
            return self._versions(ids)

    def apply(self, writes: Sequence[Write]) -> Applied:
        self._may_fail("apply")
        with self._lock:
            if self._dimension is None:
                raise missing(self._alias, PLACE)
            check_vectors(writes, self._dimension, self._alias, PLACE)
            refusals = [self._apply(write) for write in writes]
        return Applied(refusals.count(frozenset()), frozenset().union(*refusals))

    def begin_bulk(self) -> None:
        self._may_fail("begin_bulk")

    def end_bulk(self) -> bool:
        self._may_fail("end_bulk")
        return True

    def snapshot(self, file: Path) -> int:
        raise no_snapshot(PLACE)

    def forget(self, below: int) -> None:
        self._may_fail("forget")
        with self._lock:
            self._gone = {point_id: seq for point_id, seq in self._gone.items() if seq >= below}
            self._floor = self._floor if self._floor >= below else 0

    def get(self, ids: Sequence[PointId], *, with_vectors: bool = False) -> list[StoredPoint]:
        self._may_fail("get")
        with self._lock:
            return [self._stored(point_id, with_vectors) for point_id in ids if point_id in self._points]

    def scan(self, *, after: PointId | None = None, with_vectors: bool = False) -> Iterator[StoredPoint]:
        self._may_fail("scan")
        start = None if after is None else id_order(after)
        for point_id in sorted(self._points, key=id_order):
            if start is None or id_order(point_id) > start:
                yield from self.get([point_id], with_vectors=with_vectors)

    def search(
        self,
        vector: Vector,
        *,
        limit: int,
        offset: int = 0,
        where: Mapping[str, Any] | None = None,
        min_score: float | None = None,
        exclude: Collection[PointId] = (),
    ) -> list[Hit]:
        self._may_fail("search")
        wanted = conditions(where)
        with self._lock:
            if self._dimension is None:
                return []
            require_dimension(self._dimension, len(vector), self._alias, PLACE)
            scores = {
                point_id: float(point.vector @ vector)
                for point_id, point in self._points.items()
                if point_id not in exclude and matches(point.payload, wanted)
            }
            best = sorted(scores, key=lambda point_id: (-scores[point_id], str(point_id)))
            hits = [Hit(self._stored(point_id), scores[point_id]) for point_id in best]
        return [hit for hit in hits if min_score is None or hit.score >= min_score][offset : offset + limit]

    def count(self) -> int:
        self._may_fail("count")
        return len(self._points)

    def close(self) -> None:
        """Nothing to give back."""

    def _may_fail(self, operation: str) -> None:
        if self.fail_with is not None and (self.fail_in is None or operation in self.fail_in):
            raise self.fail_with

    def _apply(self, write: Write) -> frozenset[PointId]:
        """Does one write; returns its id if it was refused."""
        if isinstance(write, Truncate):
            self._truncate(write.seq)
            return frozenset()
        if isinstance(write, SetNames):
            self._name(write)
            return frozenset()
        if refused(write, self._versions([write.id])):
            return frozenset({write.id})
        match write:
            case Upsert():
                self._points[write.id] = _Point(payload_of(write), _unit(write.vector))
            case SetPayload():
                self._merge(write)
            case Delete():
                self._gone[write.id] = max(write.seq, self._gone.get(write.id, 0))
                self._points.pop(write.id, None)
            case _:
                assert_never(write)
        return frozenset()

    def _versions(self, ids: Collection[PointId]) -> dict[PointId, Version]:
        points = {point_id: self._points[point_id].sync for point_id in ids if point_id in self._points}
        return versions(ids, points, self._gone, self._floor)

    def _truncate(self, seq: int) -> None:
        self._floor = max(seq, self._floor)
        gone = [i for i, point in self._points.items() if point.sync is not None and point.sync.seq < seq]
        for point_id in gone:
            del self._points[point_id]

    def _merge(self, write: SetPayload) -> None:
        point = self._points.get(write.id)
        if point is not None and point.sync is not None and point.sync.seq == write.over:
            point.payload = _merged(point.payload, payload_of(write))

    def _name(self, write: SetNames) -> None:
        wanted, too_new = conditions({write.column: write.value}), first_too_new(write)
        for point_id in self._points if write.ids is None else write.ids & self._points.keys():
            point = self._points[point_id]
            older = point.payload.get(write.version, 0) < too_new
            if older and point.sync is not None and matches(point.payload, wanted):
                point.payload = _merged(point.payload, names_of(write))

    def _stored(self, point_id: PointId, with_vectors: bool = False) -> StoredPoint:
        point = self._points[point_id]
        return stored_point(point_id, point.payload, point.vector.tolist() if with_vectors else None)


def _merged(payload: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**payload, **new}.items() if value is not None}


def _unit(vector: Vector) -> NDArray[np.float32]:
    values = np.asarray(vector, dtype=np.float32)
    return values / np.linalg.norm(values)
