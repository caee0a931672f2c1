"""The tombstones in a Qdrant server: a collection without vectors, `<alias>__tombstones`, which all collections of the alias share.

How it closes the hole that conditional writes leave: a delete puts its tombstone first and removes the point then; an upsert looks for
tombstones when it is done, and removes the point if there is a newer one. In whichever order the four steps come, the point is gone.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from qdrant_client import QdrantClient, models

from pixtail.core.points import Delete, PointId
from sink.qdrant_connection import Connection, Refused
from sink.qdrant_errors import Kind

_SEQ = "seq"
_FLOOR = str(uuid.uuid5(uuid.UUID("6b0c4b36-6f0b-5d0c-9d3a-7a2f1c3f9a10"), "truncate"))
"""The id of the last TRUNCATE: no key makes this one."""


class Ledger:
    """Which version of a row deleted it. Thread-safe; raises as `Connection.call`."""

    def __init__(self, connection: Connection, alias: str) -> None:
        self._connection = connection
        self._name = f"{alias}__tombstones"

    def prepare(self) -> None:
        """Makes the collection if there is none. Several workers may do this at once."""
        if self._exists():
            return
        try:
            self._connection.call("create", lambda client: client.create_collection(self._name, {}))
        except Refused as error:
            if error.kind is Kind.EXISTS:
                return
            raise
        self._connection.call("index", self._index)

    def _exists(self) -> bool:
        try:
            self._connection.call("look at", lambda client: client.get_collection(self._name))
        except Refused as error:
            if error.kind is Kind.MISSING:
                return False
            raise
        return True

    def put(self, deletes: Sequence[Delete], known: Mapping[PointId, int]) -> None:
        """A row that has one keeps the newer; `known` are those that were found a moment ago."""
        if not deletes:
            return
        floor = min(delete.seq for delete in deletes)
        shared = [delete for delete in deletes if known.get(delete.id, 0) < floor]
        single = [delete for delete in deletes if known.get(delete.id, 0) >= floor]
        todo = [_put([(d.id, d.seq) for d in shared], floor)] if shared else []
        self._write([*todo, *(_put([(d.id, d.seq)], d.seq) for d in single)])

    def put_floor(self, seq: int) -> None:
        """Of every row, by a TRUNCATE."""
        self._write([_put([(_FLOOR, seq)], seq)])

    def find(self, ids: Collection[PointId]) -> tuple[Mapping[PointId, int], int]:
        """The seqs of those rows that have a tombstone, and that of the last TRUNCATE (0: none)."""
        try:
            records = self._connection.call(
                "read", lambda client: client.retrieve(self._name, [_FLOOR, *ids], with_payload=True)
            )
        except Refused as error:
            if error.kind is not Kind.MISSING:
                raise
            return {}, 0
        found = {_id(record): int((record.payload or {}).get(_SEQ, 0)) for record in records}
        floor = found.pop(_FLOOR, 0)
        return found, floor

    def forget(self, below: int) -> None:
        """Drops those with a lower seq."""
        old = models.FilterSelector(filter=_older_than(below))
        self._connection.call("write to", lambda client: client.delete(self._name, old, wait=True))

    def _index(self, client: QdrantClient) -> object:
        return client.create_payload_index(self._name, _SEQ, models.PayloadSchemaType.INTEGER, wait=True)

    def _write(self, todo: Sequence[models.UpsertOperation]) -> None:
        self._connection.call("write to", lambda client: client.batch_update_points(self._name, todo, wait=True))


def _put(seqs: Sequence[tuple[PointId, int]], below: int) -> models.UpsertOperation:
    points: list[Any] = [models.PointStruct(id=point_id, vector={}, payload={_SEQ: seq}) for point_id, seq in seqs]
    return models.UpsertOperation(upsert=models.PointsList(points=points, update_filter=_older_than(below)))


def _older_than(seq: int) -> models.Filter:
    return models.Filter(must=[models.FieldCondition(key=_SEQ, range=models.Range(lt=seq))])


def _id(record: models.Record) -> PointId:
    return record.id if isinstance(record.id, int) else str(record.id)
