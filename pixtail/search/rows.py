"""Whole indexes on their way out: which points are meant, and how one is written on a line. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import orjson

from pixtail.core.errors import UsageError
from pixtail.core.points import SYNC, StoredPoint, Sync
from pixtail.search.queries import readings

Wanted: TypeAlias = Mapping[str, tuple[Any, ...]]
"""Payload column → the values of which it must have one; None stands for a column that is not there."""


def wanted(pairs: Iterable[tuple[str, str]]) -> Wanted:
    """What `COLUMN=VALUE` pairs ask for. `5` means the number and the text, `null` an empty column too; a column given twice asks for
    either value."""
    columns: dict[str, tuple[Any, ...]] = {}
    for column, text in pairs:
        null = (None,) if text.lower() == "null" else ()
        columns[column] = columns.get(column, ()) + readings(text) + null
    return columns


def matching(points: Iterable[StoredPoint], columns: Wanted) -> Iterator[StoredPoint]:
    """Those of the points that have one of the values in every column.

    Raises `UsageError` at the end if there was none, and a column that none of them has.
    """
    known: set[str] = set()
    found = False
    for point in points:
        if all(_has(point.payload.get(column), values) for column, values in columns.items()):
            found = True
            yield point
        elif not found:
            known.update(point.payload)
    if not found:
        require_known(columns, known)


def require_known(columns: Iterable[str], known: Iterable[str]) -> None:
    """Raises `UsageError` for the first column that no point has, unless there are no points."""
    known = sorted(known)
    for column in columns:
        if known and column not in known:
            raise UsageError(f"no image has a column {column}", f"The columns are {', '.join(known)}")


def _has(stored: Any, values: tuple[Any, ...]) -> bool:
    elements = stored if isinstance(stored, list) else [stored]
    return any(_equal(element, value) for element in elements for value in values)


def _equal(stored: Any, value: Any) -> bool:
    return stored == value and isinstance(stored, bool) == isinstance(value, bool)


def to_line(point: StoredPoint) -> bytes:
    """`{"id", "payload", "sync", "vector"}` and a line's end; no `vector` if the point was read without."""
    row: dict[str, Any] = {
        "id": point.id,
        "payload": point.payload,
        "sync": point.sync.as_payload() if point.sync else None,
    }
    if point.vector is not None:  # as float32 a number has half the digits, and loses nothing
        row["vector"] = np.asarray(point.vector, np.float32)
    return orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def from_line(line: bytes) -> StoredPoint:
    """The point that `to_line` wrote."""
    row = orjson.loads(line)
    return StoredPoint(row["id"], row["payload"], Sync.from_payload({SYNC: row["sync"]}), row.get("vector"))
