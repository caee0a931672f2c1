"""What a search asks for besides its text or picture: paging, a least score, and equality of payload columns.

A URL holds text only, and a payload column holds numbers, texts or booleans. A value that reads as a number or a boolean therefore
matches both that and the text: `model_id=5` finds 5 and "5". A parameter given twice asks for either value.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from fastapi import Depends, Query, Request

from pixtail.core.points import Hit, PointId
from pixtail.core.ports import VectorStore
from pixtail.search.problems import invalid

if TYPE_CHECKING:
    from pixtail.core.points import Vector

RESERVED = frozenset({"text", "limit", "offset", "min_score"})
"""Query names that are never columns."""
MAX_LIMIT = 100
MAX_OFFSET = 10_000
MAX_FILTERS = 16
"""Each combination of the values' readings is a search of its own."""

Filter: TypeAlias = Mapping[str, Any]
"""Payload column → the value that it must equal."""

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,14})\.[0-9]{1,17}")


@dataclass(frozen=True, slots=True)
class Options:
    """`filters`: a point is wanted if any one of them fits; never empty."""

    limit: int
    offset: int
    min_score: float | None
    filters: tuple[Filter, ...]


async def _options(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="How many hits.")] = 20,
    offset: Annotated[int, Query(ge=0, le=MAX_OFFSET, description="How many of the best to leave out.")] = 0,
    min_score: Annotated[
        float | None, Query(ge=-1, le=1, allow_inf_nan=False, description="Least cosine similarity.")
    ] = None,
) -> Options:
    return Options(limit, offset, min_score, filters(request.query_params.multi_items()))


SearchOptions = Annotated[Options, Depends(_options)]

COLUMNS_PARAMETER = {
    "name": "columns",
    "in": "query",
    "style": "form",
    "explode": True,
    "description": (
        "Any other name asks for equality of that payload column, such as `category=bus`. `5` matches the number and the text, "
        "`true` the boolean and the text; a name given twice asks for either value."
    ),
    "schema": {"type": "object", "additionalProperties": {"type": "string"}},
}
"""OpenAPI's way to say that any further query name is welcome."""


def filters(pairs: Iterable[tuple[str, str]]) -> tuple[Filter, ...]:
    """The filters that a query's name-value pairs ask for, one for each combination of readings."""
    wanted: dict[str, list[Any]] = {}
    for name, text in pairs:
        if name not in RESERVED:
            wanted.setdefault(name, []).extend(readings(text))
    if "" in wanted:
        raise invalid("columns", "a value stands without a column's name")
    combinations = list(itertools.islice(itertools.product(*wanted.values()), MAX_FILTERS + 1))
    if len(combinations) > MAX_FILTERS:
        raise invalid("columns", f"more than {MAX_FILTERS} combinations of values", "Ask for fewer columns or values")
    return tuple(dict(zip(wanted, values, strict=True)) for values in combinations)


def readings(text: str) -> tuple[Any, ...]:
    """The payload values that `text` may stand for. "007" is no integer; Qdrant's integers have 64 bits with sign."""
    if _INTEGER.fullmatch(text) and -(1 << 63) <= int(text) < 1 << 63:
        return int(text), text
    if _DECIMAL.fullmatch(text):  # a DECIMAL column is text in the index, a FLOAT column a number
        return float(text), text
    if text in ("true", "false"):
        return text == "true", text
    return (text,)


def nearest(
    store: VectorStore, vector: Vector, options: Options, exclude: Collection[PointId] = ()
) -> tuple[list[Hit], bool]:
    """The page of hits that `options` ask for, best first, and whether there are more behind it."""
    offset, limit = options.offset, options.limit + 1
    if len(options.filters) > 1:  # pages of several searches cannot be merged, only their beginnings
        offset, limit = 0, options.offset + options.limit + 1
    found = [
        store.search(
            vector, limit=limit, offset=offset, where=where or None, min_score=options.min_score, exclude=exclude
        )
        for where in options.filters
    ]
    hits = found[0] if len(found) == 1 else merged(found)[options.offset :]
    return hits[: options.limit], len(hits) > options.limit


def merged(results: Iterable[Iterable[Hit]]) -> list[Hit]:
    """One list of hits, each point once, best first."""
    by_id = {hit.point.id: hit for hits in results for hit in hits}
    return sorted(by_id.values(), key=lambda hit: -hit.score)
