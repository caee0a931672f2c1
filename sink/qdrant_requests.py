"""Writes and conditions as Qdrant's request models. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TypeAlias

import orjson
from qdrant_client import models

from pixtail.core.points import Delete, PointId, SetNames, SetPayload, Truncate, Upsert
from sink.batches import Naming, PointWrite, Stored, by_floor
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

Operation: TypeAlias = models.UpsertOperation | models.SetPayloadOperation | models.DeleteOperation

MAX_BYTES = 16 << 20
"""Of one request: half of what a server takes by REST if nothing else is set (service.max_request_size_mb = 32)."""
_BYTES_PER_NUMBER = 24  # a float32 as JSON, which writes it as the float64 it equals
_BYTES_AROUND = 512  # id and condition


def operations(writes: Sequence[PointWrite], stored: Stored) -> list[Operation]:
    """The writes of one group (no id twice) as few operations: one upsert and one delete for all that may share a condition.

    One condition per point costs four to seven times as much on the server.
    """
    upserts, single_upserts, upsert_floor = by_floor([w for w in writes if isinstance(w, Upsert)], stored)
    deletes, single_deletes, delete_floor = by_floor([w for w in writes if isinstance(w, Delete)], stored)
    shared: list[Operation] = []
    if upserts:
        shared.append(_upsert(upserts, upsert_floor))
    if deletes:
        shared.append(_delete(deletes, delete_floor))
    payloads = [write for write in writes if isinstance(write, SetPayload)]
    single: list[PointWrite] = [*single_upserts, *single_deletes, *payloads]
    return shared + [operation(write) for write in single]


def operation(write: PointWrite) -> Operation:
    """The write under a condition of its own."""
    match write:
        case Upsert():
            return _upsert([write], write.seq)
        case Delete():
            return _delete([write], write.seq)
        case SetPayload():
            seen = models.FieldCondition(key=SEQ_PATH, range=models.Range(gte=write.over, lte=write.over))
            selected = models.Filter(must=[_ids([write.id]), seen])
            return models.SetPayloadOperation(set_payload=models.SetPayload(payload=payload_of(write), filter=selected))


def in_requests(
    group: Truncate | Naming | list[PointWrite], max_bytes: int = MAX_BYTES
) -> Iterator[Truncate | Naming | list[PointWrite]]:
    """The group, cut so that no request with more than one write is larger than `max_bytes`."""
    if not isinstance(group, list):
        yield group
        return
    part: list[PointWrite] = []
    room = max_bytes
    for write in group:
        size = size_of(write)
        if part and size > room:
            yield part
            part, room = [], max_bytes
        part.append(write)
        room -= size
    yield part


def size_of(write: PointWrite) -> int:
    """About how many bytes the write takes in a REST request, rather more than less. By gRPC it takes about a third."""
    if isinstance(write, Delete):
        return _BYTES_AROUND
    vector = len(write.vector) * _BYTES_PER_NUMBER if isinstance(write, Upsert) else 0
    return _BYTES_AROUND + vector + len(orjson.dumps(payload_of(write), default=str))


def id_of(record: models.Record | models.ScoredPoint) -> PointId:
    return record.id if isinstance(record.id, int) else str(record.id)


def truncation(seq: int) -> models.DeleteOperation:
    """Points without bookkeeping are not ours: a range never matches what is not there."""
    return _deletion(models.Filter(must=[models.FieldCondition(key=SEQ_PATH, range=models.Range(lt=seq))]))


def naming(write: SetNames) -> models.SetPayloadOperation:
    """Of points without bookkeeping none is named: a range never matches what is not there."""
    must: list[models.Condition] = [
        *map(_condition, conditions({write.column: write.value})),
        models.FieldCondition(key=SEQ_PATH, range=models.Range(gte=0)),
        _older_than(first_too_new(write), path_of(write.version)),
    ]
    if write.ids is not None:
        must.append(_ids(write.ids))
    named = models.SetPayload(payload=names_of(write), filter=models.Filter(must=must))
    return models.SetPayloadOperation(set_payload=named)


def search_filter(wanted: Iterable[Condition], exclude: Collection[PointId]) -> models.Filter:
    return models.Filter(
        must=[_condition(condition) for condition in wanted], must_not=[_ids(exclude)] if exclude else None
    )


def _upsert(writes: Sequence[Upsert], below: int) -> models.UpsertOperation:
    points = [models.PointStruct(id=w.id, vector=w.vector.tolist(), payload=payload_of(w)) for w in writes]
    return models.UpsertOperation(upsert=models.PointsList(points=points, update_filter=_older_than(below)))


def _delete(writes: Sequence[Delete], up_to: int) -> models.DeleteOperation:
    return _deletion(models.Filter(must=[_ids([w.id for w in writes]), _older_than(up_to + 1)]))


def _deletion(selected: models.Filter) -> models.DeleteOperation:
    return models.DeleteOperation(delete=models.FilterSelector(filter=selected))


def _older_than(seq: int, path: str = SEQ_PATH) -> models.Filter:
    """Also true of a point that has no version there."""
    return models.Filter(should=list(_older_or_none(seq, path)))


def _older_or_none(seq: int, path: str) -> Iterator[models.FieldCondition | models.IsEmptyCondition]:
    yield models.FieldCondition(key=path, range=models.Range(lt=seq))
    yield models.IsEmptyCondition(is_empty=models.PayloadField(key=path))


def _ids(ids: Collection[PointId]) -> models.HasIdCondition:
    return models.HasIdCondition(has_id=list(ids))


def _condition(condition: Condition) -> models.FieldCondition | models.IsEmptyCondition:
    path = path_of(condition.column)
    match condition:
        case Equals(_, value):
            return models.FieldCondition(key=path, match=models.MatchValue(value=value))
        case EqualsNumber(_, value):
            return models.FieldCondition(key=path, range=models.Range(gte=value, lte=value))
        case _:
            return models.IsEmptyCondition(is_empty=models.PayloadField(key=path))
