"""Which collection of a Qdrant server an alias names, and which it named before (`<alias>__previous`)."""

from __future__ import annotations

from collections.abc import Sequence

from qdrant_client import models

from sink.qdrant_connection import Connection


class Aliases:
    """Of one alias. Thread-safe; raises as `Connection.call`. A plain collection of the alias's name counts as what it names."""

    def __init__(self, connection: Connection, alias: str) -> None:
        self._connection = connection
        self._alias = alias
        self._former = f"{alias}__previous"

    def collection(self) -> str | None:
        """What the alias names; None if there is neither alias nor collection."""
        named = self._named()
        if self._alias in named:
            return named[self._alias]
        return self._alias if self._alias in self.collections() else None

    def previous(self) -> str | None:
        """What it named before the last `move`."""
        return self._named().get(self._former)

    def collections(self) -> list[str]:
        """Every collection of the server."""
        found = self._connection.call("look at", lambda client: client.get_collections())
        return [collection.name for collection in found.collections]

    def first(self, collection: str) -> None:
        """The alias, which is not there yet, names `collection`. Several workers may do this at once."""
        todo = [_create(self._alias, collection)]
        self._connection.make("name", lambda client: client.update_collection_aliases(todo))

    def move(self, collection: str) -> None:
        """The alias names `collection`, and what it named is the previous one: one operation of the server."""
        named = self._named()
        todo: list[models.AliasOperations] = [_delete(alias) for alias in (self._alias, self._former) if alias in named]
        todo.append(_create(self._alias, collection))
        if self._alias in named:
            todo.append(_create(self._former, named[self._alias]))
        self._update(todo)

    def forget_previous(self) -> None:
        if self._former in self._named():
            self._update([_delete(self._former)])

    def _named(self) -> dict[str, str]:
        found = self._connection.call("look at", lambda client: client.get_aliases())
        return {alias.alias_name: alias.collection_name for alias in found.aliases}

    def _update(self, todo: Sequence[models.AliasOperations]) -> None:
        self._connection.call("name", lambda client: client.update_collection_aliases(todo))


def _create(alias: str, collection: str) -> models.CreateAliasOperation:
    return models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=collection, alias_name=alias))


def _delete(alias: str) -> models.DeleteAliasOperation:
    return models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))
