"""Core points to vendor-neutral pieces and back. Pure.

A NULL column and a column that is not there are one and the same: Qdrant's `set_payload` takes a null as "remove this key", so a point
would otherwise look different depending on the way it was written. Integers beyond 63 bits become decimal text, since Qdrant's gRPC has
no wider integer (json_with_int.proto).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, TypeAlias, TypeGuard

import numpy as np

from pixtail.core.errors import PixtailError, UsageError
from pixtail.core.points import (
    SYNC,
    Payload,
    PointId,
    SetNames,
    SetPayload,
    StoredPoint,
    Sync,
    Upsert,
    Write,
    is_bookkeeping,
)
from sink.collection import require_dimension

SEQ_PATH = f"{SYNC}.seq"
INT64 = range(-(1 << 63), 1 << 63)
_KEPT_AS_IT_IS = (str, float, NoneType)
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Equals:
    """The column has this very value; a column with an array, one of its elements. An integer never equals a boolean or a float."""

    column: str
    value: str | int | bool


@dataclass(frozen=True, slots=True)
class EqualsNumber:
    """The column is this number, be it stored as an integer or a float."""

    column: str
    value: float


@dataclass(frozen=True, slots=True)
class IsEmpty:
    """The column is not there, null, or an empty array."""

    column: str


Condition: TypeAlias = Equals | EqualsNumber | IsEmpty


def payload_of(write: Upsert | SetPayload) -> dict[str, Any]:
    """What is sent for the write: its columns and `_sync`. A null means "remove" and is left out where nothing can be there."""
    columns = {name: portable(value) for name, value in write.payload.items()}
    if isinstance(write, Upsert):
        columns = {name: value for name, value in columns.items() if value is not None}
    return columns | {SYNC: write.sync.as_payload()}


def names_of(write: SetNames) -> dict[str, Any]:
    """What is sent for the names: with nulls, which mean "remove", and the version that they are of."""
    return {name: portable(value) for name, value in write.names.items()} | {write.version: write.seq}


def first_too_new(write: SetNames) -> int:
    """The lowest version that is left as it is."""
    return write.seq + write.again


def stored_point(point_id: PointId, payload: Payload | None, vector: Sequence[float] | None = None) -> StoredPoint:
    columns = {name: value for name, value in (payload or {}).items() if not is_bookkeeping(name)}
    return StoredPoint(point_id, columns, Sync.from_payload(payload), vector)


def portable(value: Any) -> Any:
    """The value as every store can keep it. What most values are comes first: this is done for every column of every row."""
    if isinstance(value, _KEPT_AS_IT_IS):
        return value
    if isinstance(value, int):
        return value if value in INT64 else str(value)
    if isinstance(value, Mapping):
        return {name: portable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [portable(inner) for inner in value]
    return value


def conditions(where: Mapping[str, Any] | None) -> list[Condition]:
    """Equality of payload columns; None asks for columns that are null. Raises `UsageError` for what cannot be compared."""
    return [_condition(column, portable(value)) for column, value in (where or {}).items()]


def _condition(column: str, value: Any) -> Condition:
    if value is None:
        return IsEmpty(column)
    if isinstance(value, float):
        return EqualsNumber(column, value)
    if isinstance(value, str | int):
        return Equals(column, value)
    raise UsageError(
        f"column {column} cannot be compared with a {type(value).__name__}", "Give text, a number or a boolean"
    )


def path_of(column: str) -> str:
    """The column's JSON path in Qdrant's notation: what is no plain word stands in quotes."""
    if _PLAIN_KEY.fullmatch(column):
        return column
    if '"' in column:
        raise UsageError(f"column {column} cannot be searched: its name contains a quotation mark")
    return f'"{column}"'


def matches(payload: Payload, wanted: Iterable[Condition]) -> bool:
    """Whether all conditions hold, by Qdrant's rules: the reference that the contract suite compares the stores with."""
    return all(_holds(payload.get(condition.column), condition) for condition in wanted)


def _holds(stored: Any, condition: Condition) -> bool:
    if isinstance(condition, IsEmpty):
        return stored is None or stored == []
    if isinstance(stored, list):
        return any(_equal(element, condition) for element in stored)
    return _equal(stored, condition)


def _equal(stored: Any, condition: Equals | EqualsNumber) -> bool:
    if isinstance(condition, EqualsNumber):
        return isinstance(stored, int | float) and not isinstance(stored, bool) and stored == condition.value
    return type(stored) is type(condition.value) and bool(stored == condition.value)


def has_vector(write: Write) -> TypeGuard[Upsert]:
    return isinstance(write, Upsert)


def check_vectors(writes: Iterable[Write], dimension: int, alias: str, place: str) -> None:
    """Raises before anything is written if a vector has another size or no direction: stores keep NaN without a word."""
    upserts = list(filter(has_vector, writes))
    if not upserts:
        return
    for write in upserts:
        require_dimension(dimension, len(write.vector), alias, place)
    together = np.stack([write.vector for write in upserts])
    fine = np.isfinite(together).all(axis=1) & together.any(axis=1)
    if not fine.all():
        raise PixtailError(
            f"the vector of point {upserts[int(fine.argmin())].id} is no unit vector: it is zero or has values that are no numbers",
            "Check the model: it must not return NaN (try model.dtype = float32)",
        )
