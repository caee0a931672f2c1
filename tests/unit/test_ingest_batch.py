"""What one Kafka transaction holds, and what the state says once it is written."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.batch import Batch
from ingest.entries import Author
from ingest.position import Position, State, Unfinished
from ingest.sequence import Sequence
from ingest.transactions import Committed, RowChange, Rows, Transaction, Truncated
from pixtail.core.changes import Op
from pixtail.core.errors import SourceError

START = Position("0-1-1", "binlog.000001", 100)
LATER = Position("0-1-2", "binlog.000001", 200)
NOW_MS = 10


def transaction(gtid: str | None = "0-1-2") -> Transaction:
    return Transaction(gtid, 1, 5)


def rows(*changes: RowChange, gtid: str | None = "0-1-2") -> Rows:
    return Rows(transaction(gtid), list(changes), "binlog.000001", 150, 10)


def inserts(first: int, last: int, gtid: str | None = "0-1-2") -> Rows:
    return rows(*[(None, {"id": n}) for n in range(first, last + 1)], gtid=gtid)


def batch(saved: State | None = None, flush_rows: int = 3) -> Batch:
    state = saved or State(START, 0)
    author = Author("pixtail", "shop", "images", "id", Sequence(state.seq, lambda: NOW_MS))
    return Batch(author, 2, state, flush_rows, lambda: NOW_MS)


def keys(made: Batch) -> list[bytes]:
    return [record.key for record in made.records]


def seqs(made: Batch) -> list[int]:
    return [int(dict(record.headers)["seq"]) for record in made.records]


def test_an_empty_batch_says_what_was_saved() -> None:
    assert batch().state == State(START, 0)
    assert batch().whole
    assert not batch().full


def test_every_record_has_a_seq_of_its_own() -> None:
    made = batch()
    made.add_rows(rows(({"id": 1}, {"id": 2}), ({"id": 3}, None)))
    assert keys(made) == [b'{"id":1}', b'{"id":1}', b'{"id":2}', b'{"id":3}', b'{"id":3}']
    assert seqs(made) == [(NOW_MS << 10) + n for n in range(5)]
    assert [record.value is None for record in made.records] == [False, True, False, False, True]
    assert made.operations == {Op.DELETE: 2, Op.CREATE: 1}


def test_the_position_moves_when_the_transaction_ends() -> None:
    made = batch()
    made.add_rows(inserts(1, 1))
    assert not made.whole
    assert made.state.position == START
    made.add_commit(Committed(LATER, 5))
    assert made.whole
    assert made.state == State(LATER, NOW_MS << 10)


def test_small_transactions_are_never_cut() -> None:
    made = batch()
    made.add_rows(inserts(1, 2))
    made.add_commit(Committed(LATER, 5))
    made.add_rows(inserts(3, 4, gtid="0-1-3"))
    assert not made.full  # four rows, but no transaction of three
    made.add_commit(Committed(LATER, 5))
    assert made.full


def test_a_giant_transaction_is_cut_and_the_state_says_where() -> None:
    made = batch()
    made.add_rows(inserts(1, 3))
    assert made.full
    assert made.state.unfinished == Unfinished("0-1-2", 3)
    assert made.state.position == START
    made.clear()
    made.add_rows(inserts(4, 5))
    assert not made.full
    assert made.state.unfinished == Unfinished("0-1-2", 5)
    made.add_commit(Committed(LATER, 5))
    assert made.state.unfinished is None


@pytest.mark.parametrize("gtid", ["0-1-2", None])
def test_the_rows_that_are_written_already_are_left_out(gtid: str | None) -> None:
    made = batch(State(START, 7, unfinished=Unfinished(gtid, 4)))
    made.add_rows(inserts(1, 3, gtid))
    assert made.records == []
    made.add_rows(inserts(4, 6, gtid))
    assert keys(made) == [b'{"id":5}', b'{"id":6}']
    assert b'"row":4' in (made.records[0].value or b"")
    made.add_commit(Committed(LATER, 5))
    made.add_rows(inserts(7, 7, gtid))
    assert keys(made)[-1] == b'{"id":7}'


def test_another_transaction_than_the_cut_one_is_not_shortened() -> None:
    saved = State(START, 7, unfinished=Unfinished("0-1-9", 4))
    made = batch(saved)
    made.add_rows(inserts(1, 3))
    assert len(made.records) == 3
    assert not made.full  # the state could not hold two cut transactions
    made.add_commit(Committed(LATER, 5))
    assert made.full
    assert made.state.unfinished == saved.unfinished


def test_transactions_of_other_tables_do_not_count_as_the_cut_one() -> None:
    made = batch(State(START, 7, unfinished=Unfinished(None, 1)))
    made.add_commit(Committed(LATER, 5))
    assert made.state.unfinished == Unfinished(None, 1)


def test_a_truncation_goes_to_each_partition_by_name() -> None:
    made = batch()
    made.add_truncation(Truncated(transaction(), "binlog.000001", 150))
    assert [record.partition for record in made.records] == [0, 1]
    assert len(set(seqs(made))) == 2
    assert made.operations == {Op.TRUNCATE: 1}


def test_a_row_without_the_key_column_is_refused_by_name() -> None:
    change: tuple[Any, Any] = (None, {"number": 1})
    with pytest.raises(SourceError, match="column id"):
        batch().add_rows(rows(change))
