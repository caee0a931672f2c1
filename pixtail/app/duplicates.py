"""`duplicates`: pictures that stand in the index more than once."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from pixtail.app.reading import bar, watched, whole_index
from pixtail.app.wiring import needs
from pixtail.core.settings import Settings


def duplicates(settings: Settings, min_score: float | None, limit: int, console: Console) -> dict[str, Any]:
    """What `find_duplicates` finds, computed in this process wherever the store is open. `min_score` None: exact ones only."""
    with needs("serve"):
        from pixtail.search.duplicates import find_duplicates
    with bar(console) as show, whole_index(settings, with_vectors=min_score is not None) as reading:
        points = watched(reading, show, "reading")

        def between(done: int, of: int) -> None:
            show("comparing", reading.about * done // of, reading.about)

        return asdict(find_duplicates(points, min_score, limit, between))


def print_duplicates(found: dict[str, Any], console: Console) -> None:
    if found["exact"]:
        table = Table("copies", "ids", title="the same file", title_justify="left")
        for copies in found["exact"]:
            table.add_row(str(len(copies["ids"])), _listed([str(i) for i in copies["ids"]]))
        console.print(table)
    if found["near"]:
        table = Table("best score", "ids, each with its own best score", title="nearly the same", title_justify="left")
        for group in found["near"]:
            members = [f"{member['id']} ({member['score']:.3f})" for member in group]
            table.add_row(f"{group[0]['score']:.3f}", _listed(members))
        console.print(table)
    console.print(_summary(found), highlight=False)


def _summary(found: dict[str, Any]) -> str:
    parts = [f"{found['points']:,} images", f"{found['exact_groups']:,} groups of copies"]
    if found["min_score"] is not None:
        parts.append(f"{found['near_groups']:,} groups alike by {found['min_score']:g} or more")
    shown = len(found["exact"]) + len(found["near"])
    left_out = found["exact_groups"] + found["near_groups"] - shown
    return ", ".join(parts) + (f"; {left_out:,} groups are not shown (--limit)" if left_out else "")


def _listed(names: list[str], most: int = 20) -> str:
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
