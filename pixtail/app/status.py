"""`status`: where the pipeline stands, asked of Kafka and the store."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Console
from rich.table import Table

from pixtail.app.asking import ask
from pixtail.app.pipeline import describe
from pixtail.bus.dead_letters import DeadLetters
from pixtail.bus.inspection import describe_broker, group_lag, lane_group
from pixtail.bus.state import StateStore
from pixtail.bus.topics import Topics
from pixtail.core.ports import VectorStore
from pixtail.core.settings import Settings


def read_status(settings: Settings) -> dict[str, Any]:
    """Position, lag, points, dead letters, model. Raises `PixtailError` when a server that knows cannot be reached."""
    topics = Topics(settings.kafka.prefix, settings.source)
    describe_broker(settings.kafka)
    lag = group_lag(settings.kafka, topics.changes, lane_group(topics, "live"))
    state = StateStore(settings.kafka, topics).read(settings.source) if lag is not None else None
    return {
        "source": settings.source,
        "topic": topics.changes,
        "state": state,
        "lag_records": None if lag is None else sum(lag.values()),
        "dead_letters": dict(Counter(letter["reason"] for letter in read_dead_letters(settings))),
        **_store(settings),
    }


def read_dead_letters(settings: Settings) -> list[dict[str, Any]]:
    """The pictures that fail now, oldest first."""
    letters = DeadLetters(settings.kafka, Topics(settings.kafka.prefix, settings.source))
    letters.open()
    try:
        return [describe(letter) for letter in sorted(letters.letters.values(), key=lambda x: x.first_failed)]
    finally:
        letters.close()


def _store(settings: Settings) -> dict[str, Any]:
    def from_store(store: VectorStore) -> dict[str, Any]:
        return {"points": store.count(), "dimension": store.dimension(), "model": settings.model.name}

    def from_api(answer: dict[str, Any]) -> dict[str, Any]:
        model = answer["model"]
        return {
            "points": answer["points"],
            "dimension": model["dimension"],
            "model": model["name"],
            "fingerprint": model["fingerprint"],
        }

    return ask(settings, from_store, ("GET", "/api/v1/stats", {}), from_api)


def print_status(status: dict[str, Any], console: Console) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in _lines(status):
        table.add_row(f"[bold]{name}[/]", value)
    console.print(table)


def _lines(status: dict[str, Any]) -> list[tuple[str, str]]:
    letters = ", ".join(f"{n} {reason}" for reason, n in status["dead_letters"].items()) or "none"
    return [
        ("source", f"{status['source']} → topic {status['topic']}"),
        ("listener", _listener(status["state"])),
        (
            "lag",
            "the topic does not exist yet" if status["lag_records"] is None else f"{status['lag_records']} records",
        ),
        ("points", str(status["points"])),
        ("dead letters", letters),
        ("model", f"{status['model']}, {status['dimension'] or 'no'} dimensions"),
    ]


def _listener(state: dict[str, Any] | None) -> str:
    if state is None:
        return "has not started yet"
    position = state.get("position") or {}
    where = position.get("gtid") or f"{position.get('file')}:{position.get('pos')}"
    return f"at {where}, seq {state.get('seq')}" + (", snapshot under way" if state.get("snapshot") else "")


def print_dead_letters(letters: list[dict[str, Any]], console: Console) -> None:
    if not letters:
        console.print("no picture fails")
        return
    table = Table("key", "reason", "message", "attempts", "since")
    for letter in letters:
        row = (str(letter[name]) for name in ("key", "reason", "message", "attempts", "first_failed"))
        table.add_row(*row)
    console.print(table)
