"""Whether a new collection may take the place of the one that is searched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pixtail.core.points import StoredPoint
from pixtail.core.ports import VectorStore

SAMPLES = 100
NEAREST = 5
"""A point counts as found if it is among so many nearest to its own vector: pictures may stand in the index twice."""
LEAST_RECALL = 0.98
MOST_LOST = 0.05


@dataclass(frozen=True, slots=True)
class Facts:
    """`former`: points of the collection that is searched now; `points`: of the new one. `failed`: rows whose picture fails now.
    `drift`: rows and points that do not fit together, by kind. `found` of `sampled` points are found by their own vectors."""

    former: int
    points: int
    failed: int
    drift: dict[str, int]
    sampled: int
    found: int


def objections(facts: Facts) -> list[str]:
    """What speaks against the swap, in words; empty if nothing does. Pure."""
    said = [f"{number} rows or points are {kind}" for kind, number in facts.drift.items() if number]
    lost = facts.former - facts.points
    if facts.failed and lost > MOST_LOST * facts.former:
        said.append(f"{lost} of {facts.former} pictures would be lost, {facts.failed} fail now: see `pixtail dlq list`")
    if facts.found < LEAST_RECALL * facts.sampled:
        said.append(f"only {facts.found} of {facts.sampled} pictures are found by their own vectors")
    return said


def recall(store: VectorStore) -> tuple[int, int]:
    """How many points were sampled, evenly over the ids, and how many of them are found by their own vectors. Raises `StoreUnreachable`."""
    points = _sample(store)
    found = 0
    for point in points:
        hits = store.search(np.asarray(point.vector, dtype=np.float32), limit=NEAREST)
        found += point.id in [hit.point.id for hit in hits]
    return len(points), found


def _sample(store: VectorStore) -> list[StoredPoint]:
    step = max(store.count() // SAMPLES, 1)
    ids = [point.id for number, point in enumerate(store.scan()) if number % step == 0][:SAMPLES]
    return store.get(ids, with_vectors=True)
