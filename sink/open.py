"""Which store the settings mean."""

from __future__ import annotations

from pixtail.core.metrics import Metrics
from pixtail.core.ports import VectorStore
from pixtail.core.settings import Qdrant, Settings
from sink.measured import MeasuredStore


def open_store(settings: Settings, *, metrics: Metrics | None = None, api_address: str | None = None) -> VectorStore:
    """The Qdrant server at `qdrant.url`, else the embedded store in `qdrant.path`. Connects and opens nothing yet.

    `api_address` is the HTTP address of this process, if it serves one: whoever finds the embedded store open is told to ask there.
    Raises `SettingError` if `qdrant.url` is no address.
    """
    store = _store(settings.qdrant, api_address)
    return store if metrics is None else MeasuredStore(store, metrics)


def _store(settings: Qdrant, api_address: str | None) -> VectorStore:
    # Each adapter brings its vendor's library, which takes its time to import: only the one that is used.
    if settings.url:
        from sink.qdrant import QdrantStore
        from sink.qdrant_connection import server

        return QdrantStore(server(settings), settings.collection)
    from sink.edge import EdgeStore

    return EdgeStore(settings.path, settings.collection, api_address=api_address)
