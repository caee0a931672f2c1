"""A model of everything that can happen between the topic and the index: workers that share partitions, lose them, die, and wake up late.

A worker's way is that of `encoder.worker`: collapse, look, plan, write, commit. It is cut into the steps between which anything may happen;
the decisions are the program's own. What a run does is a list of numbers, so that hypothesis can shrink it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from encoder.plan import Collapsed, Encode, PayloadOnly, Remove, Wanted, collapse, decide
from pixtail.core.changes import Change, Entry, Malformed, Op, Source, Tombstone
from pixtail.core.points import (
    Delete,
    PictureFacts,
    PointId,
    SetPayload,
    StoredPoint,
    Sync,
    Truncate,
    Upsert,
    Version,
    Write,
)
from pixtail.core.ports import VectorStore
from tests.support.points import DIMENSION

PARTITIONS = 2
KEYS = 2
PICTURES = ("a", "b", "broken")
MODEL = "f00d"
_SOURCE = Source("shop", "images")
_FACTS = PictureFacts("", 1, 1, "JPEG", 1)


@dataclass
class Row:
    picture: str
    title: str


@dataclass(frozen=True)
class Received:
    """A record of the topic."""

    entry: Entry
    offset: int


@dataclass
class Topic:
    """MySQL's table, and the records that the listener makes of its changes; `first_id` keeps runs apart that share a store."""

    first_id: int = 0
    rows: dict[int, Row] = field(default_factory=dict)
    partitions: list[list[Received]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS)])
    seq: int = 0

    def write(self, key: int, picture: str, title: str) -> None:
        op = Op.UPDATE if key in self.rows else Op.CREATE
        self.rows[key] = Row(picture, title)
        self._add(key, op)

    def read(self, key: int) -> None:
        """By a snapshot or a back-fill."""
        if key in self.rows:
            self._add(key, Op.READ)

    def delete(self, key: int) -> None:
        if self.rows.pop(key, None) is not None:
            self._put(key, Change(Op.DELETE, {"id": key}, {"id": key}, None, self._next(), _SOURCE))
            self._put(key, Tombstone({"id": key}, self._next()))

    def truncate(self) -> None:
        self.rows.clear()
        for partition in range(PARTITIONS):
            change = Change(Op.TRUNCATE, {"*": "truncate"}, None, None, self._next(), _SOURCE)
            self.partitions[partition].append(Received(change, len(self.partitions[partition])))

    def _add(self, key: int, op: Op) -> None:
        row = self.rows[key]
        after = {"id": key, "picture": row.picture, "title": row.title}
        self._put(key, Change(op, {"id": key}, None, after, self._next(), _SOURCE))

    def _next(self) -> int:
        self.seq += 1
        return self.seq

    def _put(self, key: int, entry: Entry) -> None:
        lane = self.partitions[key % PARTITIONS]
        lane.append(Received(entry, len(lane)))


Step = Iterator[None]


class Lane:
    """A consumer group: which worker owns a partition, and what is committed. `takes` says which records are this lane's."""

    def __init__(self, topic: Topic, store: VectorStore, takes: Callable[[Entry], bool]) -> None:
        self.topic = topic
        self.store = store
        self.takes = takes
        self.owner = [0] * PARTITIONS
        self.committed = [0] * PARTITIONS
        self.running: list[
            tuple[int, Step]
        ] = []  # (partition, what is left of a window), the owner's and the late ones'
        self.busy: set[int] = set()  # partitions whose owner has a window in hand

    def poll(self, partition: int, number: int) -> None:
        """The partition's owner takes some records, unless it has a window in hand."""
        start = self.committed[partition]
        window = self.topic.partitions[partition][start : start + number]
        if window and partition not in self.busy:
            self.busy.add(partition)
            self.running.append((partition, self._work(partition, self.owner[partition], window)))

    def step(self, which: int) -> None:
        """One of those that are at work goes on by a step."""
        if not self.running:
            return
        partition, steps = self.running[which % len(self.running)]
        if next(steps, "over") == "over":
            self.running.remove((partition, steps))

    def die(self, which: int) -> None:
        """A worker is killed, between any two steps."""
        if self.running:
            partition, _ = self.running.pop(which % len(self.running))
            self._give(partition)

    def rebalance(self, partition: int) -> None:
        """To a new owner, who begins where the last commit was; the former one may still be at work, and does not know."""
        self._give(partition)

    def _give(self, partition: int) -> None:
        self.owner[partition] += 1
        self.busy.discard(partition)

    def _work(self, partition: int, owner: int, window: Sequence[Received]) -> Step:
        mine = [received for received in window if self.takes(received.entry)]
        yield from work(self.store, collapse(mine), self.topic.first_id)
        if self.owner[partition] == owner:
            self.committed[partition] = window[-1].offset + 1
            self.busy.discard(partition)

    def drain(self) -> None:
        """Until everything is committed, without those who are late."""
        late = [one for one in self.running if one[0] not in self.busy]
        self.running = [one for one in self.running if one not in late]
        while self.running:
            self.step(0)
        for partition in range(PARTITIONS):
            while self.committed[partition] < len(self.topic.partitions[partition]):
                self.poll(partition, 3)
                while self.running:
                    self.step(0)
        self.running = late


