"""The index in a Qdrant server.

Every write carries its condition to the server, so that any number of workers may write at once. What a condition refused is not part of
Qdrant's answer: it is read back.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from qdrant_client import QdrantClient, models

from pixtail.core.errors import SettingError
from pixtail.core.points import SYNC, Delete, Gone, Hit, PointId, StoredPoint, Sync, Truncate, Version, Write
from pixtail.core.ports import Applied
from sink.batches import PointWrite, groups, overtaken, refused, undone, versions
from sink.collection import collection_name, missing, require_dimension
from sink.points import SEQ_PATH, check_vectors, conditions, stored_point
from sink.qdrant_connection import Connection
from sink.qdrant_ledger import Ledger
from sink.qdrant_requests import Operation, id_of, operation, operations, search_filter, truncation
from sink.scanning import PAGE, Page, pages

if TYPE_CHECKING:
    from pixtail.core.points import Vector

UNIT_DISTANCES = (models.Distance.COSINE, models.Distance.DOT)  # of unit vectors the two are the same

T = TypeVar("T")
log = structlog.get_logger(__name__)


class QdrantStore:
    """A `VectorStore` behind the alias (or plain collection) `alias` of a Qdrant server, 1.16 or newer. Thread-safe."""

    def __init__(self, connection: Connection, alias: str) -> None:
        self._connection = connection
        self._alias = alias
        self._ledger = Ledger(connection, alias)
        self._known_dimension: int | None = None

    @property
    def _place(self) -> str:
        return self._connection.place

    def prepare(self, dimension: int, fingerprint: str) -> None:
        self._ledger.prepare()
        info = self._describe(self._alias)
        if info is None:
            info = self._create(collection_name(self._alias, fingerprint), dimension)
        self._require_fit(info, dimension)
        if SEQ_PATH not in info.payload_schema:
            self._connection.call("index", self._index_seq)

    def check(self) -> str:
        version = self._connection.version()
        place = f"{self._place} (version {version})"
        if self._describe(self._alias) is None:
            return f"{place}, no collection {self._alias} yet"
        nobody = models.PointIdsList(points=[str(uuid.uuid4())])
        self._connection.call("write to", lambda client: client.delete(self._alias, nobody, wait=True))
        return f"{place}, collection {self._alias}, {self.count()} points"

    def dimension(self) -> int | None:
        info = self._describe(self._alias)
        return None if info is None else self._vectors(info).size

    def versions(self, ids: Collection[PointId]) -> Mapping[PointId, Version]:
        return self._look(ids) if ids else {}

    def apply(self, writes: Sequence[Write]) -> Applied:
        check_vectors(writes, self._require_dimension(), self._alias, self._place)
        refusals = [self._apply(group) for group in groups(writes)]
        return Applied(len(writes) - sum(map(len, refusals)), frozenset().union(*refusals))

    def forget(self, below: int) -> None:
        self._ledger.forget(below)

    def get(self, ids: Sequence[PointId], *, with_vectors: bool = False) -> list[StoredPoint]:
        found = {id_of(record): record for record in self._retrieve(ids, True, with_vectors)}
        return [_stored(found[point_id]) for point_id in ids if point_id in found]

    def scan(self, *, after: PointId | None = None, with_vectors: bool = False) -> Iterator[StoredPoint]:
        return pages(lambda start: self._page(start, with_vectors), after)

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
        wanted = search_filter(conditions(where), exclude)
        dimension = self._dimension()
        if dimension is None or limit < 1:
            return []
        require_dimension(dimension, len(vector), self._alias, self._place)
        query = [float(value) for value in vector]

        def ask(client: QdrantClient) -> list[models.ScoredPoint]:
            answer = client.query_points(
                self._alias,
                query,
                query_filter=wanted,
                limit=limit,
                offset=offset,
                score_threshold=min_score,
                with_payload=True,
            )
            return answer.points

        hits: list[models.ScoredPoint] = self._connection.read("search", ask, otherwise=[])
        return [Hit(stored_point(id_of(hit), hit.payload), hit.score) for hit in hits]

    def count(self) -> int:
        return self._connection.read("count", lambda client: client.count(self._alias, exact=True).count, otherwise=0)

    def close(self) -> None:
        self._connection.close()

    def _apply(self, group: Truncate | list[PointWrite]) -> frozenset[PointId]:
        """Does one group of writes; returns the ids of those that were refused or have been overtaken since."""
        if isinstance(group, Truncate):
            self._ledger.put_floor(group.seq)
            self._send([truncation(group.seq)])
            return frozenset()
        stored = self._look([write.id for write in group])
        stale = {write.id for write in group if refused(write, stored)}
        accepted = [write for write in group if write.id not in stale]
        if not accepted:
            return frozenset(stale)
        self._ledger.put([write for write in accepted if isinstance(write, Delete)])
        self._send(operations(accepted, stored))
        return frozenset(stale | self._confirm(accepted))

    def _confirm(self, writes: Sequence[PointWrite]) -> set[PointId]:
        """Looks what became of the writes. Where another worker's older version slipped in after our look, and the shared condition hence
        left it, the write is done again under its own condition, which nothing older can fail."""
        ids = [write.id for write in writes]
        stored = self._look(ids)
        again = [write for write in writes if undone(write, stored)]
        if again:
            self._send([operation(write) for write in again])
            stored = self._look(ids)
        return {write.id for write in writes if overtaken(write, stored)}

    def _look(self, ids: Collection[PointId]) -> Mapping[PointId, Version]:
        """What is known of the rows. A point that a newer tombstone outdates is removed: it was written by somebody who was late, and
        did not live to see the tombstone himself."""
        points = {id_of(record): Sync.from_payload(record.payload) for record in self._retrieve(ids, [SYNC])}
        known = versions(ids, points, *self._ledger.find(ids))
        late = [Delete(i, v.seq - 1) for i, v in known.items() if isinstance(v, Gone) and points.get(i) is not None]
        if late:
            self._send([operation(delete) for delete in late])
        return known

    def _send(self, todo: Sequence[Operation]) -> None:
        self._connection.call("write to", lambda client: client.batch_update_points(self._alias, todo, wait=True))

    def _retrieve(
        self, ids: Collection[PointId], columns: bool | list[str], with_vectors: bool = False
    ) -> list[models.Record]:
        if not ids:
            return []
        return self._connection.read(
            "read",
            lambda client: client.retrieve(self._alias, list(ids), with_payload=columns, with_vectors=with_vectors),
            otherwise=[],
        )

    def _page(self, start: Any, with_vectors: bool) -> Page:
        def ask(client: QdrantClient) -> tuple[list[models.Record], Any]:
            return client.scroll(self._alias, limit=PAGE, offset=start, with_payload=True, with_vectors=with_vectors)

        nothing: tuple[list[models.Record], Any] = [], None
        records, following = self._connection.read("read", ask, otherwise=nothing)
        return [_stored(record) for record in records], following

    def _describe(self, name: str) -> models.CollectionInfo | None:
        return self._connection.read("look at", lambda client: client.get_collection(name), otherwise=None)

    def _dimension(self) -> int | None:
        """Asked once: the size of a collection's vectors never changes."""
        if self._known_dimension is None:
            self._known_dimension = self.dimension()
        return self._known_dimension

    def _require_dimension(self) -> int:
        dimension = self._dimension()
        if dimension is None:
            raise missing(self._alias, self._place)
        return dimension

    def _create(self, name: str, dimension: int) -> models.CollectionInfo:
        """The collection `name` with the alias pointing to it. Several workers may do this at once."""
        info = self._describe(name)
        if info is None:
            vectors = models.VectorParams(size=dimension, distance=models.Distance.COSINE)
            self._connection.make("create", lambda client: client.create_collection(name, vectors))
            info = self._describe(name)
        if info is None:
            raise missing(name, self._place)
        self._require_fit(info, dimension)  # before the alias is set: a collection that does not fit stays out of sight
        alias = models.CreateAlias(collection_name=name, alias_name=self._alias)
        action = models.CreateAliasOperation(create_alias=alias)
        self._connection.make("name", lambda client: client.update_collection_aliases([action]))
        log.info("collection created", place=self._place, alias=self._alias, collection=name, dimension=dimension)
        return info

    def _index_seq(self, client: QdrantClient) -> object:
        return client.create_payload_index(self._alias, SEQ_PATH, models.PayloadSchemaType.INTEGER, wait=True)

    def _require_fit(self, info: models.CollectionInfo, dimension: int) -> None:
        require_dimension(self._vectors(info).size, dimension, self._alias, self._place)
        self._known_dimension = dimension

    def _vectors(self, info: models.CollectionInfo) -> models.VectorParams:
        """The parameters of the one unnamed vector. Raises `SettingError` if the collection is of another kind."""
        vectors = info.config.params.vectors
        if isinstance(vectors, models.VectorParams) and vectors.distance in UNIT_DISTANCES:
            return vectors
        raise SettingError(
            f"collection {self._alias} in {self._place} has named vectors or compares by another distance than cosine",
            "Set qdrant.collection to a new name",
        )


def _stored(record: models.Record) -> StoredPoint:
    vector: Any = record.vector  # one unnamed vector: a plain list
    return stored_point(id_of(record), record.payload, vector)
