"""What a row asks of the index, in the form that is compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from encoder.mapping import wanted
from encoder.plan import Wanted
from pixtail.core.changes import Change, Op, Row, Source, Tombstone, decode
from pixtail.core.errors import PictureError
from pixtail.core.points import Payload, PointId, StoredPoint, is_bookkeeping, point_id
from pixtail.core.settings import Table
from sink.verify import Asked, KeyValues, digest

_NOWHERE = Source("", "")
Names: TypeAlias = Callable[[Row], Payload]
"""What lookups add to a row's columns."""


def wants(row: Row, table: Table, names: Names) -> Wanted | None:
    """The point that a row asks for, by the worker's own rules; its payload without the bookkeeping. Raises `PictureError`."""
    found = wanted(Change(Op.READ, {}, None, row, 0, _NOWHERE), table, names)
    if not isinstance(found, Wanted):
        return None
    return Wanted(found.ref, {name: value for name, value in found.payload.items() if not is_bookkeeping(name)})


def asked(row: Row, table: Table, names: Names) -> Asked:
    key = {name: row[name] for name in table.key_columns}
    row_id, values = point_id(table.name, key), tuple(key.values())
    try:
        point = wants(row, table, names)
    except PictureError:
        return Asked(row_id, values, None, readable=False)
    return Asked(row_id, values, None) if point is None else Asked(row_id, values, point.ref, digest(point.payload))


def key_of(point: StoredPoint, table: Table) -> KeyValues | None:
    """The key of the row that the point was made of; None if the point does not show it."""
    if isinstance(point.id, int):
        return (point.id,) if len(table.key_columns) == 1 else None
    names = [table.rename.get(name, name) for name in table.key_columns]
    if any(not isinstance(point.payload.get(name), int | float | str) for name in names):
        return None
    values: KeyValues = tuple(point.payload[name] for name in names)
    key: Mapping[str, Any] = dict(zip(table.key_columns, values, strict=True))
    return values if point_id(table.name, key) == point.id else None


def id_of_record(key: bytes, table: Table) -> PointId | None:
    """The point of a row, by the key of a record about it."""
    entry = decode(key, None, (), 0)
    return point_id(table.name, entry.key) if isinstance(entry, Tombstone) else None
