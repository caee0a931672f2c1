"""Back-fills: existing rows are sent again, on request, by the machinery of the snapshot. Pure.

A command writes a `Request`; the listener that leads acts on it between two transactions and says so in its state. A back-fill outlives
both of them: whoever leads goes on behind the last chunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ingest.position import Snapshot, State
from ingest.selection import EVERYTHING, Selection, selected
from pixtail.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class Request:
    """Start (or go on with) a back-fill of `selection`, or pause the one that is running. `chunk_rows` 0: as many as usual."""

    id: str
    selection: Selection = EVERYTHING
    pause: bool = False
    chunk_rows: int = 0
    about: int = field(default=0, compare=False)


def to_json(request: Request) -> dict[str, Any]:
    return asdict(request)


def from_json(body: Mapping[str, Any]) -> Request | None:
    """None for what this program did not write: a request must not stop the listener."""
    try:
        return Request(**{**body, "selection": selected(**body["selection"])})
    except (KeyError, TypeError, ValueError, UsageError):
        return None


def acted_on(request: Request, state: State, now_ms: int) -> State | None:
    """The state that follows from a request; None if nothing does, or not yet: the first snapshot goes first."""
    if request.id == state.request:
        return None
    running = state.snapshot
    if running is not None and running.selection is None:
        return None
    if request.pause:
        snapshot = replace(running, paused=True) if running is not None else None
    elif running is not None and running.selection == request.selection:
        snapshot = replace(running, paused=False, chunk_rows=request.chunk_rows)
    else:
        snapshot = Snapshot(
            selection=request.selection, about=request.about, started_ms=now_ms, chunk_rows=request.chunk_rows
        )
    return replace(state, snapshot=snapshot, request=request.id)
