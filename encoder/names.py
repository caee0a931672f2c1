"""A table that is looked up, kept in memory: which names stand for a key. Pure; no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeGuard

from pixtail.core.changes import Change, Op, Row, Tombstone
from pixtail.core.points import Payload, PointId, SetNames, lookup_version
from pixtail.core.settings import Lookup, Table

Value: TypeAlias = str | int | float
"""A key of the table, as it stands in the column that refers to it."""


def is_key(value: Any) -> TypeGuard[Value]:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Known:
    """What version `seq` of a row says; `names` are None each once it is gone. `turn`: when they became other names than before."""

    seq: int
    names: Payload
    turn: int


class NameTable:
    """The newest version of each row of a lookup's table: its key, the columns that are taken, and nothing else. For one thread."""

    def __init__(self, lookup: Lookup, table: Table) -> None:
        self.lookup = lookup
        self._column = table.point_name(lookup.column)
        self._version = lookup_version(lookup.table, lookup.column)
        self._nothing: Payload = dict.fromkeys(lookup.take.values())
        self._rows: dict[Value, Known] = {}

    def learn(self, entry: Change | Tombstone, turn: int) -> list[Value]:
        """Takes in a version of a row, or a TRUNCATE, and returns the keys that it is about; none if a newer version is known."""
        if isinstance(entry, Change) and entry.op is Op.TRUNCATE:
            return self._truncate(entry.seq, turn)
        key = entry.key.get(self.lookup.key)
        if not is_key(key) or (key in self._rows and entry.seq < self._rows[key].seq):
            return []
        self._put(key, entry.seq, self._names_of(entry), turn)
        return [key]

    def find(self, row: Row) -> Known | None:
        """What the row's key stands for; None if nothing was ever known of it."""
        key = row.get(self.lookup.column)
        return self._rows.get(key) if is_key(key) else None

    def changed_since(self, key: Value, turn: int) -> bool:
        return self._rows[key].turn > turn

    def payload(self, row: Row) -> dict[str, Any]:
        """The names that go into the row's point, and their version."""
        known = self.find(row)
        return {**self._nothing, self._version: None} if known is None else {**known.names, self._version: known.seq}

    def write(self, key: Value, *, again: bool = False, ids: Iterable[PointId] | None = None) -> SetNames:
        """What brings the names of a known key into the points; see `SetNames`."""
        known = self._rows[key]
        among = None if ids is None else frozenset(ids)
        return SetNames(self._column, key, known.names, self._version, known.seq, again, among)

    def _truncate(self, seq: int, turn: int) -> list[Value]:
        """It stands in every partition, behind the rows that it removes: of those that are read later, another copy will tell."""
        gone = [key for key, known in self._rows.items() if known.seq < seq]
        for key in gone:
            self._put(key, seq, self._nothing, turn)
        return gone

    def _put(self, key: Value, seq: int, names: Payload, turn: int) -> None:
        before = self._rows.get(key)
        unchanged = before is not None and before.names == names
        self._rows[key] = Known(seq, names, before.turn if before is not None and unchanged else turn)

    def _names_of(self, entry: Change | Tombstone) -> Payload:
        """A column that the row does not have is as good as NULL; `doctor` says so."""
        row = None if isinstance(entry, Tombstone) or entry.op is Op.DELETE else entry.after
        if not isinstance(row, Mapping):
            return self._nothing
        return {name: row.get(column) for column, name in self.lookup.take.items()}
