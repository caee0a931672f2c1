"""Which store the settings mean."""

from __future__ import annotations

from pixtail.core.metrics import Metrics
from pixtail.core.ports import Index, VectorStore
from pixtail.core.settings import Qdrant, Settings
from sink.measured import MeasuredStore

# Each adapter brings its vendor's library, which takes its time to import: only the one that is used.


def open_store(settings: Settings, *, metrics: Metrics | None = None, api_address: str | None = None) -> VectorStore:
    """The collection that is searched now: in the Qdrant server at `qdrant.url`, else in the embedded store in `qdrant.path`. Connects and
    opens nothing yet.

    `api_address` is the HTTP address of this process, if it serves one: whoever finds the embedded store open is told to ask there.
    Raises `SettingError` if `qdrant.url` is no address.
    """
    store = open_index(settings, api_address=api_address).store("")
    return store if metrics is None else MeasuredStore(store, metrics)


def open_index(settings: Settings, *, api_address: str | None = None) -> Index:
    """As `open_store`, with all the collections."""
    qdrant = _with_lookups(settings)
    if qdrant.url:
        from sink.qdrant_connection import server
        from sink.qdrant_index import QdrantIndex

        return QdrantIndex(server(qdrant), qdrant.collection, qdrant)
    from sink.edge_index import EdgeIndex

    return EdgeIndex(
        qdrant.path, qdrant.collection, api_address=api_address, datatype=qdrant.datatype, indexes=qdrant.indexes
    )


def _with_lookups(settings: Settings) -> Qdrant:
    """A renamed brand is a write by filter: without an index it would read every point."""
    columns = {settings.table.point_name(column): "auto" for column in settings.table.lookup_columns}
    return settings.qdrant.model_copy(update={"indexes": {**columns, **settings.qdrant.indexes}})
