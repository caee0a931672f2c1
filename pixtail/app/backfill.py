"""`backfill`: asks the listener to send existing rows again, and shows how far it is."""

from __future__ import annotations

import csv
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from pixtail.app.wiring import needs
from pixtail.bus.inspection import leaders
from pixtail.bus.requests import StateWatch, send_request
from pixtail.bus.topics import Topics, ensure_topics
from pixtail.core.errors import UsageError
from pixtail.core.settings import Settings

if TYPE_CHECKING:
    from ingest.backfill import Request, Stage
    from ingest.position import Snapshot, State
    from ingest.selection import Selection

POLL_S = 0.25
SILENT_S = 3.0  # a listener that leads acts on a request within a second or two
PAUSE_S = 10.0
SAY_S = 10.0  # how often progress is told where there is no terminal


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a back-fill: `rows` sent of `about`, which the server may have guessed; not `done` if it was paused or only counted."""

    rows: int
    about: int
    done: bool

    def as_json(self) -> dict[str, Any]:
        return {"rows": self.rows, "about": self.about, "done": self.done}


# What is chosen


def selection(
    key: tuple[str, ...], where: Sequence[str], ids: Sequence[str], ids_file: Path | None, limit: int | None
) -> Selection:
    """Of the command's options, for a table with this primary key. Raises `UsageError` for what cannot be meant."""
    with needs("listen"):
        from ingest.selection import selected
    listed = sorted({_id(key, text) for text in (*ids, *_lines(ids_file))})
    if ids_file is not None and not listed:
        raise UsageError(f"there is no id in {ids_file}", "Write one on each line")
    return selected(_conditions(where), listed, limit)


def _lines(file: Path | None) -> list[str]:
    """`-` is standard input."""
    if file is None:
        return []
    try:
        text = sys.stdin.read() if file == Path("-") else file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the file {file} cannot be read: {error}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _id(key: tuple[str, ...], text: str) -> tuple[str, ...]:
    """The key's values, separated by commas as in a CSV file. A key of one column is the text as it stands."""
    values = (text,) if len(key) == 1 else tuple(next(csv.reader([text], skipinitialspace=True), ()))
    if len(values) != len(key):
        columns = ",".join(key)
        raise UsageError(f"the id {text} does not fit the key ({columns})", f"Write {columns}, as in --id 7,blue")
    return values


def _conditions(where: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in where:
        column, value = _condition(text)
        if column in found:
            raise UsageError(f"--where {column}=… is given twice", "A row has one value there: send the rows in turn")
        found[column] = value
    return found


def _condition(text: str) -> tuple[str, str]:
    from ingest.selection import NULL

    column, sign, value = text.partition("=")
    if not sign or not column.strip():
        raise UsageError(f"--where {text} is no COLUMN=VALUE", "Write --where category=car, or --where deleted_at=null")
    return column.strip(), NULL if value.lower() == NULL else value


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


# Asking for it


def backfill(settings: Settings, chosen: Selection, chunk_rows: int, restart: bool, console: Console) -> Outcome:
    """Asks for it and waits for its end. Ctrl-C pauses it: the same command goes on with it, and `restart` begins again.

    Raises `UsageError` before anything is sent if the selection does not fit the table, or if another back-fill is paused that would be
    forgotten; `DatabaseUnreachable`, `BusUnreachable`, `SettingError`.
    """
    with needs("listen"):
        from ingest.backfill import Request
    about = count(settings, chosen)
    topics = Topics(settings.kafka.prefix, settings.source)
    ensure_topics(settings.kafka, topics)
    request = Request(uuid.uuid4().hex, chosen, chunk_rows=chunk_rows, about=about, restart=restart)
    with closing(StateWatch(settings.kafka, topics)) as watch, Display(console) as display:
        watch.open()
        asking = _Asking(settings, topics, watch, display, request)
        try:
            return asking.follow()
        except KeyboardInterrupt:
            return asking.pause()


class _Asking:
    """One back-fill as the command sees it."""

    def __init__(
        self, settings: Settings, topics: Topics, watch: StateWatch, display: Display, request: Request
    ) -> None:
        self._kafka = settings.kafka
        self._topics = topics
        self._watch = watch
        self._display = display
        self._request = request
        self._sent_at: float | None = None
        self._started = False  # it runs or ran, asked for by us or not
        self._rows = 0

    def follow(self) -> Outcome:
        """Until it is done, or somebody else pauses it."""
        while (outcome := self._step()) is None:
            time.sleep(POLL_S)
        return outcome

    def _step(self) -> Outcome | None:
        from ingest.backfill import Stage

        state, stage = self._look()
        asks = self._sent_at is None
        if stage is Stage.DONE or (stage is Stage.FREE and self._started):
            return Outcome(self._about, self._about, done=True)
        if (
            stage is Stage.FREE
            or (asks and stage is Stage.PAUSED)
            or (asks and self._request.restart and stage is Stage.RUNNING)
        ):
            self._ask(state)
        elif stage is Stage.RUNNING:
            self._started = True
            self._show(state)
        elif stage is Stage.PAUSED:
            self._display.say(
                "It was paused: by another command, or because it does not fit the table (see the listener's log)."
            )
            return Outcome(self._rows, self._about, done=False)
        elif stage is Stage.BEHIND:
            self._display.say_once(f"Waits in line: first {_told(state)}.")
        else:
            self._hint()
        return None

    def _look(self) -> tuple[State | None, Stage]:
        from ingest import backfill, position

        self._watch.look()
        body, asked = self._watch.state, self._watch.request
        state = position.from_json(body) if body else None
        return state, backfill.stage(self._request, state, backfill.from_json(asked) if asked else None)

    def _ask(self, state: State | None) -> None:
        """Only one that is paused is kept: another one would be forgotten."""
        from ingest.backfill import to_json

        paused = state.snapshot if state is not None else None
        if paused is not None and paused.selection != self._request.selection and not self._request.restart:
            raise UsageError(
                f"a back-fill of {paused.selection} is paused after {paused.rows:,} of {paused.about:,} rows",
                "Let it go on first (the same command again), or forget it with --restart",
            )
        send_request(self._kafka, self._topics, to_json(self._request))
        self._sent_at = time.monotonic()

    def _hint(self) -> None:
        if self._sent_at is not None and time.monotonic() - self._sent_at > SILENT_S:
            self._display.say_once(
                "The listener has not taken it up yet. It will between two transactions."
                if leaders(self._kafka, self._topics)
                else "No listener runs. The rows are sent as soon as one does (pixtail listen, or run); nobody need wait here."
            )

    def _show(self, state: State | None) -> None:
        snapshot = state.snapshot if state is not None else None
        if snapshot is not None:
            self._rows = snapshot.rows
            self._display.show(snapshot.rows, snapshot.about)

    ...
