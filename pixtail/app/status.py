"""`status`: where the pipeline stands, asked of Kafka and the store."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from rich.console import Console
from rich.table import Table

from ingest.progress import progress
from pixtail.app.asking import ask_index
from pixtail.app.pipeline import describe
from pixtail.app.progress import in_words
from pixtail.bus.dead_letters import DeadLetters
from pixtail.bus.inspection import describe_broker, worker_lag
from pixtail.bus.requests import StateWatch, Written
from pixtail.bus.topics import Topics
from pixtail.core.ports import Index
from pixtail.core.settings import Settings

STILL_MS = 60_000
NOTHING = Written(0, None)


def read_status(settings: Settings) -> dict[str, Any]:
    """Position, lag, points, dead letters, model. Raises `PixtailError` when a server that knows cannot be reached."""
    topics = Topics(settings.kafka.prefix, settings.source)
    describe_broker(settings.kafka)
    store = _store(settings)
    lag = worker_lag(settings.kafka, topics, store["generation"] or "")
    earlier, newest = _states(settings, topics) if lag is not None else (NOTHING, NOTHING)
    return {
        "source": settings.source,
        "topic": topics.changes,
        "state": newest.body,
        "snapshot": snapshot_progress(earlier, newest, time.time() * 1000),
        "lag_records": lag,
        "lookups": [_lookup(one) for one in settings.of_lookups if lag is not None],
        "dead_letters": dict(Counter(letter["reason"] for letter in read_dead_letters(settings))),
        **store,
    }


def _lookup(settings: Settings) -> dict[str, Any]:
    topics = Topics(settings.kafka.prefix, settings.source)
    earlier, newest = _states(settings, topics)
    snapshot = snapshot_progress(earlier, newest, time.time() * 1000)
    return {"table": settings.table.name, "topic": topics.changes, "state": newest.body, "snapshot": snapshot}


def _states(settings: Settings, topics: Topics) -> tuple[Written, Written]:
    with closing(StateWatch(settings.kafka, topics)) as watch:
        watch.open()
        watch.look()
        return watch.recent


def snapshot_progress(earlier: Written, newest: Written, now_ms: float) -> dict[str, Any] | None:
    """The snapshot or back-fill that is under way, at the speed between two states of the last minute; None without one."""
    snapshot = (newest.body or {}).get("snapshot")
    if not snapshot:
        return None
    before = (earlier.body or {}).get("snapshot") or {}
    same = "rows" in before and before.get("started_ms") == snapshot.get("started_ms")
    since_ms, rows_before = (earlier.at_ms, before["rows"]) if same else (snapshot.get("started_ms", newest.at_ms), 0)
    found = progress(snapshot["rows"], snapshot.get("about", 0), (newest.at_ms - since_ms) / 1000, rows_before)
    moves = not snapshot.get("paused") and now_ms - newest.at_ms < STILL_MS
    return {
        "kind": "snapshot" if snapshot.get("selection") is None else "back-fill",
        "paused": bool(snapshot.get("paused")),
        "rows": found.rows,
        "about": found.about,
        "rows_per_s": found.rows_per_s or None if moves else None,
        "left_s": found.left_s if moves else None,
        "written_s_ago": max(now_ms - newest.at_ms, 0) / 1000,
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
    def from_index(index: Index) -> dict[str, Any]:
        current = index.current()
        store = index.store(current or "")
        name = index.made_by(current or "").get("name", settings.model.name)
        facts = {"points": store.count(), "dimension": store.dimension(), "model": name}
        return facts | {"generation": current, "previous": index.previous()}

    def from_api(answer: dict[str, Any]) -> dict[str, Any]:
        model, pipeline = answer["model"], answer["pipeline"]
        return {
            "points": answer["points"],
            "dimension": model["dimension"],
            "model": model["name"],
            "fingerprint": model["fingerprint"],
            "generation": pipeline["generation"],
        }

    return ask_index(settings, from_index, ("GET", "/api/v1/stats", {}), from_api)


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
        *_snapshot(status["snapshot"]),
        *(line for lookup in status["lookups"] for line in _lookup_lines(lookup)),
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
    return f"at {where}, seq {state.get('seq')}"


def _lookup_lines(lookup: Mapping[str, Any]) -> list[tuple[str, str]]:
    label = f"lookup {lookup['table']}"
    return [
        (label, _listener(lookup["state"])),
        *((f"{label}, {kind}", words) for kind, words in _snapshot(lookup["snapshot"])),
    ]


def _snapshot(found: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if found is None:
        return []
    words = in_words(found["rows"], found["about"], found["rows_per_s"], found["left_s"])
    still = "" if found["rows_per_s"] else f", last written {found['written_s_ago']:,.0f} s ago"
    return [(found["kind"], words + (", paused" if found["paused"] else still))]


def print_dead_letters(letters: list[dict[str, Any]], console: Console) -> None:
    if not letters:
        console.print("no picture fails")
        return
    table = Table("key", "reason", "message", "attempts", "since")
    for letter in letters:
        row = (str(letter[name]) for name in ("key", "reason", "message", "attempts", "first_failed"))
        table.add_row(*row)
    console.print(table)
