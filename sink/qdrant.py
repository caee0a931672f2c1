"""The index in a Qdrant server.

Every write carries its condition to the server, so that any number of workers may write at once. What a condition refused is not part of
Qdrant's answer: it is read back.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from qdrant_client import QdrantClient, models

from pixtail.core.errors import SettingError, StoreUnreachable
from pixtail.core.points import SYNC, Delete, Gone, Hit, PointId, StoredPoint, Sync, Truncate, Version, Write
from pixtail.core.ports import NOTHING, Applied
from pixtail.core.settings import Qdrant
from sink.batches import Naming, PointWrite, groups, overtaken, refused, undone, versions
from sink.collection import collection_name, generation_of, missing, no_snapshot, require_dimension, require_model
from sink.indexes import told_types, untyped_columns
from sink.points import check_vectors, conditions, path_of, stored_point
from sink.qdrant_aliases import Aliases
from sink.qdrant_connection import Connection
from sink.qdrant_layout import (
    INDEXING_THRESHOLD_KB,
    missing_indexes,
    new_collection,
    wanted_indexes,
)
from sink.qdrant_ledger import Ledger
from sink.qdrant_requests import (
    Operation,
    id_of,
    in_requests,
    naming,
    operation,
    operations,
    search_filter,
    truncation,
)
from sink.scanning import PAGE, Page, pages

if TYPE_CHECKING:
    from pixtail.core.points import Vector

DEFAULTS = Qdrant()
UNIT_DISTANCES = (models.Distance.COSINE, models.Distance.DOT)  # of unit vectors the two are the same

T = TypeVar("T")
log = structlog.get_logger(__name__)


class QdrantStore:
    """A `VectorStore` in a Qdrant server, 1.16 or newer. Thread-safe.

    It is the given generation of `alias`; without one, the collection that the alias names at the first use, or that has its name.
    """

    def __init__(self, connection: Connection, alias: str, settings: Qdrant = DEFAULTS, generation: str = "") -> None:
        self._connection = connection
        self._alias = alias
        self._settings = settings
        self._aliases = Aliases(connection, alias)
        self._name = collection_name(alias, generation) if generation else None
        self._known_dimension: int | None = None
        self._untyped: frozenset[str] = frozenset()  # columns whose index waits for a first value
        self._threshold_kb = INDEXING_THRESHOLD_KB

    @property
    def _place(self) -> str:
        return self._connection.place

    def prepare(self, dimension: int, fingerprint: str, made_by: Mapping[str, str] = NOTHING) -> None:
        name = self._collection() or collection_name(self._alias, fingerprint)
        info = self._describe(name) or self._create(name, dimension, made_by)
        self._require_fit(info, dimension)
        require_model(generation_of(self._alias, name), fingerprint, self._alias, self._place)
        for path, kind in missing_indexes(wanted_indexes(self._settings), info.payload_schema).items():
            self._index(name, path, kind)
        self._untyped = untyped_columns(self._settings.indexes, info.payload_schema)
        Ledger(self._connection, name).prepare()
        if self._aliases.collection() is None:
            self._aliases.first(name)
        self._name = name

    def check(self) -> str:
        version = self._connection.version()
        place = f"{self._place} (version {version})"
        if self._describe(self._where()) is None:
            return f"{place}, no collection {self._alias} yet"
        nobody = models.PointIdsList(points=[str(uuid.uuid4())])
        self._connection.call("write to", lambda client: client.delete(self._where(), nobody, wait=True))
        return f"{place}, collection {self._alias}, {self.count()} points"

    def dimension(self) -> int | None:
        info = self._describe(self._where())
        return None if info is None else self._vectors(info).size

    def versions(self, ids: Collection[PointId]) -> Mapping[PointId, Version]:
        return self._look(ids) if ids else {}

    def apply(self, writes: Sequence[Write]) -> Applied:
        check_vectors(writes, self._require_dimension(), self._alias, self._place)
        refusals = [self._apply(part) for group in groups(writes) for part in in_requests(group)]
        return Applied(len(writes) - sum(map(len, refusals)), frozenset().union(*refusals))

    def begin_bulk(self) -> None:
        self._threshold_kb = self._bulk_info().config.optimizer_config.indexing_threshold or INDEXING_THRESHOLD_KB
        self._set_threshold(0)

    def end_bulk(self) -> bool:
        info = self._bulk_info()
        threshold_kb = info.config.optimizer_config.indexing_threshold
        asleep = info.status == models.CollectionStatus.GREY  # until somebody changes something
        if threshold_kb == 0 or asleep:
            self._set_threshold(threshold_kb or self._threshold_kb)
            return False
        if isinstance(info.optimizer_status, models.OptimizersStatusOneOf1):
            problem = f"{self._place} cannot build the index of {self._alias}: {info.optimizer_status.error}"
            raise StoreUnreachable(problem, "Look at the server's log; searches find everything meanwhile")
        return info.status == models.CollectionStatus.GREEN

    def snapshot(self, file: Path) -> int:
        raise no_snapshot(self._place)

    def forget(self, below: int) -> None:
        self._ledger().forget(below)

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
                self._where(),
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
        return self._connection.read("count", lambda client: client.count(self._where(), exact=True).count, otherwise=0)

    def close(self) -> None:
        self._connection.close()

    def _apply(self, group: Truncate | Naming | list[PointWrite]) -> frozenset[PointId]:
        """Does one group of writes; returns the ids of those that were refused or have been overtaken since."""
        if isinstance(group, Truncate):
            self._ledger().put_floor(group.seq)
            self._send([truncation(group.seq)])
            return frozenset()
        if isinstance(group, Naming):
            self._send(list(map(naming, group)))
            return frozenset()
        stored = self._look([write.id for write in group])
        stale = {write.id for write in group if refused(write, stored)}
        accepted = [write for write in group if write.id not in stale]
        if not accepted:
            return frozenset(stale)
        self._index_untyped(accepted)
        self._ledger().put([write for write in accepted if isinstance(write, Delete)])
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
        known = versions(ids, points, *self._ledger().find(ids))
        late = [Delete(i, v.seq - 1) for i, v in known.items() if isinstance(v, Gone) and points.get(i) is not None]
        if late:
            self._send([operation(delete) for delete in late])
        return known

    def _send(self, todo: Sequence[Operation]) -> None:
        self._connection.call("write to", lambda client: client.batch_update_points(self._where(), todo, wait=True))

    def _retrieve(
        self, ids: Collection[PointId], columns: bool | list[str], with_vectors: bool = False
    ) -> list[models.Record]:
        if not ids:
            return []
        return self._connection.read(
            "read",
            lambda client: client.retrieve(self._where(), list(ids), with_payload=columns, with_vectors=with_vectors),
            otherwise=[],
        )

    def _page(self, start: Any, with_vectors: bool) -> Page:
        def ask(client: QdrantClient) -> tuple[list[models.Record], Any]:
            return client.scroll(self._where(), limit=PAGE, offset=start, with_payload=True, with_vectors=with_vectors)

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

    def _collection(self) -> str | None:
        """The collection that this store stays with; None while there is none."""
        if self._name is None:
            self._name = self._aliases.collection()
        return self._name

    def _where(self) -> str:
        return self._collection() or self._alias

    def _ledger(self) -> Ledger:
        return Ledger(self._connection, self._where())

    def _create(self, name: str, dimension: int, made_by: Mapping[str, str]) -> models.CollectionInfo:
        """Several workers may do this at once."""
        chosen = new_collection(self._settings, dimension) | {"metadata": dict(made_by) or None}
        self._connection.make("create", lambda client: client.create_collection(name, **chosen))
        info = self._describe(name)
        if info is None:
            raise missing(name, self._place)
        log.info("collection created", place=self._place, collection=name, dimension=dimension)
        return info

    def _bulk_info(self) -> models.CollectionInfo:
        info = self._describe(self._where())
        if info is None:
            raise missing(self._alias, self._place)
        return info

    def _set_threshold(self, kilobytes: int) -> None:
        config = models.OptimizersConfigDiff(indexing_threshold=kilobytes)
        self._connection.call(
            "change", lambda client: client.update_collection(self._where(), optimizers_config=config)
        )

    def _index(self, name: str, path: str, kind: str) -> None:
        """Several workers may do this at once."""
        schema = models.PayloadSchemaType(kind)
        self._connection.call("index", lambda client: client.create_payload_index(name, path, schema, wait=True))
        log.info("payload index made", place=self._place, collection=name, path=path, type=kind)

    def _index_untyped(self, writes: Sequence[PointWrite]) -> None:
        payloads = [write.payload for write in writes if not isinstance(write, Delete)]
        for column, kind in told_types(self._untyped, payloads).items():
            self._index(self._where(), path_of(column), kind)
            self._untyped -= {column}

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
