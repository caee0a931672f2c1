"""Every `VectorStore` there is, each with the means to act as another program that writes to it."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import httpx
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse
from qdrant_edge import Point, UpdateOperation

from pixtail.core.points import PointId, Write
from pixtail.core.ports import VectorStore
from pixtail.core.settings import Qdrant
from sink.edge import EdgeStore
from sink.memory import MemoryStore, _Point
from sink.qdrant import QdrantStore
from sink.qdrant_connection import Connection, server
from tests.support.points import DIMENSION
from tests.support.qdrant_grpc import GrpcServer

FINGERPRINT = "f00d"


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

    def __init__(self, connection: Connection, client: Any) -> None:
        self.alias = f"test-{secrets.token_hex(6)}"
        self.store = QdrantStore(connection, self.alias)
        self.connection = connection
        self.client = client
        self.closing: Callable[[], None] = lambda: None

    def write_foreign(self, point_id: PointId, vector: Any, payload: Mapping[str, Any]) -> None:
        point = models.PointStruct(id=point_id, vector=vector.tolist(), payload=dict(payload))
        self.client.upsert(self.alias, [point], wait=True)

    def another(self) -> VectorStore:
        return QdrantStore(self.connection, self.alias)

    def close(self) -> None:
        for collection in self.client.get_collections().collections:
            if collection.name.startswith(self.alias):
                self.client.delete_collection(collection.name)
        self.store.close()
        self.closing()


class Serialised:
    """qdrant-client's local mode as a server would be: one request at a time, and 404 for a collection that is not there."""

    def __init__(self) -> None:
        self._client = QdrantClient(":memory:")
        self._lock = threading.RLock()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def one_at_a_time(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                if name == "create_payload_index":
                    return None  # local mode has none and warns about it
                if args and isinstance(args[0], str) and not name.startswith("create"):
                    self._require(args[0])
                return method(*args, **kwargs)

        return one_at_a_time

    def _require(self, name: str) -> None:
        names = {collection.name for collection in self._client.get_collections().collections}
        names |= {alias.alias_name for alias in self._client.get_aliases().aliases}
        if name not in names:
            raise UnexpectedResponse(404, "Not Found", b'{"status":{"error":"no such collection"}}', httpx.Headers())


def local_qdrant() -> QdrantHarness:
    client: Any = Serialised()
    return QdrantHarness(Connection("Qdrant in memory", lambda: client), client)


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


def prepared(harness: Harness) -> Harness:
    harness.store.prepare(DIMENSION, FINGERPRINT)
    return harness


def ids_of(writes: list[Write]) -> list[PointId]:
    return list(dict.fromkeys(write.id for write in writes if hasattr(write, "id")))
