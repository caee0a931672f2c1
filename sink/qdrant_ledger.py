"""The tombstones of a collection in a Qdrant server: beside it, another one without vectors, `<collection>__tombstones`.

How it closes the hole that conditional writes leave: a delete puts its tombstone first and removes the point then; an upsert looks for
tombstones when it is done, and removes the point if there is a newer one. In whichever order the four steps come, the point is gone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from qdrant_client import QdrantClient, models

from pixtail.core.changes import TRUNCATE_KEY
from pixtail.core.points import Delete, PointId, point_id
from sink.collection import tombstones_of
from sink.qdrant_connection import Connection
from sink.qdrant_requests import id_of

_SEQ = "seq"
_FLOOR = point_id("*", TRUNCATE_KEY)
"""The id of the last TRUNCATE: no key makes this one."""


class Ledger:
    """Which version of a row deleted it. Thread-safe; raises as `Connection.call`."""

    def __init__(self, connection: Connection, collection: str) -> None:
        self._connection = connection
        self._name = tombstones_of(collection)

    def prepare(self) -> None:
        """Makes the collection if there is none. Several workers may do this at once."""
        found = self._connection.read("look at", lambda client: client.get_collection(self._name), otherwise=None)
        if found is not None:
            return
        self._connection.make("create", lambda client: client.create_collection(self._name, {}))
        self._connection.call("index", self._index)

    def put(self, deletes: Sequence[Delete]) -> None:
        """A row that has one keeps the newer: each is written under a condition of its own, since two workers may delete one row."""
        if deletes:
            self._write([_put(delete.id, delete.seq) for delete in deletes])

    def put_floor(self, seq: int) -> None:
        """Of every row, by a TRUNCATE."""
        self._write([_put(_FLOOR, seq)])

    def find(self, ids: Collection[PointId]) -> tuple[Mapping[PointId, int], int]:
        """The seqs of those rows that have a tombstone, and that of the last TRUNCATE (0: none)."""
        records: list[models.Record] = self._connection.read(
            "read", lambda client: client.retrieve(self._name, [_FLOOR, *ids], with_payload=True), otherwise=[]
        )
        found = {id_of(record): int((record.payload or {}).get(_SEQ, 0)) for record in records}
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


def _put(row: PointId, seq: int) -> models.UpsertOperation:
    point = models.PointStruct(id=row, vector={}, payload={_SEQ: seq})
    return models.UpsertOperation(upsert=models.PointsList(points=[point], update_filter=_older_than(seq)))


def _older_than(seq: int) -> models.Filter:
    return models.Filter(must=[models.FieldCondition(key=_SEQ, range=models.Range(lt=seq))])
