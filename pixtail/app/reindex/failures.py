"""The pictures that could not be had, as `reindex` reports them: `backfill --ids-file` takes that file."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from pixtail.bus.dead_letters import DeadLetter, DeadLetters
from pixtail.bus.topics import Topics
from pixtail.core.changes import Change, Malformed, decode
from pixtail.core.points import PointId, point_id
from pixtail.core.ports import VectorStore
from pixtail.core.settings import Settings, Table


def failures(settings: Settings, store: VectorStore) -> list[dict[str, Any]]:
    """The rows that have a dead letter now, and hence no point in the store. Raises `BusUnreachable`, `StoreUnreachable`."""
    with closing(DeadLetters(settings.kafka, Topics(settings.kafka.prefix, settings.source))) as letters:
        letters.open()
        found = dict(filter(None, (_failure(settings.table, letter) for letter in letters.letters.values())))
    there = {point.id for point in store.get(list(found))}
    return [failure for row, failure in found.items() if row not in there]


def _failure(table: Table, letter: DeadLetter) -> tuple[PointId, dict[str, Any]] | None:
    entry = decode(letter.key, letter.value, (), 0)
    if isinstance(entry, Malformed):
        return None
    values = list(entry.key.values())
    path = (entry.after or {}).get(table.picture) if isinstance(entry, Change) else None
    return point_id(table.name, entry.key), {
        "id": values[0] if len(values) == 1 else values,
        "file": path.rpartition("/")[2] if isinstance(path, str) else None,
        "path": path,
        "reason": letter.reason.value,
        "message": letter.message,
    }
