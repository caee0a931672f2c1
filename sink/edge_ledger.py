"""The tombstones of a collection of the embedded store: a table of SQLite beside its folder."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from pathlib import Path

from pixtail.core.points import Delete, PointId

_FLOOR = "*"  # the last TRUNCATE: no point has this id
_CREATE = "CREATE TABLE IF NOT EXISTS gone (id TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID"
_FIND = "SELECT id, seq FROM gone WHERE id IN (SELECT value FROM json_each(?))"
_PUT = "INSERT INTO gone VALUES (?, ?) ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq)"


class Ledger:
    """Which version of a row deleted it. Thread-safe; what was put is on the disk when the call returns. Raises `sqlite3.Error`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Does nothing if it is open."""
        with self._lock:
            if self._connection is not None:
                return
            connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(_CREATE)
            self._connection = connection

    def put(self, deletes: Iterable[Delete]) -> None:
        """A row that has one keeps the newer."""
        self._write((str(delete.id), delete.seq) for delete in deletes)

    def put_floor(self, seq: int) -> None:
        """Of every row, by a TRUNCATE."""
        self._write([(_FLOOR, seq)])

    def find(self, ids: Collection[PointId]) -> tuple[Mapping[PointId, int], int]:
        """The seqs of those rows that have a tombstone, and that of the last TRUNCATE (0: none)."""
        by_text = {str(point_id): point_id for point_id in ids}
        wanted = json.dumps([_FLOOR, *by_text])
        with self._lock, closing(self._require().cursor()) as cursor:
            found = dict(cursor.execute(_FIND, (wanted,)))
        floor = found.pop(_FLOOR, 0)
        return {by_text[text]: seq for text, seq in found.items()}, floor

    def forget(self, below: int) -> None:
        """Drops those with a lower seq."""
        with self._lock, self._require() as connection:
            connection.execute("DELETE FROM gone WHERE seq < ?", (below,))

    def copy_to(self, path: Path) -> None:
        """Writes them into a database of its own."""
        with self._lock, closing(sqlite3.connect(path)) as copy:
            self._require().backup(copy)

    def close(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _write(self, rows: Iterable[tuple[str, int]]) -> None:
        with self._lock, self._require() as connection:
            connection.execute("BEGIN")
            connection.executemany(_PUT, rows)

    def _require(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.ProgrammingError("the tombstones are not open")
        return self._connection
