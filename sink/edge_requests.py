"""Writes and conditions as qdrant-edge's models. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from qdrant_edge import (
    Distance,
    EdgeConfig,
    EdgeOptimizersConfig,
    EdgeVectorParams,
    FieldCondition,
    Filter,
    HasIdCondition,
    IsEmptyCondition,
    MatchValue,
    PayloadSchemaType,
    Point,
    RangeFloat,
    UpdateOperation,
    VectorStorageDatatype,
)

from pixtail.core.points import Delete, PointId, SetNames, SetPayload, Sync, Upsert
from sink.batches import PointWrite
from sink.points import (
    SEQ_PATH,
    Condition,
    Equals,
    EqualsNumber,
    conditions,
    first_too_new,
    names_of,
    path_of,
    payload_of,
)

if TYPE_CHECKING:
    from pixtail.core.points import Vector

# Never an HNSW graph: building it holds the interpreter for minutes, and exact search over a hundred thousand points takes milliseconds.
# What is left of `optimize` is the vacuum, which gives back the space of deleted points.
OPTIMIZERS = EdgeOptimizersConfig(indexing_threshold=1 << 40)


def shard_config(dimension: int, datatype: str | None = None) -> EdgeConfig:
    """`datatype`: float32 (None says the same) or float16."""
    kept = VectorStorageDatatype.Float16 if datatype == "float16" else None
    vectors = EdgeVectorParams(dimension, Distance.Cosine, datatype=kept)
    return EdgeConfig(vectors=vectors, optimizers=OPTIMIZERS)


def operations(writes: Sequence[PointWrite], present: Mapping[PointId, Sync | None]) -> Iterator[Any]:
    """The writes of one group (no id twice), none of which is refused; `present` are the points that exist."""
    upserts = [Point(w.id, _values(w.vector), payload_of(w)) for w in writes if isinstance(w, Upsert)]
    deletes: list[Any] = [w.id for w in writes if isinstance(w, Delete) and w.id in present]
    if upserts:
        yield UpdateOperation.upsert_points(upserts)
    for write in writes:
        if isinstance(write, SetPayload) and (sync := present.get(write.id)) and sync.seq == write.over:
            yield UpdateOperation.set_payload([write.id], payload_of(write))
    if deletes:
        yield UpdateOperation.delete_points(deletes)


def _values(vector: Vector) -> Any:
    """The library reads a buffer twice as fast as it and NumPy together make a list."""
    return np.ascontiguousarray(vector, dtype=np.float32).data


def truncation(seq: int) -> UpdateOperation:
    """Points without bookkeeping are not ours: a range never matches what is not there."""
    older = FieldCondition(SEQ_PATH, range=RangeFloat(lt=float(seq)))
    return UpdateOperation.delete_points_by_filter(Filter(must=[older]))


def naming(write: SetNames) -> UpdateOperation:
    """Of points without bookkeeping none is named: a range never matches what is not there."""
    version = path_of(write.version)
    older: list[Any] = [
        FieldCondition(version, range=RangeFloat(lt=float(first_too_new(write)))),
        IsEmptyCondition(version),
    ]
    must: list[Any] = [
        *map(_condition, conditions({write.column: write.value})),
        FieldCondition(SEQ_PATH, range=RangeFloat(gte=0.0)),
        Filter(should=older),
    ]
    if write.ids is not None:
        must.append(HasIdCondition(set(write.ids)))
    return UpdateOperation.set_payload_by_filter(Filter(must=must), names_of(write))


def index(path: str, kind: str) -> UpdateOperation:
    """`kind` as the settings write it. Making one that is there is no harm."""
    return UpdateOperation.create_field_index(path, getattr(PayloadSchemaType, kind.capitalize()))


def search_filter(wanted: Iterable[Condition], exclude: Collection[PointId]) -> Filter:
    return Filter(must=[_condition(c) for c in wanted], must_not=[HasIdCondition(set(exclude))] if exclude else None)


def _condition(condition: Condition) -> FieldCondition | IsEmptyCondition:
    path = path_of(condition.column)
    match condition:
        case Equals(_, bool() as value):
            # qdrant-edge 0.9.0 takes Python's own booleans for the integers 0 and 1, but not NumPy's.
            return FieldCondition(path, match=MatchValue(cast(bool, np.bool_(value))))
        case Equals(_, value):
            return FieldCondition(path, match=MatchValue(value))
        case EqualsNumber(_, value):
            return FieldCondition(path, range=RangeFloat(gte=value, lte=value))
        case _:
            return IsEmptyCondition(path)


def id_of(record: Any) -> PointId:
    return record.id if isinstance(record.id, int) else str(record.id)
