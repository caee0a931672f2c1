"""What goes into one Kafka transaction: whole MySQL transactions, or a piece of a giant one. Pure, but for the seqs drawn."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Listed

from ingest.entries import Author, Outbox
from ingest.gtid import Executed
from ingest.position import Position, Snapshot, State, Unfinished
from ingest.rowimage import RowChange, Values
from ingest.transactions import Transaction

MAX_BYTES = 8 << 20


class Batch:
    """A `Handler` of the stream: collects records in `box`, and knows the state that is true once they are written.

    `executed` grows with each transaction (None: the server has no GTIDs). Of a transaction whose first rows were written before
    (`saved.unfinished`) those rows are left out. It is recognised by its GTID; without GTIDs it is the first one that has rows. Whenever it
    is full it calls `write`, which must `clear` it.
    """

    def __init__(
        self,
        author: Author,
        box: Outbox,
        saved: State,
        executed: Executed | None,
        flush_rows: int,
        write: Callable[[], None],
    ) -> None:
        self.box = box
        self.commit_ms = 0  # of the last transaction
        self.snapshot = saved.snapshot
        self.request = saved.request
        self._author = author
        self._executed = executed
        self._write = write
        self._flush_rows = flush_rows
        self._file, self._pos = saved.position.file, saved.position.pos
        self._unfinished = saved.unfinished
        self._open: Transaction | None = None  # has rows, and its end has not come
        self._open_rows = 0  # of it, seen so far
        self._open_pending = 0  # of it, in this batch
        self._rows = self._bytes = 0
        self._begun_ms = 0  # when the first row came

    def rows(self, transaction: Transaction, changes: list[RowChange], file: str, pos: int, size_bytes: int) -> None:
        if self._open is None:
            self._open, self._open_rows, self._open_pending = transaction, 0, 0
        row = self._open_rows
        self._open_rows = row + len(changes)
        if self._unfinished is not None:
            skip = max(self._written_before() - row, 0)
            row, changes = row + skip, changes[skip:]
            if not changes:
                return
        self._author.add_rows(transaction, file, pos, changes, row, self.box)
        self._open_pending += len(changes)
        self._bytes += size_bytes
        self._count(len(changes))
        if self._open_pending >= self._flush_rows or self._bytes >= MAX_BYTES:
            self._write_if_full()

    def truncated(self, transaction: Transaction, file: str, pos: int) -> None:
        self._author.add_truncation(transaction, file, pos, self.box)
        self._count(1)

    def _written_before(self) -> int:
        return self._unfinished.rows if self._unfinished and self._is_unfinished() else 0

    def _is_unfinished(self) -> bool:
        """Is the open transaction the one of which rows were written before?"""
        if self._unfinished is None or self._open is None:
            return False
        return self._unfinished.gtid is None or self._unfinished.gtid == self._open.gtid

    def committed(self, gtid: str | None, file: str, pos: int, commit_ms: int) -> None:
        if self._unfinished is not None and self._is_unfinished():
            self._unfinished = None
        self._open = None
        self._file, self._pos, self.commit_ms = file, pos, commit_ms
        if gtid is not None and self._executed is not None:
            self._executed.add(gtid)
        if self._rows >= self._flush_rows or self._bytes >= MAX_BYTES:
            self._write_if_full()

    def add_chunk(self, rows: Listed[Values], snapshot: Snapshot | None, mark: str) -> None:
        """Rows that were read from the table, between two transactions; `snapshot` is how far that is now, None: at its end."""
        ends = snapshot is None and mark == "true"
        position = self.position
        self._author.add_chunk(rows[:-1] if ends else rows, position, mark, self.box)
        if ends:
            self._author.add_chunk(rows[-1:], position, "last", self.box)
        self.snapshot = snapshot
        self._count(max(len(rows), 1))

    def _write_if_full(self) -> None:
        if self.full:
            self._write()

    def _count(self, rows: int) -> None:
        if not self._rows:
            self._begun_ms = self.box.now_ms
        self._rows += rows

    @property
    def whole(self) -> bool:
        """Does it end where a transaction ends?"""
        return self._open is None

    @property
    def age_ms(self) -> int:
        """Of its oldest row."""
        return self.box.now_ms - self._begun_ms if self._rows else 0

    @property
    def empty(self) -> bool:
        return not self._rows

    @property
    def full(self) -> bool:
        """Must it be written now? A transaction is cut only if it is giant by itself."""
        if self._open is None:
            return self._rows >= self._flush_rows or self._bytes >= MAX_BYTES
        if self._unfinished is not None and not self._is_unfinished():
            return False  # the state has room for one cut transaction
        return self._open_pending >= self._flush_rows or self._bytes >= MAX_BYTES

    @property
    def position(self) -> Position:
        """The end of the last transaction."""
        return Position(None if self._executed is None else str(self._executed), self._file, self._pos)

    @property
    def state(self) -> State:
        """What is true once the records are written."""
        unfinished = self._unfinished if self._open is None else Unfinished(self._open.gtid, self._open_rows)
        return State(self.position, self._author.sequence.last, self.snapshot, unfinished, self.request)

    def clear(self) -> None:
        """The records are written."""
        if self._open is not None:
            self._unfinished = Unfinished(self._open.gtid, self._open_rows)
        self._open_pending = self._rows = self._bytes = 0
        self.box.clear()