def work(store: VectorStore, window: Collapsed[Received], first_id: int) -> Step:
    """What the worker does with a window; anything may happen wherever it yields."""
    if window.truncate_seq:
        store.apply([Truncate(window.truncate_seq)])
        yield
    entries = [received.entry for received in window.newest if not isinstance(received.entry, Malformed)]
    ids = [first_id + entry.key["id"] for entry in entries]
    stored = store.versions(ids)
    yield
    for point_id, entry in zip(ids, entries, strict=True):
        for write in _writes(point_id, entry, stored.get(point_id)):
            yield from _write(store, write)


def _writes(point_id: PointId, entry: Change | Tombstone, stored: Version) -> Iterator[Write]:
    match decide(entry.seq, _wanted(entry), stored, MODEL):
        case Remove():
            yield Delete(point_id, entry.seq)
        case PayloadOnly(asked, version):
            yield SetPayload(point_id, asked.payload, _sync(entry.seq, asked.ref), version.seq)
        case Encode(asked, _):
            yield encoded(point_id, entry.seq, asked)


def _write(store: VectorStore, write: Write) -> Step:
    """Columns that found no point, or another one than was seen, go with a picture after all."""
    stale = store.apply([write]).stale
    yield
    if isinstance(write, SetPayload) and not stale:
        found = store.versions([write.id]).get(write.id)
        yield
        if not isinstance(found, Sync) or found.seq < write.seq:
            store.apply([encoded(write.id, write.seq, Wanted(write.sync.ref, write.payload))])
            yield


def encoded(point_id: PointId, seq: int, wanted: Wanted) -> Write:
    """A picture that cannot be decoded takes the point away."""
    if wanted.ref == "broken":
        return Delete(point_id, seq)
    return Upsert(point_id, vector_of(wanted.ref), wanted.payload, _sync(seq, wanted.ref))


def vector_of(ref: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    vector = np.zeros(DIMENSION, np.float32)
    vector[PICTURES.index(ref)] = 1
    return vector


def _wanted(entry: Entry) -> Wanted | Remove:
    if not isinstance(entry, Change) or entry.after is None:
        return Remove("deleted")
    return Wanted(entry.after["picture"], {"title": entry.after["title"]})


def _sync(seq: int, ref: str) -> Sync:
    return Sync(seq, ref, MODEL, _FACTS, "")


def is_backlog(entry: Entry) -> bool:
    return isinstance(entry, Change) and entry.op is Op.READ


MOVES = (
    ("write",) * 4 + ("delete", "read", "truncate") + ("poll",) * 4 + ("step",) * 8 + ("die", "rebalance", "rebalance")
)
Move: TypeAlias = tuple[str, int, int]
"""What happens, and two numbers that say to whom and how."""


def play(store: VectorStore, moves: Sequence[Move], first_id: int = 0) -> Topic:
    """Does the moves, then lets everybody finish, in the end those who are late. The store must then show `rows`."""
    topic = Topic(first_id)
    live = Lane(topic, store, lambda entry: not is_backlog(entry))
    backlog = Lane(topic, store, is_backlog)
    for what, number, other in moves:
        if what in ("write", "delete", "read", "truncate"):
            _change(topic, what, number % KEYS, other)
        else:
            _go_on((live, live, backlog)[other % 3], what, number, 1 + other // 3 % 3)
    for lane in (live, backlog):
        lane.drain()
    for lane in (backlog, live):
        while lane.running:
            lane.step(0)
    return topic


def _change(topic: Topic, what: str, key: int, other: int) -> None:
    match what:
        case "write":
            topic.write(key, PICTURES[other // 2 % len(PICTURES)], f"t{other % 2}")
        case "delete":
            topic.delete(key)
        case "read":
            topic.read(key)
        case _:
            topic.truncate()


def _go_on(lane: Lane, what: str, number: int, records: int) -> None:
    match what:
        case "poll":
            lane.poll(number % PARTITIONS, records)
        case "step":
            lane.step(number)
        case "die":
            lane.die(number)
        case _:
            lane.rebalance(number % PARTITIONS)


def differences(store: VectorStore, topic: Topic) -> list[str]:
    """What the index shows otherwise than the table."""
    points = {point.id: point for point in store.get([topic.first_id + key for key in range(KEYS)], with_vectors=True)}
    found = []
    for key in range(KEYS):
        row, point = topic.rows.get(key), points.get(topic.first_id + key)
        if not _agree(None if row is None or row.picture == "broken" else row, point):
            found.append(f"row {key} is {row}, its point {point}")
    return found


def _agree(row: Row | None, point: StoredPoint | None) -> bool:
    if row is None or point is None:
        return row is point is None
    return point.payload == {"title": row.title} and np.allclose(point.vector or 0, vector_of(row.picture), atol=1e-5)
