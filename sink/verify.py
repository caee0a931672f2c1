"""Is the index right? What the rows ask for beside what is stored: points that are missing, too many, or wrong. Pure.

Both sides come in the order of ids, each once, and are laid side by side in constant memory. Columns are compared by a digest per row, and
only where picture and model agree. (Digests of whole chunks would save nothing: they are made of the rows, and both sides have to be read
for them.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import TypeAlias

import orjson

from pixtail.core.points import Payload, PointId, StoredPoint
from sink.points import portable
from sink.scanning import id_order

DIGEST_BYTES = 16

KeyValues: TypeAlias = tuple[int | float | str, ...]
"""A primary key's JSON values, in key order."""


class Verdict(StrEnum):
    """What is to be said of one id."""

    RIGHT = "right"
    MISSING = "missing"  # the row asks for a point, and there is none
    ORPHAN = "orphan"  # a point of ours that no row asks for
    STALE = "stale"  # the point shows another picture than the row names
    MODEL = "model"  # the right picture, encoded by another model
    PAYLOAD = "payload"  # the right picture, other columns
    FAILED = "failed"  # the row's picture fails, and its dead letter says why
    FOREIGN = "foreign"  # a point that another program wrote: none of our business


DRIFT = (Verdict.MISSING, Verdict.ORPHAN, Verdict.STALE, Verdict.MODEL, Verdict.PAYLOAD)
"""The verdicts that should not be. Their values label `pixtail_drift`."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a row asks of the index: the picture `ref` (None: no point) with the columns of this `digest`.

    `readable` False: the row does not say, as the settings do not fit it; its dead letter says why, and nothing that is stored is judged.
    """

    id: PointId
    key: KeyValues
    ref: str | None
    columns: bytes = b""
    readable: bool = True


def digest(payload: Payload) -> bytes:
    """Of the columns as every store keeps them: equal for equal columns, whatever their order; a NULL is a column that is not there."""
    kept = {name: portable(value) for name, value in payload.items() if value is not None}
    return blake2b(orjson.dumps(kept, option=orjson.OPT_SORT_KEYS), digest_size=DIGEST_BYTES).digest()


def judge(asked: Asked | None, point: StoredPoint | None, model: str, *, failing: bool) -> Verdict:
    """`asked` None: there is no row; `point` None: there is none. `model`: the fingerprint that points should have. `failing`: the row has
    an open dead letter."""
    if point is not None and point.sync is None:
        return Verdict.FOREIGN
    if asked is not None and not asked.readable:
        return Verdict.FAILED
    if asked is None or asked.ref is None:
        return Verdict.RIGHT if point is None else Verdict.ORPHAN
    if point is None or point.sync is None:
        return Verdict.FAILED if failing else Verdict.MISSING
    if point.sync.ref != asked.ref:
        return Verdict.STALE
    if point.sync.model != model:
        return Verdict.MODEL
    return Verdict.RIGHT if digest(point.payload) == asked.columns else Verdict.PAYLOAD


def side_by_side(
    rows: Iterable[Asked], points: Iterable[StoredPoint]
) -> Iterator[tuple[PointId, Asked | None, StoredPoint | None]]:
    """Every id that is on either side, with what is there. Both sides must be in the order of ids, and have each once."""
    ours, theirs = iter(rows), iter(points)
    row, point = next(ours, None), next(theirs, None)
    while row is not None and point is not None:
        if row.id == point.id:
            yield row.id, row, point
            row, point = next(ours, None), next(theirs, None)
        elif id_order(row.id) < id_order(point.id):
            yield row.id, row, None
            row = next(ours, None)
        else:
            yield point.id, None, point
            point = next(theirs, None)
    while row is not None:
        yield row.id, row, None
        row = next(ours, None)
    while point is not None:
        yield point.id, None, point
        point = next(theirs, None)
