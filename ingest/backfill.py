"""Back-fills: existing rows are sent again, on request, by the machinery of the snapshot. Pure.

A command writes a `Request`; the listener that leads acts on it between two transactions and says so in its state. A back-fill outlives
both of them: whoever leads goes on behind the last chunk. There is one at a time; what comes second waits in line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any

from pydantic import ConfigDict, NonNegativeInt, TypeAdapter, ValidationError

from ingest.position import Snapshot, State
from ingest.selection import Selection, selected
from pixtail.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class Request:
    """Start (or go on with) a back-fill of `selection`, or `pause` it.

    `restart`: begin at its first row. `chunk_rows` 0: as many at a time as usual. `about`: how many rows there will be.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    id: str
    selection: Selection
    pause: bool = False
    chunk_rows: NonNegativeInt = 0
    about: NonNegativeInt = field(default=0, compare=False)
    restart: bool = False


_REQUEST = TypeAdapter(Request)


def to_json(request: Request) -> dict[str, Any]:
    return asdict(request)


def from_json(body: Mapping[str, Any]) -> Request | None:
    """None for what this version does not write, down to a field that it does not know: half a request is another one."""
    try:
        request = _REQUEST.validate_python(body)
        given = request.selection
        return replace(request, selection=selected(given.where, given.ids, given.limit))
    except (ValidationError, UsageError):
        return None


def acted_on(request: Request, state: State, now_ms: int) -> State | None:
    """The listener's state that follows from a request; None if nothing does, or not yet: the first snapshot goes first, and so does a
    back-fill that runs. One that is paused makes room, and is forgotten."""
    running = state.snapshot
    if request.id == state.request or (running is not None and _goes_first(running, request)):
        return None
    if running is None or running.selection != request.selection:
        snapshot = running if request.pause else _new(request, now_ms)
    elif request.pause:
        snapshot = replace(running, paused=True)
    elif request.restart:
        snapshot = _new(request, now_ms)
    else:
        snapshot = replace(running, paused=False, chunk_rows=request.chunk_rows)
    return replace(state, snapshot=snapshot, request=request.id)


def _goes_first(running: Snapshot, request: Request) -> bool:
    """A pause need not wait: it withdraws a request, or concerns the one that runs."""
    other = running.selection != request.selection
    return other and not running.paused and not request.pause


def _new(request: Request, now_ms: int) -> Snapshot:
    return Snapshot(selection=request.selection, about=request.about, started_ms=now_ms, chunk_rows=request.chunk_rows)


class Stage(Enum):
    """Where a back-fill stands, for the command that wants it."""

    FREE = "it may be asked for"
    BEHIND = "another one goes first"
    ASKED = "no listener has taken it up yet"
    RUNNING = "its rows are being sent"
    PAUSED = "it goes on when it is asked for again"
    DONE = "its rows are sent"


def stage(request: Request, state: State | None, asked: Request | None) -> Stage:
    """`asked`: the newest request that stands in the state topic, whoever wrote it. It has room for one: who comes second waits, and asks
    when the first has been taken up."""
    running = state.snapshot if state is not None else None
    taken_up = state.request if state is not None else ""
    busy = running is not None and not running.paused
    ours = running is not None and running.selection == request.selection
    if asked is not None and asked.id == request.id != taken_up:
        return Stage.BEHIND if busy and not ours else Stage.ASKED
    if ours:
        return Stage.RUNNING if busy else Stage.PAUSED
    if request.id == taken_up:  # a snapshot of the whole table may have taken its place
        return Stage.BEHIND if busy else Stage.DONE
    waits = asked is not None and asked.id != taken_up and not asked.pause
    return Stage.BEHIND if busy or waits else Stage.FREE


def must_ask(at: Stage, request: Request, *, sent: bool, started: bool) -> bool:
    """Is it time for the command to write its request? One that runs already is joined. `sent`: it has asked before; if somebody else did
    so at the same moment, it may have to again. `started`: it has been seen running."""
    if started:
        return False
    if sent:
        return at is Stage.FREE
    return at in (Stage.FREE, Stage.PAUSED) or (at is Stage.RUNNING and request.restart)
