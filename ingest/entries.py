"""From row changes to the entries of the topic. Pure, but for the seqs it draws."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from ingest.sequence import Sequence
from ingest.transactions import AGAIN, RowChange, Rows, Truncated, Values
from pixtail.core.changes import TRUNCATE_KEY, Change, Key, Op, Source, Tombstone
from pixtail.core.errors import SourceError

Entry: TypeAlias = Change | Tombstone


@dataclass(frozen=True, slots=True)
class Author:
    """Makes entries of one table; each has a seq of its own, tombstones too."""

    prefix: str
    database: str
    table: str
    key: str
    sequence: Sequence

    def of_rows(self, part: Rows, first_row: int, skip: int, now_ms: int) -> Iterator[Entry]:
        """The entries of a part whose first row change is number `first_row` of its transaction, without the first `skip`."""
        source = self._source(part, now_ms)
        for offset, change in enumerate(part.changes[skip:], first_row + skip):
            yield from self._of_change(change, replace(source, row=offset), now_ms)

    def _of_change(self, change: RowChange, source: Source, now_ms: int) -> Iterator[Entry]:
        """A changed primary key is another row: the old one goes, the new one comes."""
        before, after = change
        old, new = self._key(before), self._key(after)
        if old is not None and old != new:
            yield Change(Op.DELETE, old, before, None, self.sequence.next(), source, now_ms)
            yield Tombstone(old, self.sequence.next())
        if new is not None and old == new:
            yield Change(Op.UPDATE, new, before, after, self.sequence.next(), source, now_ms)
        elif new is not None:
            yield Change(Op.CREATE, new, None, after, self.sequence.next(), source, now_ms)

    def of_truncation(self, part: Truncated, partitions: int, now_ms: int) -> Iterator[Entry]:
        """One for each partition: the same key everywhere, so the caller says where each goes."""
        source = self._source(part, now_ms)
        for _ in range(partitions):
            yield Change(Op.TRUNCATE, TRUNCATE_KEY, None, None, self.sequence.next(), source, now_ms)

    def of_snapshot(self, rows: Iterable[Values], source: Source, *, last: bool, now_ms: int) -> Iterator[Entry]:
        """The entries of a chunk; with `last`, its last row ends the snapshot."""
        for values, is_last in _with_last(rows, last):
            marked = replace(source, snapshot="last" if is_last else "true", ts_ms=now_ms)
            key = self._key(values)
            assert key is not None
            yield Change(Op.READ, key, None, values, self.sequence.next(), marked, now_ms)

    def _key(self, values: Values | None) -> Key | None:
        if values is None:
            return None
        if self.key not in values:
            raise SourceError(
                f"{self.database}.{self.table} had no column {self.key} when a row was written",
                f"Correct table.key; {AGAIN}",
            )
        return {self.key: values[self.key]}

    def _source(self, part: Rows | Truncated, now_ms: int) -> Source:
        return Source(
            db=self.database,
            table=self.table,
            name=self.prefix,
            server_id=part.transaction.server_id,
            gtid=part.transaction.gtid,
            file=part.file,
            pos=part.pos,
            ts_ms=min(part.transaction.commit_ms, now_ms),
        )


def _with_last(rows: Iterable[Values], last: bool) -> Iterator[tuple[Values, bool]]:
    listed = list(rows)
    return ((values, last and index == len(listed)) for index, values in enumerate(listed, 1))
