"""What an index consists of, counted point by point. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from pixtail.core.errors import UsageError
from pixtail.core.points import StoredPoint, Sync
from pixtail.search.rows import require_known

MOST_VALUES = 10_000


def describe(points: Iterable[StoredPoint], by: Sequence[str] = ()) -> dict[str, Any]:
    """Counts of all points; `by` names columns whose values are counted too. Points that another program wrote are `foreign` and have no
    format, size or model. Numbers of a column are `{"value", "count"}`, most frequent first; an empty column has the value None.

    Raises `UsageError` for a column that no point has, or one with more than 10,000 different values.
    """
    total = foreign = 0
    formats: Counter[str] = Counter()
    models: Counter[str] = Counter()
    sizes = {name: _Size() for name in ("width", "height", "bytes")}
    columns: dict[str, Counter[bytes]] = {column: Counter() for column in by}
    known: set[str] = set()
    for point in points:
        total += 1
        if point.sync is None:
            foreign += 1
        else:
            formats[point.sync.facts.format] += 1
            models[point.sync.model] += 1
            _measure(sizes, point.sync)
        if by:
            known.update(point.payload)
            _count(columns, point)
    require_known(by, known)
    return {
        "points": total,
        "foreign": foreign,
        "models": dict(models.most_common()),
        "formats": dict(formats.most_common()),
        "sizes": {name: size.as_json() for name, size in sizes.items()},
        "by": {column: _most_frequent(counts) for column, counts in columns.items()},
    }


class _Size:
    """Sum, least and greatest of a measure."""

    def __init__(self) -> None:
        self.count = self.sum = self.least = self.most = 0

    def add(self, value: int) -> None:
        self.least = min(self.least, value) if self.count else value
        self.most = max(self.most, value)
        self.sum += value
        self.count += 1

    def as_json(self) -> dict[str, Any] | None:
        if not self.count:
            return None
        return {"min": self.least, "mean": round(self.sum / self.count, 1), "max": self.most, "sum": self.sum}


def _measure(sizes: dict[str, _Size], sync: Sync) -> None:
    for name, size in sizes.items():
        size.add(getattr(sync.facts, name))


def _count(columns: dict[str, Counter[bytes]], point: StoredPoint) -> None:
    for column, counts in columns.items():
        counts[orjson.dumps(point.payload.get(column), option=orjson.OPT_SORT_KEYS)] += 1  # 1, "1" and true differ
        if len(counts) > MOST_VALUES:
            raise UsageError(
                f"column {column} has more than {MOST_VALUES:,} different values", "Count by a column with fewer"
            )


def _most_frequent(counts: Counter[bytes]) -> list[dict[str, Any]]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [{"value": orjson.loads(value), "count": count} for value, count in ordered]
