"""`backfill`: asks the listener to send existing rows again, and shows how far it is."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pixtail.app.wiring import needs
from pixtail.bus.requests import send_request
from pixtail.bus.state import StateStore
from pixtail.bus.topics import Topics, ensure_topics
from pixtail.core.errors import UsageError
from pixtail.core.settings import Settings

if TYPE_CHECKING:
    from ingest.backfill import Request
    from ingest.position import State
    from ingest.selection import Selection

POLL_S = 0.5
SILENT_S = 10.0  # so long a listener may take to act on a request

_HINT = "No listener has taken it up yet. It will as soon as one runs (pixtail listen, or run) and its first snapshot is done."


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a back-fill: `rows` sent of `about`; not `done` if it was paused or only counted."""

    rows: int
    about: int
    done: bool

    def as_json(self) -> dict[str, Any]:
        return {"rows": self.rows, "about": self.about, "done": self.done}


def selection(where: Sequence[str], ids: Sequence[str], ids_file: Path | None, limit: int | None) -> Selection:
    """Of the command's options. Raises `UsageError` for what cannot be meant."""
    with needs("listen"):
        from ingest.selection import selected
    listed = [_scalar(text) for text in ids]
    if ids_file is not None:
        try:
            listed += [_scalar(line.strip()) for line in ids_file.read_text().splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the file {ids_file} cannot be read: {error}") from error
    return selected(dict(_condition(text) for text in where), listed, limit)


def _condition(text: str) -> tuple[str, int | str]:
    column, sign, value = text.partition("=")
    if not sign or not column.strip():
        raise UsageError(f"--where {text} is no COLUMN=VALUE", "Write --where category=car, or --where deleted_at=null")
    return column.strip(), value.strip()


def _scalar(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdecimal() else text


def count(settings: Settings, chosen: Selection) -> int:
    """How many rows it would send. Raises `DatabaseUnreachable`, `SettingError`, `UsageError`."""
    with needs("listen"):
        from ingest import chunks, mysql, tables
    address = settings.mysql.address
    with closing(mysql.connect(address, database=None)) as connection, mysql.translated(address):
        server = mysql.look(connection, settings.mysql)
        table = tables.describe(connection, server, address.database, settings.table.name)
        if table is None:
            raise UsageError(f"there is no table {settings.source}", "Correct table.name")
        return chunks.about(connection, table, settings.table.key_columns, chosen)


def backfill(settings: Settings, chosen: Selection, chunk_rows: int, console: Console) -> Outcome:
    """Asks for it and waits for its end. Ctrl-C pauses it: the same command goes on with it."""
    with needs("listen"):
        from ingest.backfill import Request, to_json
    about = count(settings, chosen)
    topics = Topics(settings.kafka.prefix, settings.source)
    ensure_topics(settings.kafka, topics)
    request = Request(uuid.uuid4().hex, chosen, chunk_rows=chunk_rows, about=about)
    send_request(settings.kafka, topics, to_json(request))
    try:
        return _follow(settings, topics, request, console)
    except KeyboardInterrupt:
        paused = replace(request, id=uuid.uuid4().hex, pause=True)
        send_request(settings.kafka, topics, to_json(paused))
        console.print("Paused. The same command goes on with it.")
        return Outcome(_rows(_state(settings, topics)), about, done=False)


def _follow(settings: Settings, topics: Topics, request: Request, console: Console) -> Outcome:
    columns = (TextColumn("sending rows again"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("rows", total=request.about or None)
        for state in _states(settings, topics, request, console):
            progress.update(task, completed=_rows(state))
    return Outcome(request.about, request.about, done=True)


def _states(settings: Settings, topics: Topics, request: Request, console: Console) -> Iterator[State]:
    """The listener's states until the back-fill is done."""
    asked = time.monotonic()
    hinted = False
    while True:
        state = _state(settings, topics)
        if state is not None and state.request == request.id:
            yield state
            if state.snapshot is None:
                return
        elif not hinted and time.monotonic() - asked > SILENT_S:
            console.print(_HINT)
            hinted = True
        time.sleep(POLL_S)


def _state(settings: Settings, topics: Topics) -> State | None:
    from ingest.position import from_json

    body: Mapping[str, Any] | None = StateStore(settings.kafka, topics).read(topics.source)
    return from_json(body) if body else None


def _rows(state: State | None) -> int:
    return state.snapshot.rows if state is not None and state.snapshot is not None else 0
