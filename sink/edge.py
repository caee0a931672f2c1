"""The embedded store: one shard of qdrant-edge in a folder, shared by the threads of one process.

Durable means: an update stands in the shard's write-ahead log, and that log is on the disk (fsync), when `apply` returns; `load`
replays it. The shard's own `flush` syncs every segment file, which takes four times as long, so it runs only now and then, in the
background, to keep the log short. (qdrant-edge-py 0.9.0: `update` writes the log through a memory map and never syncs it; seen with
strace. `update`, `flush` and `optimize` hold the interpreter, `search` does not.)
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from qdrant_edge import CountRequest, EdgeShard, Query, ScrollRequest, SearchRequest

from pixtail.core.errors import PixtailError, StoreUnreachable
from pixtail.core.points import SYNC, Delete, Hit, PointId, StoredPoint, Sync, Truncate, Version, Write
from pixtail.core.ports import NOTHING, Applied
from sink.batches import Naming, PointWrite, groups, refused, versions
from sink.collection import collection_name, generation_of, missing, require_dimension, require_model
from sink.edge_files import (
    MADE_BY,
    OpenerLock,
    Pointer,
    appearing,
    readable_errors,
    require_space,
    sync_folder,
    sync_tree,
    tombstones_file,
)
from sink.edge_ledger import Ledger
from sink.edge_requests import id_of, index, naming, operations, search_filter, shard_config, truncation
from sink.edge_snapshot import pack
from sink.indexes import told_types, typed_paths, untyped_columns
from sink.points import check_vectors, conditions, path_of, stored_point
from sink.scanning import PAGE, Page, pages

if TYPE_CHECKING:
    from pixtail.core.points import Vector

WRITES_PER_FLUSH = 4096
MIN_FREE_BYTES = 128 << 20  # the shard grows in files of 32 MiB

log = structlog.get_logger(__name__)


class EdgeStore:
    """A `VectorStore` in the folder `path`. Thread-safe; one object in one process at a time, others get `StoreBusy`.

    It is the given generation of `alias`; without one, the collection that the alias names at the first use. Several generations may be
    open at once under one `lock`. `api_address` is where this process can be asked instead; the second opener is told. `datatype` is that
    of a new collection.
    """

    def __init__(
        self,
        path: Path,
        alias: str,
        generation: str = "",
        *,
        lock: OpenerLock | None = None,
        api_address: str | None = None,
        datatype: str = "float32",
        indexes: Mapping[str, str] = NOTHING,
        min_free_bytes: int = MIN_FREE_BYTES,
    ) -> None:
        self._path = path
        self._alias = alias
        self._generation = generation
        self._place = f"the embedded store in {path}"
        self._datatype = datatype
        self._indexes = indexes
        self._untyped: frozenset[str] = frozenset()  # columns whose index waits for a first value
        self._min_free_bytes = min_free_bytes
        self._lock = lock or OpenerLock(path / f"{alias}.lock", api_address)
        self._pointer = Pointer(path, alias)
        self._opening = threading.RLock()
        self._writing = threading.Lock()
        self._collection: _Collection | None = None

    def prepare(self, dimension: int, fingerprint: str, made_by: Mapping[str, str] = NOTHING) -> None:
        with self._opening:
            self._lock.acquire()
            name = collection_name(self._alias, self._generation or fingerprint)
            if self._folder() is None:
                require_space(self._path, self._min_free_bytes)
                self._create(name, dimension, made_by)
            if self._pointer.read() is None:
                self._pointer.write(name)
            collection = self._require()
            require_dimension(collection.dimension, dimension, self._alias, self._place)
            require_model(generation_of(self._alias, collection.folder.name), fingerprint, self._alias, self._place)
            self._index_typed(collection)
            with self._translated("vacuum"), self._writing:
                collection.shard.optimize()  # at the start only: it holds the interpreter while it copies

    def check(self) -> str:
        with self._opening:
            self._lock.acquire()
            require_space(self._path, self._min_free_bytes)
            collection = self._open()
        kind = f"{self._place} (qdrant-edge {version('qdrant-edge-py')})"
        if collection is None:
            return f"{kind}, no collection {self._alias} yet"
        with self._translated("write to"), self._writing:
            collection.shard.flush()
        return f"{kind}, {self.count()} points"

    def dimension(self) -> int | None:
        collection = self._open()
        return None if collection is None else collection.dimension

    def versions(self, ids: Collection[PointId]) -> Mapping[PointId, Version]:
        collection = self._open()
        return {} if collection is None else self._versions(collection, ids, self._syncs(collection, ids))

    def apply(self, writes: Sequence[Write]) -> Applied:
        collection = self._require()
        check_vectors(writes, collection.dimension, self._alias, self._place)
        require_space(self._path, self._min_free_bytes)
        with self._writing:
            refusals = [self._apply(collection, group) for group in groups(writes)]
            with self._translated("write to"):
                collection.make_durable(len(writes))
        return Applied(len(writes) - sum(map(len, refusals)), frozenset().union(*refusals))

    def begin_bulk(self) -> None:
        """Nothing is built beside the points."""

    def end_bulk(self) -> bool:
        return True

    def snapshot(self, file: Path) -> int:
        collection = self._require()
        with self._writing, self._translated("copy"):
            collection.flush()
            points = self.count()
            with tempfile.TemporaryDirectory() as folder:
                tombstones = Path(folder) / "tombstones"
                collection.ledger.copy_to(tombstones)
                pack(file, self._alias, points, collection.folder, tombstones)
        return points

    def forget(self, below: int) -> None:
        collection = self._require()
        with self._writing, self._translated("write to"):
            collection.ledger.forget(below)

    def get(self, ids: Sequence[PointId], *, with_vectors: bool = False) -> list[StoredPoint]:
        collection = self._open()
        if collection is None:
            return []
        found = {point.id: point for point in self._read(collection, ids, True, with_vectors)}
        return [found[point_id] for point_id in ids if point_id in found]

    def scan(self, *, after: PointId | None = None, with_vectors: bool = False) -> Iterator[StoredPoint]:
        collection = self._open()
        if collection is None:
            return iter(())
        return pages(lambda start: self._page(collection, start, with_vectors), after)

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
        collection = self._open()
        if collection is None or limit < 1:
            return []
        require_dimension(collection.dimension, len(vector), self._alias, self._place)
        query = Query.Nearest([float(value) for value in vector])
        request = SearchRequest(
            query, limit, offset, filter=wanted, score_threshold=min_score, with_payload=True, with_vector=False
        )
        with self._translated("search"):
            found = collection.shard.search(request)
        return [Hit(stored_point(id_of(hit), hit.payload), hit.score) for hit in found]

    def count(self) -> int:
        collection = self._open()
        if collection is None:
            return 0
        with self._translated("count"):
            return int(collection.shard.count(CountRequest(exact=True)))

    def close(self) -> None:
        self.shut()
        self._lock.release()

    def shut(self) -> None:
        """As `close`, but for the lock, which others may share."""
        with self._opening, self._writing:
            if self._collection is not None:
                with self._translated("close"):
                    self._collection.close()
                self._collection = None

    def _open(self) -> _Collection | None:
        """The collection, opened at the first use; None if there is none yet."""
        with self._opening:
            if self._collection is None and (folder := self._folder()) is not None:
                self._lock.acquire()
                self._collection = self._load(folder)
                log.info("embedded store opened", folder=str(folder), dimension=self._collection.dimension)
            return self._collection

    def _require(self) -> _Collection:
        collection = self._open()
        if collection is None:
            raise missing(self._alias, self._place)
        return collection

    def _folder(self) -> Path | None:
        if not self._generation:
            return self._pointer.read()
        folder = self._path / collection_name(self._alias, self._generation)
        return folder if folder.exists() else None

    def _create(self, name: str, dimension: int, made_by: Mapping[str, str]) -> None:
        folder = self._path / name
        if not folder.exists():  # else a crash came between the folder and the pointer
            with appearing(folder) as building, self._translated("create"):
                EdgeShard.create(str(building), shard_config(dimension, self._datatype)).close()
                (building / MADE_BY).write_text(json.dumps(dict(made_by)))

    def _load(self, folder: Path) -> _Collection:
        with readable_errors(self._path):
            config = json.loads((folder / "edge_config.json").read_text())
        with self._translated("open"):
            vectors = config["vectors"][""]
            dimension = int(vectors["size"])
            ledger = Ledger(tombstones_file(folder))
            ledger.open()
            shard = EdgeShard.load(str(folder), shard_config(dimension, vectors.get("datatype")))
            return _Collection(shard, folder, dimension, ledger)

    def _syncs(self, collection: _Collection, ids: Collection[PointId]) -> dict[PointId, Sync | None]:
        return {point.id: point.sync for point in self._read(collection, ids, [SYNC])}

    def _versions(
        self, collection: _Collection, ids: Collection[PointId], points: Mapping[PointId, Sync | None]
    ) -> dict[PointId, Version]:
        with self._translated("read"):
            return versions(ids, points, *collection.ledger.find(ids))

    def _read(
        self, collection: _Collection, ids: Collection[PointId], columns: bool | list[str], with_vectors: bool = False
    ) -> Iterator[StoredPoint]:
        with self._translated("read"):
            records: list[Any] = collection.shard.retrieve(list(ids), columns, with_vectors) if ids else []
        return (stored_point(id_of(record), record.payload, record.vector) for record in records)

    def _page(self, collection: _Collection, start: Any, with_vectors: bool) -> Page:
        request = ScrollRequest(offset=start, limit=PAGE, with_payload=True, with_vector=with_vectors)
        with self._translated("read"):
            found: tuple[list[Any], Any] = collection.shard.scroll(request)
        records, following = found
        return [stored_point(id_of(record), record.payload, record.vector) for record in records], following

    def _apply(self, collection: _Collection, group: Truncate | Naming | list[PointWrite]) -> frozenset[PointId]:
        """Does the writes that are not refused; returns the ids of those that are. What is stored cannot change meanwhile: there is
        one opener, and it holds `_writing`. After a crash between a tombstone and its delete the delete comes again."""
        if isinstance(group, Truncate):
            with self._translated("write to"):
                collection.ledger.put_floor(group.seq)
            self._update(collection, [truncation(group.seq)])
            return frozenset()
        if isinstance(group, Naming):
            self._update(collection, map(naming, group))
            return frozenset()
        ids = [write.id for write in group]
        present = self._syncs(collection, ids)
        stored = self._versions(collection, ids, present)
        accepted = [write for write in group if not refused(write, stored)]
        if deletes := [write for write in accepted if isinstance(write, Delete)]:
            with self._translated("write to"):
                collection.ledger.put(deletes)
        self._index_untyped(collection, accepted)
        self._update(collection, operations(accepted, present))
        return frozenset(write.id for write in group) - {write.id for write in accepted}

    def _index_typed(self, collection: _Collection) -> None:
        present = collection.shard.info().payload_schema
        missing_paths = {path: kind for path, kind in typed_paths(self._indexes).items() if path not in present}
        with self._writing:
            self._update(collection, [index(path, kind) for path, kind in missing_paths.items()])
        self._untyped = untyped_columns(self._indexes, present)

    def _index_untyped(self, collection: _Collection, writes: Iterable[PointWrite]) -> None:
        if self._untyped:
            payloads = [write.payload for write in writes if not isinstance(write, Delete)]
            told = told_types(self._untyped, payloads)
            self._update(collection, [index(path_of(column), kind) for column, kind in told.items()])
            self._untyped -= told.keys()

    def _update(self, collection: _Collection, operations: Iterable[Any]) -> None:
        with self._translated("write to"):
            for operation in operations:
                collection.shard.update(operation)

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except PixtailError:
            raise
        except Exception as error:  # qdrant-edge raises nothing more specific
            raise StoreUnreachable(
                f"cannot {doing} {self._place}: {error}",
                "Look at the disk that holds it; what was acknowledged is kept",
            ) from error


class _Collection:
    """An open shard and its tombstones. `make_durable` is for one thread at a time."""

    def __init__(self, shard: EdgeShard, folder: Path, dimension: int, ledger: Ledger) -> None:
        self.shard = shard
        self.folder = folder
        self.dimension = dimension
        self.ledger = ledger
        self._background = ThreadPoolExecutor(1, thread_name_prefix="edge-flush")
        self._flushing: Future[None] | None = None
        self._unflushed = 0

    def make_durable(self, writes: int) -> None:
        """Returns when the last so many writes are on the disk, and flushes in the background now and then. Raises what went wrong with
        the flush before."""
        sync_folder(self.folder / "wal")
        self._unflushed += writes
        if self._unflushed < WRITES_PER_FLUSH or (self._flushing and not self._flushing.done()):
            return
        former, self._flushing = self._flushing, self._background.submit(self._flush)
        self._unflushed = 0
        if former:
            former.result()

    def flush(self) -> None:
        """Returns when everything stands in the segments, and nothing moves any more. Nobody may write meanwhile."""
        self._background.submit(self._flush).result()

    def close(self) -> None:
        """Once the flush that is under way is done."""
        self._background.shutdown()
        self.shard.close()
        self.ledger.close()

    def _flush(self) -> None:
        """The shard's own flush holds the interpreter; most of what it would wait for is written before, while others work."""
        sync_tree(self.folder / "segments")
        self.shard.flush()
