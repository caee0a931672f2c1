"""`backfill`: asks the listener to send existing rows again, and shows how far it is."""

from __future__ import annotations

import csv
import io
import signal
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import orjson
from rich.console import Console

from ingest.backfill import Request, Stage, from_json, must_ask, stage, to_json
from ingest.position import State
from ingest.position import from_json as from_state
from ingest.selection import NULL, Selection, selected
from pixtail.app.conditions import column_and_value
from pixtail.app.progress import RowProgress
from pixtail.app.wiring import needs
from pixtail.bus.inspection import leaders
from pixtail.bus.requests import StateWatch, send_request
from pixtail.bus.topics import Topics, ensure_topics
from pixtail.core.errors import UsageError
from pixtail.core.lifecycle import Stop
from pixtail.core.settings import Settings

POLL_S = 0.25
SILENT_S = 3.0  # a listener that leads acts on a request within a second or two
PAUSE_S = 10.0

_NO_LISTENER = "No listener runs. The rows are sent as soon as one does (pixtail listen, or run), whether this command waits or not."
_NOT_YET = "The listener has not taken it up yet. It will, between two transactions."


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a back-fill: `rows` sent of `about`, of a large table the server's guess; not `done` if paused, or only counted."""

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
    if text.lstrip().startswith("["):
        return _failures(text, file)
    return [line.strip() for line in text.splitlines() if line.strip()]


def _failures(text: str, file: Path) -> list[str]:
    """The ids of a file that `reindex --failures` has written."""
    try:
        return [_line(failure["id"]) for failure in orjson.loads(text)]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise UsageError(f"the file {file} is no list of failures", "Write one id on each line") from error


def _line(key: Any) -> str:
    if not isinstance(key, list):
        return str(key)
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(key)
    return line.getvalue()


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
        column, value = column_and_value(text)
        if column in found:
            raise UsageError(f"--where {column}=… is given twice", "A row has one value there: send the rows in turn")
        found[column] = NULL if value.lower() == NULL else value
    return found


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


def run(settings: Settings, chosen: Selection, chunk_rows: int, restart: bool, console: Console) -> Outcome:
    """`backfill`, with Ctrl-C and SIGTERM as the wish to stop; the second one ends it at once."""
    stop = Stop()

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop:
            raise KeyboardInterrupt
        stop.set()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    return backfill(settings, chosen, chunk_rows, restart, console, stop)


def backfill(
    settings: Settings, chosen: Selection, chunk_rows: int, restart: bool, console: Console, stop: Stop
) -> Outcome:
    """Asks for it and waits for its end. `stop` pauses it: the same command goes on with it, and with `restart` begins again.

    Raises `UsageError` before anything is sent if the selection does not fit the table, or if another back-fill is paused that would be
    forgotten; `DatabaseUnreachable`, `BusUnreachable`, `SettingError`.
    """
    about = count(settings, chosen)
    topics = Topics(settings.kafka.prefix, settings.source)
    ensure_topics(settings.kafka, topics)
    request = Request(uuid.uuid4().hex, chosen, chunk_rows=chunk_rows, about=about, restart=restart)
    with closing(StateWatch(settings.kafka, topics)) as watch, RowProgress(console) as shown:
        watch.open()
        return _Asking(settings, topics, watch, shown, request).follow(stop)


class _Asking:
    """One back-fill, as the command that wants it sees it."""

    def __init__(
        self, settings: Settings, topics: Topics, watch: StateWatch, shown: RowProgress, request: Request
    ) -> None:
        self._kafka = settings.kafka
        self._topics = topics
        self._watch = watch
        self._shown = shown
        self._request = request
        self._sent_at: float | None = None
        self._hinted = False
        self._started = False  # it runs, or ran, by our request or another's
        self._rows, self._about = 0, request.about

    def follow(self, stop: Stop) -> Outcome:
        """Until it is done, or paused by whomever."""
        while not stop:
            state, at = self._look()
            if must_ask(at, self._request, sent=self._sent_at is not None, started=self._started):
                self._ask(state)
            elif (outcome := self._outcome(state, at)) is not None:
                return outcome
            stop.wait(POLL_S)
        return self._pause()

    def _look(self) -> tuple[State | None, Stage]:
        self._watch.look()
        body, asked = self._watch.state, self._watch.request
        state = from_state(body) if body else None
        return state, stage(self._request, state, from_json(asked) if asked else None)

    def _ask(self, state: State | None) -> None:
        paused = state.snapshot if state is not None else None
        if paused is not None and paused.selection != self._request.selection and not self._request.restart:
            raise UsageError(
                f"a back-fill of {paused.selection} is paused after {paused.rows:,} of {paused.about:,} rows",
                "Go on with it first, or forget it: --restart",
            )
        send_request(self._kafka, self._topics, to_json(self._request))
        self._sent_at = time.monotonic()

    def _outcome(self, state: State | None, at: Stage) -> Outcome | None:
        """None while there is none yet: says what is waited for."""
        if at in (Stage.DONE, Stage.FREE):
            return Outcome(self._about, self._about, done=True)
        if at is Stage.PAUSED:
            self._shown.say(
                "Paused by another command, or because it does not fit the table: then the listener's log says why."
            )
            return Outcome(self._rows, self._about, done=False)
        if at is Stage.ASKED:
            self._hint()
        elif at is Stage.BEHIND:
            self._shown.show(f"Waiting for {_first(state)}", *_progress(state))
        else:
            self._started = True
            self._rows, self._about = _progress(state)
            self._shown.show("Sending rows again", self._rows, self._about)
        return None

    def _hint(self) -> None:
        """Once, if it takes long."""
        if self._hinted or self._sent_at is None or time.monotonic() - self._sent_at < SILENT_S:
            return
        self._hinted = True
        self._shown.say(_NOT_YET if leaders(self._kafka, self._topics) else _NO_LISTENER)

    def _pause(self) -> Outcome:
        """Waits a while for the listener to say how far it was."""
        if self._sent_at is None and not self._started:
            return Outcome(0, self._about, done=False)
        pause = replace(self._request, id=uuid.uuid4().hex, pause=True)
        send_request(self._kafka, self._topics, to_json(pause))
        deadline = time.monotonic() + PAUSE_S
        while time.monotonic() < deadline:
            state, at = self._look()
            if state is not None and (state.request == pause.id or (self._started and at is not Stage.RUNNING)):
                return self._paused(state, at)
            time.sleep(POLL_S)
        self._shown.say("The listener does not answer. It pauses, or does not begin, when it comes back.")
        return Outcome(self._rows, self._about, done=False)

    def _paused(self, state: State, at: Stage) -> Outcome:
        if at is not Stage.PAUSED:  # it was just done, or had never begun
            rows = self._about if self._started else 0
            return Outcome(rows, self._about, done=self._started)
        self._shown.say("Paused. The same command goes on with it.")
        return Outcome(*_progress(state), done=False)


def _progress(state: State | None) -> tuple[int, int]:
    snapshot = state.snapshot if state is not None else None
    return (snapshot.rows, snapshot.about) if snapshot is not None else (0, 0)


def _first(state: State | None) -> str:
    """What a back-fill waits for."""
    snapshot = state.snapshot if state is not None else None
    if snapshot is None or snapshot.paused:
        return "a back-fill that has been asked for before"
    return "the snapshot" if snapshot.selection is None else f"the back-fill of {snapshot.selection}"
