"""Names from other tables in the points: `brand_name` for what `brand_id` says, and another one when the brand is renamed.

Each worker reads the lookups' topics from their start into memory, and gives the points that it writes the names that it knows. A lookup's
row that comes later, or changes, or goes, is one write by filter: its names, in all points that show its key (`SetNames`).

Why every point ends with the newest names, whatever the number of workers, and whenever any of them dies, freezes or wakes up late:

1. Names have a version, the seq of the lookup's row, and it stands in the point. A write by filter leaves newer names alone, so one that
   is late does no harm.
2. A row may be written with names that have just become old. So, before a window is committed, the topics are read to their end once more,
   and what changed since the window began is mended in the window's points. What is committed had the names that were newest at some
   moment after it was written.
3. A change that comes after that moment is written by filter by somebody, once at least, after it came. The offset behind which this is
   still to be done is committed in a group of its own, by whoever has done it up to there; the next start goes on from there.
4. A worker that dies before it commits leaves rows that another one does again, and finds done: `unchanged`, or `stale`. Their names may
   still be the dead one's, so they are mended as in 2.

A row without names is no error: the lookup's row may not be there yet.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Protocol, TypeAlias

import structlog

from encoder.held_store import HeldStore
from encoder.names import NameTable, Value, is_key
from encoder.rows import Done
from pixtail.bus.lookups import LookedUp
from pixtail.core.changes import Change, Malformed, Row
from pixtail.core.points import PointId
from pixtail.core.settings import Table

# A store without an index of the column reads all points for one write: what is live must not wait for hundreds of them.
TURN_S = 0.25
MOST_WRITES = 256
# Kafka forgets the offsets of a group without members a week after the last commit.
REMEMBER_S = 3600.0

Place: TypeAlias = tuple[NameTable, Value]


class LookupChanges(Protocol):
    """What is needed of `pixtail.bus.lookups.LookupTopics`."""

    def open(self) -> None: ...
    def read(self) -> list[LookedUp]: ...
    def commit(self) -> None: ...
    def close(self) -> None: ...


class Lookups:
    """The names that the settings of `table` ask for. `topics` None: they ask for none. For one thread.

    Raises `BusUnreachable` from all that reads; then `open` it anew.
    """

    def __init__(self, table: Table, topics: LookupChanges | None) -> None:
        self._table = table
        self._topics = topics
        self._tables: list[NameTable] = []
        self._turn = 0
        self._pending: dict[Place, bool] = {}  # still to be written by filter; the flag: points of the same version too
        self._remembered_at = 0.0
        self._news = False  # since the last commit

    def open(self) -> None:
        """Reads everything. What the index has not followed yet becomes pending."""
        if self._topics is None:
            return
        self._tables = [NameTable(lookup, self._table) for lookup in self._table.lookups]
        self._pending.clear()
        self._turn, self._remembered_at = 0, 0.0
        self._topics.open()
        for record in self._topics.read():
            places = self._learn(record)
            if not record.followed:
                self._pending.update(dict.fromkeys(places, True))
        structlog.get_logger().info("lookups are read", tables=len(self._tables), to_write=len(self._pending))

    def close(self) -> None:
        if self._topics is not None:
            self._topics.close()

    def names(self, row: Row) -> dict[str, object]:
        """What goes into the row's point beside its columns."""
        return {name: value for table in self._tables for name, value in table.payload(row).items()}

    @property
    def turn(self) -> int:
        """A number that grows with every look at the topics. To be noted when a window begins, for `mend`."""
        return self._turn

    @property
    def behind(self) -> bool:
        """True while something is pending."""
        return bool(self._pending)

    def mend(self, store: HeldStore, done: Iterable[Done], begun: int) -> None:
        """Looks for changes, and gives the points of rows that were written with older names the newest. `begun`: the `turn` at which their
        window did. To be called between the writing and the commit."""
        self.look()
        ids: dict[Place, list[PointId]] = defaultdict(list)
        for one in done:
            for place in self._suspects(one, begun):
                ids[place].append(one.row.id)
        store.apply([table.write(key, ids=among) for (table, key), among in ids.items()])

    def tick(self, store: HeldStore) -> None:
        """Looks for changes, and writes some of what is pending. To be called again and again."""
        if self._topics is None:
            return
        self.look()
        if self._pending and not store.count():
            self._pending.clear()  # no point has old names, and what is written from now on has these
        self._write(store)
        self._remember(self._topics)

    def _write(self, store: HeldStore) -> None:
        """As much as a turn has time for: one write at first, then more and more at once."""
        ends_at, number = time.monotonic() + TURN_S, 1
        while self._pending:
            places = list(islice(self._pending.items(), number))
            store.apply([table.write(key, again=again) for (table, key), again in places])
            for place, _ in places:
                del self._pending[place]
            if time.monotonic() >= ends_at:
                return
            number = min(2 * number, MOST_WRITES)

    def _remember(self, topics: LookupChanges) -> None:
        due = self._news or time.monotonic() - self._remembered_at > REMEMBER_S
        if due and not self._pending:
            topics.commit()
            self._news, self._remembered_at = False, time.monotonic()

    def look(self) -> None:
        """Looks for changes; `names` are the newest then."""
        if self._topics is None:
            return
        self._turn += 1
        for record in self._topics.read():
            for place in self._learn(record):
                table, key = place
                if table.changed_since(key, self._turn - 1):
                    self._pending.setdefault(place, False)

    def _learn(self, record: LookedUp) -> list[Place]:
        self._news = True
        if isinstance(record.entry, Malformed):
            structlog.get_logger().warning(
                "a lookup's record is unreadable", table=record.table, problem=record.entry.problem
            )
            return []
        tables = [table for table in self._tables if table.lookup.table == record.table]
        return [(table, key) for table in tables for key in table.learn(record.entry, self._turn)]

    def _suspects(self, done: Done, begun: int) -> Iterator[Place]:
        """The keys whose names in the row's point may be old: those that changed meanwhile, and all where somebody else was quicker."""
        entry = done.row.entry
        if not isinstance(entry, Change) or entry.after is None or done.outcome == "deleted":
            return
        for table in self._tables:
            key, known = entry.after.get(table.lookup.column), table.find(entry.after)
            if known is not None and is_key(key) and (done.outcome in ("unchanged", "stale") or known.turn > begun):
                yield table, key
