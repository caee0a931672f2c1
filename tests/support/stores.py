"""Every `VectorStore` there is, each with the means to act as another program that writes to it."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import httpx
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse
from qdrant_edge import Point, UpdateOperation

from pixtail.core.points import PointId, Write
from pixtail.core.ports import VectorStore
from pixtail.core.settings import Qdrant
from sink.edge import EdgeStore
from sink.memory import MemoryStore, _Point
from sink.qdrant import DEFAULTS, QdrantStore
from sink.qdrant_connection import Connection, server
from tests.support.points import DIMENSION
from tests.support.qdrant_grpc import GrpcServer

FINGERPRINT = "f00d"


H = TypeVar("H", bound="Harness")


class Harness(Protocol):
    """A store under test and what surrounds it."""

    store: VectorStore

    def write_foreign(self, point_id: PointId, vector: Any, payload: Mapping[str, Any]) -> None:
        """Writes a point as another program does: unconditionally, whatever is in its payload."""

    def another(self) -> VectorStore:
        """A second store on the same data, as another thread or process would open it."""

    def close(self) -> None: ...


class MemoryHarness:
    def __init__(self) -> None:
        self.store = MemoryStore()

    def write_foreign(self, point_id: PointId, vector: Any, payload: Mapping[str, Any]) -> None:
        self.store._points[point_id] = _Point(dict(payload), vector)

    def another(self) -> VectorStore:
        return self.store  # one object for all threads, as in production

    def close(self) -> None:
        self.store.close()


class EdgeHarness:
    def __init__(self, path: Path) -> None:
        self.store = EdgeStore(path, "images")

    def write_foreign(self, point_id: PointId, vector: Any, payload: Mapping[str, Any]) -> None:
        shard = self.store._require().shard
        shard.update(UpdateOperation.upsert_points([Point(point_id, vector.tolist(), dict(payload))]))

    def another(self) -> VectorStore:
        return self.store  # one object for all threads, as in production

    def close(self) -> None:
        self.store.close()


class QdrantHarness:
    """A `QdrantStore`; `client` is the other program."""

    def __init__(self, connection: Connection, client: Any, settings: Qdrant = DEFAULTS) -> None:
        self.alias = f"test-{secrets.token_hex(6)}"
        self.store = QdrantStore(connection, self.alias, settings)
        self.settings = settings
        self.connection = connection
        self.client = client
        self.closing: Callable[[], None] = lambda: None

    def write_foreign(self, point_id: PointId, vector: Any, payload: Mapping[str, Any]) -> None:
        point = models.PointStruct(id=point_id, vector=vector.tolist(), payload=dict(payload))
        self.client.upsert(self.alias, [point], wait=True)

    def another(self) -> VectorStore:
        return QdrantStore(self.connection, self.alias, self.settings)

    def close(self) -> None:
        for collection in self.client.get_collections().collections:
            if collection.name.startswith(self.alias):
                self.client.delete_collection(collection.name)
        self.store.close()
        self.closing()


class Serialised:
    """qdrant-client's local mode as a server would be: one request at a time, and 404 for a collection that is not there. It keeps
    what local mode takes no notice of: payload indexes, the optimizers' threshold, and the arguments that a collection was made with."""

    def __init__(self) -> None:
        self._client = QdrantClient(":memory:")
        self._lock = threading.RLock()
        self.indexes: dict[str, dict[str, str]] = {}
        self.thresholds_kb: dict[str, int] = {}
        self.made_with: dict[str, dict[str, Any]] = {}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def one_at_a_time(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                if args and isinstance(args[0], str) and name != "create_collection":
                    self._require(args[0])
                return method(*args, **kwargs)

        return one_at_a_time

    def create_collection(self, name: str, vectors_config: Any, **chosen: Any) -> Any:
        with self._lock:
            self.made_with[name] = {"vectors_config": vectors_config, **chosen}
            return self._client.create_collection(name, vectors_config, metadata=chosen.get("metadata"))

    def create_payload_index(self, name: str, path: str, kind: Any, wait: bool = True) -> None:
        self._require(name)
        self.indexes.setdefault(self._resolved(name), {})[path] = str(kind)

    def update_collection(self, name: str, optimizers_config: models.OptimizersConfigDiff) -> None:
        self._require(name)
        self.thresholds_kb[self._resolved(name)] = optimizers_config.indexing_threshold or 0

    def get_collection(self, name: str) -> models.CollectionInfo:
        self._require(name)
        info, name = self._client.get_collection(name), self._resolved(name)
        for path, kind in self.indexes.get(name, {}).items():
            info.payload_schema[path] = models.PayloadIndexInfo(data_type=models.PayloadSchemaType(kind), points=0)
        threshold_kb = self.thresholds_kb.get(name, info.config.optimizer_config.indexing_threshold)
        info.config.optimizer_config.indexing_threshold = threshold_kb
        return info

    def _resolved(self, name: str) -> str:
        aliases = {alias.alias_name: alias.collection_name for alias in self._client.get_aliases().aliases}
        return aliases.get(name, name)

    def _require(self, name: str) -> None:
        names = {collection.name for collection in self._client.get_collections().collections}
        names |= {alias.alias_name for alias in self._client.get_aliases().aliases}
        if name not in names:
            raise UnexpectedResponse(404, "Not Found", b'{"status":{"error":"no such collection"}}', httpx.Headers())


def local_qdrant(settings: Qdrant = DEFAULTS) -> QdrantHarness:
    client: Any = Serialised()
    return QdrantHarness(Connection("Qdrant in memory", lambda: client), client, settings)


def local_qdrant_by_grpc() -> QdrantHarness:
    """The same engine, reached as a server is: through a socket, in gRPC's own format."""
    client: Any = Serialised()
    grpc_server = GrpcServer(client)
    harness = QdrantHarness(server(Qdrant(url=grpc_server.url)), client)
    harness.closing = grpc_server.close
    return harness


def real_qdrant(url: str, api_key: str | None, *, grpc: bool) -> QdrantHarness:
    settings = Qdrant.model_validate({"url": url, "api_key": api_key, "grpc": grpc})
    return QdrantHarness(server(settings), QdrantClient(url=url, api_key=api_key))


def prepared(harness: H) -> H:
    harness.store.prepare(DIMENSION, FINGERPRINT)
    return harness


def ids_of(writes: list[Write]) -> list[PointId]:
    return list(dict.fromkeys(write.id for write in writes if hasattr(write, "id")))
