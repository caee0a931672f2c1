"""The collections behind an alias of a Qdrant server."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from pixtail.core.errors import SettingError
from pixtail.core.ports import VectorStore
from pixtail.core.settings import Qdrant
from sink.collection import collection_name, generation_of, require_not_current, tombstones_of
from sink.qdrant import DEFAULTS, QdrantStore
from sink.qdrant_aliases import Aliases
from sink.qdrant_connection import Connection


class QdrantIndex:
    """An `Index` behind `alias`. Thread-safe."""

    def __init__(self, connection: Connection, alias: str, settings: Qdrant = DEFAULTS) -> None:
        self._connection = connection
        self._alias = alias
        self._settings = settings
        self._aliases = Aliases(connection, alias)
        self._stores: dict[str, VectorStore] = {}
        self._lock = threading.Lock()

    def current(self) -> str | None:
        return self._generation(self._aliases.collection())

    def previous(self) -> str | None:
        return self._generation(self._aliases.previous())

    def generations(self) -> list[str]:
        found = (generation_of(self._alias, name) for name in self._aliases.collections())
        return sorted(generation for generation in found if generation is not None)

    def made_by(self, generation: str) -> Mapping[str, str]:
        name = collection_name(self._alias, generation)
        info = self._connection.read("look at", lambda client: client.get_collection(name), otherwise=None)
        return dict(info.config.metadata or {}) if info is not None else {}

    def store(self, generation: str) -> VectorStore:
        with self._lock:
            if generation not in self._stores:
                self._stores[generation] = QdrantStore(self._connection, self._alias, self._settings, generation)
            return self._stores[generation]

    def swap(self, generation: str) -> None:
        """Raises `SettingError` where a plain collection has the alias's name, for then there can be no alias."""
        if self._aliases.collection() == self._alias:
            raise SettingError(
                f"{self._alias} in {self._connection.place} is a collection and no alias: it cannot be swapped for another one",
                f"Set qdrant.collection to a new name, which can; or delete the collection {self._alias} first",
            )
        former = self._aliases.previous()
        foreign = former is not None and generation_of(self._alias, former) is None
        self._aliases.move(str(former) if foreign and not generation else collection_name(self._alias, generation))

    def drop(self, generation: str) -> None:
        require_not_current(generation, self.current(), self._alias)
        name = collection_name(self._alias, generation)
        if self._aliases.previous() == name:
            self._aliases.forget_previous()
        self._remove(name)
        self._remove(tombstones_of(name))
        with self._lock:
            self._stores.pop(generation, None)

    def close(self) -> None:
        self._connection.close()

    def _remove(self, collection: str) -> None:
        self._connection.call("remove", lambda client: client.delete_collection(collection))

    def _generation(self, collection: str | None) -> str | None:
        """A collection that somebody else has put behind the alias is "" as well."""
        return None if collection is None else generation_of(self._alias, collection) or ""
