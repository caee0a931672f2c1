"""Rows in the order of their ids, whatever the order of their keys, in bounded memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import orjson

from sink.verify import Asked

CACHE_KB = 32_000
_BATCH = 1000


def in_id_order(rows: Iterable[Asked]) -> Iterator[Asked]:
    """Numbers as they come, which must be in order, and behind them the UUIDs, which are sorted in a temporary file.

    An unsigned integer key is its row's id: such a table costs nothing here. UUIDs are made of keys, in an order of their own. For one
    thread; the file is gone when the iterator is closed. It lies in SQLITE_TMPDIR, TMPDIR or /var/tmp, and has about 150 bytes per row.
    """
    with closing(sqlite3.connect("")) as file:  # the empty name: a file of SQLite's own, without a name
        file.execute(f"PRAGMA cache_size = -{CACHE_KB}")
        file.execute("CREATE TABLE rows (id TEXT, key BLOB, ref TEXT, columns BLOB, readable INT)")
        waiting: list[tuple[Any, ...]] = []
        for row in rows:
            if isinstance(row.id, int):
                yield row
                continue
            waiting.append((row.id, orjson.dumps(row.key), row.ref, row.columns, row.readable))
            if len(waiting) == _BATCH:
                _keep(file, waiting)
        _keep(file, waiting)
        for point_id, key, ref, columns, readable in file.execute("SELECT * FROM rows ORDER BY id"):
            yield Asked(point_id, tuple(orjson.loads(key)), ref, columns, bool(readable))


def _keep(file: sqlite3.Connection, waiting: list[tuple[Any, ...]]) -> None:
    file.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?)", waiting)
    waiting.clear()
