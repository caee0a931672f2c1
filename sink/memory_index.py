"""The collections behind an alias, in memory: for tests."""

from __future__ import annotations

from collections.abc import Mapping

from sink.collection import require_not_current
from sink.memory import MemoryStore


class MemoryIndex:
    """An `Index` whose collections are gone with it. The first store that is asked for is the current one."""

    def __init__(self, alias: str = "images") -> None:
        self._alias = alias
        self._stores: dict[str, MemoryStore] = {}
        self._current: str | None = None
        self._previous: str | None = None

    def current(self) -> str | None:
        return self._current if self._prepared(self._current) else None

    def previous(self) -> str | None:
        return self._previous

    def generations(self) -> list[str]:
        return sorted(filter(self._prepared, self._stores))

    def made_by(self, generation: str) -> Mapping[str, str]:
        return self._stores[generation].made_by if generation in self._stores else {}

    def store(self, generation: str) -> MemoryStore:
        if self._current is None:
            self._current = generation
        return self._stores.setdefault(generation, MemoryStore(self._alias, generation))

    def swap(self, generation: str) -> None:
        self._current, self._previous = generation, self._current

    def drop(self, generation: str) -> None:
        require_not_current(generation, self._current, self._alias)
        self._stores.pop(generation, None)
        self._previous = None if self._previous == generation else self._previous

    def close(self) -> None:
        """Nothing to give back."""

    def _prepared(self, generation: str | None) -> bool:
        return generation in self._stores and self._stores[generation].dimension() is not None
