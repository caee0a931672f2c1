"""Points and writes for tests of stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pixtail.core.points import PictureFacts, PointId, SetPayload, Sync, Upsert

DIMENSION = 8


def direction(number: int, dimension: int = DIMENSION) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A unit vector of its own for each number."""
    vector = np.random.default_rng(number).normal(size=dimension).astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def sync(seq: int, ref: str = "pictures/a.jpg") -> Sync:
    facts = PictureFacts(sha256=f"{seq:064x}", width=640, height=480, format="JPEG", bytes=1000)
    return Sync(seq=seq, ref=ref, model="f00d", facts=facts, at="2026-11-03T10:00:00.000Z")


def upsert(point_id: PointId, seq: int, payload: Mapping[str, Any] | None = None, vector: Any = None) -> Upsert:
    return Upsert(
        point_id,
        direction(seq) if vector is None else vector,
        {"title": f"v{seq}"} if payload is None else payload,
        sync(seq),
    )


def set_payload(
    point_id: PointId, seq: int, payload: Mapping[str, Any] | None = None, over: int | None = None
) -> SetPayload:
    """Over the version before, unless it is said."""
    columns = {"title": f"p{seq}"} if payload is None else payload
    return SetPayload(point_id, columns, sync(seq), seq - 1 if over is None else over)
