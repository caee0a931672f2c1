"""The pipeline, as a verification needs it: whether it has passed a moment, which rows fail, and rows sent again."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Self

from rich.console import Console

from ingest.position import from_json
from ingest.selection import MAX_IDS, selected
from ingest.tablerows import End
from pixtail.app.backfill import backfill
from pixtail.app.verify.expected import id_of_record
from pixtail.app.verify.options import Options
from pixtail.bus.dead_letters import DeadLetters
from pixtail.bus.inspection import changes_ends, groups_reached, lane_ends, leaders, workers
from pixtail.bus.lookups import lookup_group
from pixtail.bus.requests import StateWatch
from pixtail.bus.topics import Topics
from pixtail.core.backoff import Stopping
from pixtail.core.errors import UsageError
from pixtail.core.lifecycle import Stop
from pixtail.core.points import PointId
from pixtail.core.settings import Settings
from sink.verify import KeyValues

POLL_S = 0.3
SILENT_S = 5.0  # a listener or worker that starts, or shares out its partitions anew, is not in its group for a moment
NO_LISTENER = "No listener runs, and only it can send rows again: pixtail listen, or run"


class Pipeline:
    """That of the settings, whose workers keep `generation` true. A context manager, for one thread.

    Everything raises `BusUnreachable`, `SettingError`; `Stopping` when it is time to stop.
    """

    def __init__(self, settings: Settings, generation: str, options: Options, stop: Stop) -> None:
        self._settings = settings
        self._kafka = settings.kafka
        self._topics = Topics(settings.kafka.prefix, settings.source)
        self._of_lookups = [Topics(settings.kafka.prefix, one.source) for one in settings.of_lookups]
        self._generation = generation
        self._options = options
        self._stop = stop
        self._letters = DeadLetters(settings.kafka, self._topics)

    def __enter__(self) -> Self:
        self._letters.open()
        return self

    def __exit__(self, *_error: object) -> None:
        self._letters.close()

    def failing(self) -> frozenset[PointId]:
        """The points of the rows that have an open dead letter now."""
        self._letters.refresh()
        found = (id_of_record(key, self._settings.table) for key in self._letters.letters)
        return frozenset(point_id for point_id in found if point_id is not None)

    def wait(self, end: End) -> str:
        """Returns when everything before `end` has reached the index, with an empty text; or with the reason why it has not."""
        deadline = time.monotonic() + self._options.wait_s
        for topics in (self._topics, *self._of_lookups):
            if problem := self._listened(topics, end, deadline):
                return problem
        return self._worked(deadline)

    def _listened(self, topics: Topics, end: End, deadline: float) -> str:
        with closing(StateWatch(self._kafka, topics)) as watch:
            watch.open()
            return self._until("listener", deadline, lambda: _passed(watch, end), lambda: leaders(self._kafka, topics))

    def _worked(self, deadline: float) -> str:
        """The ends are those of now: what the listeners have just written lies before them."""
        kafka, topics, generation = self._kafka, self._topics, self._generation
        ends = lane_ends(kafka, topics, generation)
        if self._of_lookups:
            of_lookups = [changes_ends(kafka, one) for one in self._of_lookups]
            ends[lookup_group(topics, generation)] = {place: end for one in of_lookups for place, end in one.items()}
        return self._until(
            "worker", deadline, lambda: groups_reached(kafka, ends), lambda: workers(kafka, topics, generation)
        )

    def _until(self, who: str, deadline: float, done: Callable[[], bool], hosts: Callable[[], Sequence[str]]) -> str:
        began = time.monotonic()
        while not done():
            now = time.monotonic()
            if now - began > SILENT_S and not hosts():
                return f"no {who} runs"
            if now > deadline:
                return f"the {who} has not come so far within {self._options.wait_s:g} s"
            if self._stop.wait(POLL_S):
                raise Stopping
        return ""

    def send_again(self, keys: Sequence[KeyValues]) -> str:
        """Has the running listener send these rows, newer than all that is stored. Returns why it did not, if it did not."""
        if keys and not leaders(self._kafka, self._topics):
            return NO_LISTENER
        quiet = Console(file=io.StringIO())
        for first in range(0, len(keys), MAX_IDS):
            chosen = selected(ids=keys[first : first + MAX_IDS])
            try:
                outcome = backfill(self._settings, chosen, self._options.chunk_rows, False, quiet, self._stop)
            except UsageError as error:  # another back-fill is paused, and would be forgotten
                return str(error)
            if self._stop:
                raise Stopping
            if not outcome.done:
                return "The back-fill that mends was paused"
        return ""


def _passed(watch: StateWatch, end: End) -> bool:
    """Has the listener written everything before `end` to the topic? Rows that its first snapshot has not come to are not there yet."""
    watch.look()
    if watch.state is None:
        return False
    state = from_json(watch.state)
    snapshot_done = state.snapshot is None or state.snapshot.selection is not None
    return snapshot_done and end.passed_by(state.position)
