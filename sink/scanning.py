"""How a store is read from end to end: page by page, in the order of ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from pixtail.core.points import PointId, StoredPoint

PAGE = 1000
Page: TypeAlias = tuple[list[StoredPoint], Any]
"""Some points, and where the next ones begin in the vendor's own words (None: these were the last)."""


def pages(page: Callable[[Any], Page], after: PointId | None) -> Iterator[StoredPoint]:
    """The points of all pages but `after` itself, with which Qdrant's pages begin."""
    following: Any = after
    while True:
        points, following = page(following)
        yield from (point for point in points if point.id != after)
        if following is None:
            return


def id_order(point_id: PointId) -> tuple[bool, PointId]:
    """To sort ids by, as Qdrant does: numbers before UUIDs, each in their order."""
    return isinstance(point_id, str), point_id
