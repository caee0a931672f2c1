"""What goes into one Kafka transaction: whole MySQL transactions, or a piece of a giant one. Pure, but for the seqs drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from ingest.entries import Author, Entry
from ingest.position import State, Unfinished
from ingest.sequence import now_ms
from ingest.transactions import Committed, Rows, Transaction, Truncated
from pixtail.core.changes import Change, Op, Record, encode

MAX_BYTES = 8 << 20


class Batch:
    """Collects records, and knows the state that is true once they are written.

    Of a transaction whose first rows were written before (`saved.unfinished`) those rows are left out. It is recognised by its GTID;
    without GTIDs it is the first one that has rows.
    """

    def __init__(
        self, author: Author, partitions: int, saved: State, flush_rows: int, clock_ms: Callable[[], int] = now_ms
    ) -> None:
        self._author = author
        self._partitions = partitions
        self._flush_rows = flush_rows
        self._clock_ms = clock_ms
        self._position = saved.position
        self._unfinished = saved.unfinished
        self._open: Transaction | None = None  # has rows, and its end has not come
        self._open_rows = 0  # of it, seen so far
        self._open_pending = 0  # of it, in this batch
        self._rows = self._bytes = 0
        self.records: list[Record] = []
        self.operations: Counter[Op] = Counter()

    def add_rows(self, part: Rows) -> None:
        if self._open is None:
            self._open, self._open_rows, self._open_pending = part.transaction, 0, 0
        skip = min(max(self._written_before() - self._open_rows, 0), len(part.changes))
        self._add(self._author.of_rows(part, self._open_rows, skip, self._clock_ms()))
        added = len(part.changes) - skip
        self._open_rows += len(part.changes)
        self._open_pending += added
        self._rows += added
        self._bytes += part.size_bytes if added else 0

    def _written_before(self) -> int:
        return self._unfinished.rows if self._unfinished and self._is_unfinished() else 0

    def _is_unfinished(self) -> bool:
        """Is the open transaction the one of which rows were written before?"""
        if self._unfinished is None or self._open is None:
            return False
        return self._unfinished.gtid is None or self._unfinished.gtid == self._open.gtid

    def add_truncation(self, part: Truncated) -> None:
        entries = self._author.of_truncation(part, self._partitions, self._clock_ms())
        self.records += [replace(encode(entry), partition=partition) for partition, entry in enumerate(entries)]
        self.operations[Op.TRUNCATE] += 1
        self._rows += 1

    def _add(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.records.append(encode(entry))
            if isinstance(entry, Change):
                self.operations[entry.op] += 1

    def add_commit(self, part: Committed) -> None:
        """The end of a transaction, of whatever table."""
        if self._is_unfinished():
            self._unfinished = None
        self._open = None
        self._position = part.position

    @property
    def whole(self) -> bool:
        """Does it end where a transaction ends?"""
        return self._open is None

    @property
    def full(self) -> bool:
        """Must it be written now? A transaction is cut only if it is giant by itself."""
        if self.whole:
            return self._rows >= self._flush_rows or self._bytes >= MAX_BYTES
        if self._unfinished is not None and not self._is_unfinished():
            return False  # the state has room for one cut transaction
        return self._open_pending >= self._flush_rows or self._bytes >= MAX_BYTES

    @property
    def state(self) -> State:
        """What is true once the records are written."""
        unfinished = self._unfinished if self._open is None else Unfinished(self._open.gtid, self._open_rows)
        return State(self._position, self._author.sequence.last, unfinished=unfinished)

    def clear(self) -> None:
        """The records are written."""
        self._unfinished = self.state.unfinished
        self._open_pending = self._rows = self._bytes = 0
        self.records = []
        self.operations.clear()
