"""Between the stream and a snapshot of the same table: which rows of a chunk may still be written, and when. Pure, but for the reader.

The method is that of the DBLog paper (https://arxiv.org/abs/2010.12597): the stream never waits. A chunk's rows are the table at one moment
V. Everything that the stream had brought when the chunk was asked for is in V, and V is not behind the place `until`. So, once the stream
has reached `until`, a row that no event since the request was about is as new as the topic; any other one is in the topic already, newer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from ingest.batch import Batch
from ingest.chunks import Chunk
from ingest.position import Cursor, KeyValue, Place, Position, Snapshot
from ingest.rowimage import Values

MOST_CHANGED = 100_000  # keys remembered while a chunk is read; with more, it is read once more


class Reader(Protocol):
    """`ingest.chunks.ChunkReader`, or what stands in for it in a test."""

    def request(self, after: Cursor | KeyValue | None, not_before: Position, done: int = 0) -> None: ...

    def poll(self) -> Chunk | None: ...


class Interleaving:
    """One snapshot or back-fill. `note` is to be told of every key that the stream brings, `step` to be called between transactions.

    While one chunk waits for the stream, the next is read. For one thread.
    """

    def __init__(self, reader: Reader, snapshot: Snapshot, key_of: Callable[[Values], bytes]) -> None:
        self.snapshot = snapshot
        self.done = False
        self._reader = reader
        self._key_of = key_of
        self._after = snapshot.after  # behind the last chunk that came
        self._read = snapshot.rows  # up to there
        self._asked = False
        self._spoiled = False  # more keys changed than are remembered
        self._all_changed = False  # the table was emptied
        self._changed: set[bytes] = set()  # since the chunk was asked for
        self._chunk: Chunk | None = None
        self._rows: dict[bytes, Values] = {}  # of the chunk that has come, without those that changed since

    def note(self, key: bytes | None) -> None:
        """An event about a row, or (None) about all of them."""
        if key is None:
            self._rows.clear()
            self._all_changed = True
            return
        self._rows.pop(key, None)
        if len(self._changed) < MOST_CHANGED:
            self._changed.add(key)
        else:
            self._spoiled = True

    def step(self, batch: Batch, place: Place) -> bool:
        """Goes on as far as it can: `batch` ends where a transaction ends, and the stream stands at `place`. True if it did anything."""
        acted = not self._asked and not self._ends
        if acted:
            self._ask(batch, place)
        if self._chunk is None and self._asked and (chunk := self._reader.poll()) is not None:
            self._take(chunk, batch, place)
            acted = True
        if self._chunk is not None and place.reaches(self._chunk.until):
            self._give(self._chunk, batch)
            acted = True
        return acted

    @property
    def _mark(self) -> str:
        return "true" if self.snapshot.selection is None else "incremental"

    @property
    def _ends(self) -> bool:
        return self.done or (self._chunk is not None and self._chunk.last)

    def _ask(self, batch: Batch, place: Place) -> None:
        """The batch's file and offset may be another server's, from before a failover; the stream's are this one's."""
        self._changed.clear()
        self._asked, self._spoiled, self._all_changed = True, False, False
        self._reader.request(self._after, Position(batch.position.gtid, place.file, place.pos), self._read)

    def _take(self, chunk: Chunk, batch: Batch, place: Place) -> None:
        self._asked = False
        if self._spoiled:
            return
        rows = {} if self._all_changed else {self._key_of(values): values for values in chunk.rows}
        for key in self._changed & rows.keys():
            del rows[key]
        self._chunk, self._rows, self._after = chunk, rows, chunk.after
        self._read += len(chunk.rows)
        if not chunk.last:
            self._ask(batch, place)

    def _give(self, chunk: Chunk, batch: Batch) -> None:
        self.done = chunk.last
        self.snapshot = replace(self.snapshot, after=chunk.after, rows=self.snapshot.rows + len(chunk.rows))
        batch.add_chunk(list(self._rows.values()), None if chunk.last else self.snapshot, self._mark)
        self._chunk, self._rows = None, {}
