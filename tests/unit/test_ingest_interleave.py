"""A snapshot between the events of a stream: whatever the interleaving, the newest record of each key is the table's row."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import interleave
from ingest.batch import Batch
from ingest.chunks import Chunk
from ingest.entries import Author, Outbox
from ingest.interleave import Interleaving
from ingest.position import Cursor, KeyValue, Place, Position, Snapshot, State
from ingest.selection import Selection
from ingest.sequence import Sequence
from ingest.transactions import Transaction

FILE = "binlog.000001"
KEYS = 6
Table = dict[int, int]
Step = tuple[str, int, int]


class Database:
    """A table, and the stream of its changes: one transaction each, `pos` counts them."""

    def __init__(self, rows: Table) -> None:
        self.versions = [dict(rows)]  # the table after each transaction
        self.stream: list[list[Step]] = []

    def change(self, step: Step) -> None:
        kind, key, value = step
        table = dict(self.versions[-1])
        if kind == "truncate":
            table.clear()
        elif kind == "put":
            table[key] = value
        elif table.pop(key, None) is None:
            return
        self.versions.append(table)
        self.stream.append([step])

    @property
    def pos(self) -> int:
        return len(self.stream)


class Reader:
    """Reads two rows at a time; `answer` says as of when, and how far the binlog was then."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.asked: tuple[Any, int] | None = None
        self.chunk: Chunk | None = None

    def request(self, after: Cursor | KeyValue | None, not_before: Position, done: int = 0) -> None:
        assert self.asked is None
        assert self.chunk is None
        self.asked = (after, not_before.pos)

    def answer(self, view: int, until: int) -> None:
        if self.asked is None:
            return
        after, not_before = self.asked
        now = self.database.pos
        view = max(not_before, min(view, now))
        until = max(view, min(until, now))
        table = self.database.versions[view]
        keys = sorted(key for key in table if after is None or key > after[0])
        rows = [{"id": key, "n": table[key]} for key in keys[:2]]
        behind = (keys[:2][-1],) if rows else after
        self.chunk, self.asked = Chunk(rows, behind, len(keys) <= 2, Place(FILE, until)), None

    def poll(self) -> Chunk | None:
        chunk, self.chunk = self.chunk, None
        return chunk


class Run:
    """The stream, the reader and the interleaving, moved step by step."""

    def __init__(self, rows: Table) -> None:
        self.database = Database(rows)
        self.reader = Reader(self.database)
        self.box = Outbox(1)
        self.author = Author("p", "shop", "images", ("id",), Sequence())
        state = State(Position(None, FILE, 0), 0, Snapshot())
        self.batch = Batch(self.author, self.box, state, None, 10_000, lambda: None)
        self.interleaving = Interleaving(self.reader, Snapshot(), self.author.key_of)
        self.box.note = self.interleaving.note
        self.pos = 0

    def read_stream(self) -> None:
        if self.pos == self.database.pos:
            return
        before, after = self.database.versions[self.pos], self.database.versions[self.pos + 1]
        ((kind, key, _),) = self.database.stream[self.pos]
        self.pos += 1
        transaction = Transaction(None, 1, 0)
        if kind == "truncate":
            self.batch.truncated(transaction, FILE, self.pos)
        else:
            images = [None if key not in table else {"id": key, "n": table[key]} for table in (before, after)]
            self.batch.rows(transaction, [(images[0], images[1])], FILE, self.pos, 1)
        self.batch.committed(None, FILE, self.pos, 0)

    def step(self) -> bool:
        return self.interleaving.step(self.batch, Place(FILE, self.pos))

    def finish(self) -> None:
        for _ in range(1000):
            self.read_stream()
            self.reader.answer(self.database.pos, self.database.pos)
            if not self.step() and self.interleaving.done and self.pos == self.database.pos:
                return
        raise AssertionError("it does not end")

    def topic(self) -> list[tuple[int | None, int | None, str]]:
        """Key (None: all), the row's value (None: it is gone) and the operation, in order."""
        found = []
        for key, value, _ in self.box.lanes[0]:
            body = orjson.loads(value) if value else {"after": None, "op": ""}
            found.append((orjson.loads(key).get("id"), body["after"] and body["after"]["n"], body["op"]))
        return found


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, KEYS), st.integers(0, 99)),
        st.tuples(st.just("delete"), st.integers(1, KEYS), st.just(0)),
        st.tuples(st.just("truncate"), st.just(0), st.just(0)),
        st.tuples(st.just("stream"), st.just(0), st.just(0)),
        st.tuples(st.just("answer"), st.integers(0, 40), st.integers(0, 40)),
        st.tuples(st.just("step"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=400)
@given(rows=st.dictionaries(st.integers(1, KEYS), st.integers(0, 99)), steps=STEPS)
def test_whatever_the_interleaving_the_topic_ends_as_the_table(rows: Table, steps: list[Step]) -> None:
    run = Run(rows)
    for kind, one, other in steps:
        if kind == "stream":
            run.read_stream()
        elif kind == "answer":
            run.reader.answer(one, other)
        elif kind == "step":
            run.step()
        else:
            run.database.change((kind, one, other))
    run.finish()
    state: Table = {}
    for key, value, op in run.topic():
        if op == "t":
            state.clear()
        elif value is None:
            state.pop(key or 0, None)
        else:
            # A row that is read never turns back what the stream has said of it.
            assert op != "r" or state.get(key or 0, value) == value
            state[key or 0] = value
    assert state == run.database.versions[-1]


def test_with_more_changes_than_are_remembered_the_chunk_is_read_again(monkeypatch: Any) -> None:
    monkeypatch.setattr(interleave, "MOST_CHANGED", 1)
    run = Run({1: 1, 2: 2})
    run.step()  # asks
    for value in (10, 20):
        run.database.change(("put", value // 10, value))
        run.read_stream()
    run.reader.answer(0, 0)
    run.step()
    assert run.interleaving.snapshot.rows == 0
    run.finish()
    assert run.topic() == [(1, 10, "u"), (2, 20, "u"), (1, 10, "r"), (2, 20, "r")]


def test_a_back_fill_is_marked_as_one() -> None:
    run = Run({1: 1})
    run.interleaving.snapshot = Snapshot(selection=Selection())
    run.finish()
    assert [orjson.loads(value or b"")["source"]["snapshot"] for _, value, _ in run.box.lanes[0]] == ["incremental"]
