"""`stats`: what the index consists of, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from pixtail.app.asking import WHOLE_TIMEOUT_S, ask, no_collection
from pixtail.app.status import read_dead_letters
from pixtail.app.wiring import needs
from pixtail.core.errors import BusUnreachable
from pixtail.core.ports import VectorStore
from pixtail.core.settings import Settings

VALUES_SHOWN = 20


def read_stats(settings: Settings, by: Sequence[str]) -> dict[str, Any]:
    """Counts of all points, and of the values of the columns `by`; dimension and model; dead letters by reason (None: Kafka is away).

    Raises `UsageError` for a column that no point has, or one with thousands of values.
    """

    def from_store(store: VectorStore) -> dict[str, Any]:
        with needs("serve"):
            from pixtail.search.statistics import describe
        dimension = store.dimension()
        if dimension is None:
            raise no_collection(settings)
        return {
            "dimension": dimension,
            "model": settings.model.name,
            "dead_letters": _dead_letters(settings),
            **describe(store.scan(), by),
        }

    def from_api(answer: dict[str, Any]) -> dict[str, Any]:
        model = answer["model"]
        return {"dimension": model["dimension"], "model": model["name"], **answer["details"]}

    options = {"params": {"details": True, "by": list(by)}, "timeout": WHOLE_TIMEOUT_S}
    return ask(settings, from_store, ("GET", "/api/v1/stats", options), from_api)


def _dead_letters(settings: Settings) -> dict[str, int] | None:
    try:
        return dict(Counter(letter["reason"] for letter in read_dead_letters(settings)).most_common())
    except BusUnreachable:
        return None


def print_stats(stats: dict[str, Any], console: Console) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in _lines(stats):
        table.add_row(f"[bold]{name}[/]", value)
    console.print(table)
    for column, counts in stats["by"].items():
        console.print(_facet(column, counts))


def _lines(stats: dict[str, Any]) -> list[tuple[str, str]]:
    letters = stats["dead_letters"]
    size = stats["sizes"]["bytes"]
    return [
        ("points", f"{stats['points']:,}"),
        ("of other programs", f"{stats['foreign']:,}"),
        ("model", f"{stats['model']}, {stats['dimension']} dimensions"),
        ("encoded by", _counts(stats["models"])),
        ("formats", _counts(stats["formats"])),
        *((name, _range(stats["sizes"][name], " pixels")) for name in ("width", "height")),
        ("file size", _range(size, " bytes") + (f", {size['sum']:,} in all" if size else "")),
        ("dead letters", "unknown: Kafka does not answer" if letters is None else _counts(letters)),
    ]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name or 'unknown'}" for name, count in counts.items()) or "none"


def _range(size: dict[str, Any] | None, unit: str) -> str:
    if size is None:
        return "unknown"
    return f"{size['min']:,} to {size['max']:,}, {size['mean']:,.0f}{unit} on average"


def _facet(column: str, counts: list[dict[str, Any]]) -> Table:
    table = Table(column, "points")
    for entry in counts[:VALUES_SHOWN]:
        table.add_row("(empty)" if entry["value"] is None else str(entry["value"]), f"{entry['count']:,}")
    if len(counts) > VALUES_SHOWN:
        rest = counts[VALUES_SHOWN:]
        table.add_row(f"({len(rest):,} more values)", f"{sum(entry['count'] for entry in rest):,}")
    return table
