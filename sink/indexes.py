"""Which payload columns have an index, and of what type. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pixtail.core.points import Payload
from sink.points import path_of, portable


def typed_paths(indexes: Mapping[str, str]) -> dict[str, str]:
    """JSON path → type, of the columns whose type was said."""
    return {path_of(column): kind for column, kind in indexes.items() if kind != "auto"}


def untyped_columns(indexes: Mapping[str, str], present: Collection[str]) -> frozenset[str]:
    """Columns that are to have an index, of whatever type fits the first value that comes."""
    auto = (column for column, kind in indexes.items() if kind == "auto")
    return frozenset(column for column in auto if path_of(column) not in present)


def told_types(columns: Collection[str], payloads: Sequence[Payload]) -> dict[str, str]:
    """Column → type of the index that suits its first value; without those that have none yet."""
    kinds = {column: _first_kind(column, payloads) for column in columns}
    return {column: kind for column, kind in kinds.items() if kind is not None}


def _first_kind(column: str, payloads: Sequence[Payload]) -> str | None:
    return next(filter(None, (_kind(portable(payload.get(column))) for payload in payloads)), None)


def _kind(value: Any) -> str | None:
    """Of an array, its first element's; an object has none."""
    match value:
        case bool():
            return "bool"
        case int():
            return "integer"
        case float():
            return "float"
        case str():
            return "keyword"
        case [first, *_]:
            return _kind(first)
        case _:
            return None
