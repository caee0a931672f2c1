"""From the id in a URL to the point it means."""

from __future__ import annotations

import re
import uuid
from itertools import product

from pixtail.core.points import PointId, StoredPoint, point_id
from pixtail.core.settings import Table
from pixtail.search.deps import Deps
from pixtail.search.problems import not_found

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,30}")


def candidates(table: Table, text: str) -> list[PointId]:
    """The points that `text` may mean, likeliest first: an integer key, a point's UUID, a text key. A key of several columns is written
    with commas: `7,front` (where a text holds a comma itself, its point's UUID will do).

    A CHAR column may hold "42" or a UUID as its key, so each text has several readings.
    """
    columns = table.key_columns
    parts = [text] if len(columns) == 1 else text.split(",")
    keys = list(product(*map(_readings, parts))) if len(parts) == len(columns) else []
    ids = [point_id(table.name, dict(zip(columns, values, strict=True))) for values in keys]
    if (point := _uuid(text)) is not None:
        ids.insert(len(ids) - 1 if ids else 0, point)
    return ids


def _readings(text: str) -> list[int | str]:
    return [int(text), text] if _INTEGER.fullmatch(text) else [text]


def find(deps: Deps, text: str, *, with_vector: bool = False) -> StoredPoint:
    """The point that the id in the URL means. Raises 404 if the index has none."""
    found = deps.store.get(candidates(deps.settings.table, text), with_vectors=with_vector)
    if not found:
        raise not_found(
            f"the index has no image {text[:100]!r}",
            "It was deleted, is not indexed yet, or its picture fails: see /api/v1/failures",
        )
    return found[0]


def _uuid(text: str) -> str | None:
    try:
        return str(uuid.UUID(text)) if len(text) == 36 else None
    except ValueError:
        return None
