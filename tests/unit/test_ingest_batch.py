"""What one Kafka transaction holds, and what the state says once it is written."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.batch import Batch
from ingest.entries import Author, Outbox
from ingest.gtid import DomainPositions
from ingest.position import Position, Snapshot, State, Unfinished
from ingest.rowimage import RowChange
from ingest.sequence import Sequence
from ingest.transactions import Transaction
from pixtail.core import changes as codec
from pixtail.core.changes import Change, Op, Source, Tombstone
from pixtail.core.errors import SourceError

FILE = "binlog.000001"
START = Position("0-1-1", FILE, 100)
LATER = Position("0-1-2", FILE, 200)
NOW_MS = 10


class Made:
    """A batch, and what it wrote when it was full: the keys of each time, and the state."""

    def __init__(self, saved: State | None = None, flush_rows: int = 3, partitions: int = 1) -> None:
        state = saved or State(START, 0)
        self.box = Outbox(partitions)
        self.box.now_ms = NOW_MS
        author = Author("pixtail", "shop", "images", ("id",), Sequence(state.seq))
        self.batch = Batch(author, self.box, state, DomainPositions(state.position.gtid or ""), flush_rows, self._write)
        self.written: list[tuple[list[bytes], State]] = []

    def _write(self) -> None:
        self.written.append((self.keys(), self.batch.state))
        self.batch.clear()

    def rows(self, *changes: RowChange, gtid: str | None = "0-1-2") -> None:
        self.batch.rows(Transaction(gtid, 1, 5), list(changes), FILE, 150, 10)

    def inserts(self, first: int, last: int, gtid: str | None = "0-1-2") -> None:
        self.rows(*[(None, {"id": n}) for n in range(first, last + 1)], gtid=gtid)

    def commit(self, gtid: str | None = "0-1-2") -> None:
        self.batch.committed(gtid, FILE, 200, 5)

    def keys(self) -> list[bytes]:
        return [key for lane in self.box.lanes for key, _, _ in lane]

    def seqs(self) -> list[int]:
        return [int(seq or 0) for lane in self.box.lanes for _, _, seq in lane]

    def values(self) -> list[bytes | None]:
        return [value for lane in self.box.lanes for _, value, _ in lane]


def test_an_empty_batch_says_what_was_saved() -> None:
    made = Made()
    assert made.batch.state == State(START, 0)
    assert made.batch.whole
    assert made.batch.empty


def test_every_record_has_a_seq_of_its_own() -> None:
    made = Made(flush_rows=100)
    made.rows(({"id": 1}, {"id": 2}))
    made.rows(({"id": 3}, None))
    assert made.keys() == [b'{"id":1}', b'{"id":1}', b'{"id":2}', b'{"id":3}', b'{"id":3}']
    assert made.seqs() == [(NOW_MS << 10) + n for n in range(5)]
    assert [value is None for value in made.values()] == [False, True, False, False, True]
    assert made.box.operations == {Op.DELETE: 2, Op.CREATE: 1}


def test_the_position_moves_when_the_transaction_ends() -> None:
    made = Made()
    made.inserts(1, 1)
    assert not made.batch.whole
    assert made.batch.state.position == START
    made.commit()
    assert made.batch.whole
    assert made.batch.state == State(LATER, NOW_MS << 10)


def test_small_transactions_are_never_cut() -> None:
    made = Made()
    made.inserts(1, 2)
    made.commit()
    made.inserts(3, 4, gtid="0-1-3")
    assert not made.written  # four rows, but no transaction of three
    made.commit("0-1-3")
    assert len(made.written) == 1
    assert made.batch.empty


def test_a_giant_transaction_is_cut_and_the_state_says_where() -> None:
    made = Made()
    made.inserts(1, 3)
    ((_, state),) = made.written
    assert (state.unfinished, state.position) == (Unfinished("0-1-2", 3), START)
    made.inserts(4, 5)
    assert len(made.written) == 1
    assert made.batch.state.unfinished == Unfinished("0-1-2", 5)
    made.commit()
    assert made.batch.state.unfinished is None


@pytest.mark.parametrize("gtid", ["0-1-2", None])
def test_the_rows_that_are_written_already_are_left_out(gtid: str | None) -> None:
    made = Made(State(START, 7, unfinished=Unfinished(gtid, 4)), flush_rows=100)
    made.inserts(1, 3, gtid)
    assert made.keys() == []
    made.inserts(4, 6, gtid)
    assert made.keys() == [b'{"id":5}', b'{"id":6}']
    assert b'"row":4' in (made.values()[0] or b"")
    made.commit(gtid)
    made.inserts(7, 7, gtid)
    assert made.keys()[-1] == b'{"id":7}'


def test_another_transaction_than_the_cut_one_is_not_shortened() -> None:
    saved = State(START, 7, unfinished=Unfinished("0-1-9", 4))
    made = Made(saved)
    made.inserts(1, 3)
    assert len(made.keys()) == 3
    assert not made.written  # the state could not hold two cut transactions
    made.commit()
    ((_, state),) = made.written
    assert state.unfinished == saved.unfinished


def test_transactions_of_other_tables_do_not_count_as_the_cut_one() -> None:
    made = Made(State(START, 7, unfinished=Unfinished(None, 1)))
    made.commit()
    assert made.batch.state.unfinished == Unfinished(None, 1)


def test_a_truncation_goes_to_each_partition_under_its_own_seq() -> None:
    made = Made(partitions=2)
    made.batch.truncated(Transaction("0-1-2", 1, 5), FILE, 150)
    assert [len(lane) for lane in made.box.lanes] == [1, 1]
    assert len(set(made.seqs())) == 2
    assert made.box.operations == {Op.TRUNCATE: 1}


def test_a_row_without_the_key_column_is_refused_by_name() -> None:
    change: tuple[Any, Any] = (None, {"number": 1})
    with pytest.raises(SourceError, match="column id"):
        Made().rows(change)


def test_the_last_row_of_a_snapshot_is_marked() -> None:
    made = Made()
    made.batch.add_chunk([{"id": 1}, {"id": 2}], Snapshot((2,), 2), "true")
    assert made.batch.state.snapshot == Snapshot((2,), 2)
    made.batch.add_chunk([{"id": 3}, {"id": 4}], None, "true")
    assert made.batch.state.snapshot is None
    marks = [orjson.loads(value or b"")["source"]["snapshot"] for value in made.values()]
    assert marks == ["true", "true", "true", "last"]


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)
ROWS = st.dictionaries(NAMES, st.none() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=9), max_size=3)


@given(
    names=st.tuples(NAMES, NAMES, NAMES),
    before=ROWS,
    after=ROWS,
    gtid=st.none() | st.just("3e11fa47-71ca-11e1-9e33-c80aa9429562:7"),
    numbers=st.tuples(st.integers(0, 2**32), st.integers(0, 2**32), st.integers(0, 2**20), st.integers(0, 2**41)),
)
def test_its_envelopes_are_those_of_the_codec(
    names: tuple[str, str, str], before: Any, after: Any, gtid: str | None, numbers: tuple[int, int, int, int]
) -> None:
    prefix, database, table = names
    server_id, pos, row, commit_ms = numbers
    before, after = before | {"id": 1}, after | {"id": 1}
    box = Outbox(1)
    box.now_ms = NOW_MS
    author = Author(prefix, database, table, ("id",), Sequence())
    author.add_rows(Transaction(gtid, server_id, commit_ms), "a%d.1", pos, [(before, after)], row, box)
    author.add_rows(Transaction(gtid, server_id, commit_ms), "a%d.1", pos, [(before, None)], row, box)
    seq, ts_ms = NOW_MS << 10, min(commit_ms, NOW_MS)
    source = Source(database, table, prefix, server_id, gtid, "a%d.1", pos, row, ts_ms)
    expected = [
        Change(Op.UPDATE, {"id": 1}, before, after, seq, source, NOW_MS),
        Change(Op.DELETE, {"id": 1}, before, None, seq + 1, source, NOW_MS),
        Tombstone({"id": 1}, seq + 2),
    ]
    records = [codec.encode(entry) for entry in expected]
    assert box.lanes[0] == [(record.key, record.value, dict(record.headers)["seq"]) for record in records]
