"""A model of rows and lookups that change while workers write points, lose their partition, die, and wake up late.

A worker's way is that of `encoder.worker`; the decisions and all that concerns lookups are the program's own. Each worker is a thread that
stops at every step, before each word with store or Kafka, and goes on when it is told to: a run is a list of numbers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from encoder.fakes import FakeLookups, LookupLog
from encoder.lookups import Lookups
from encoder.mapping import wanted
from encoder.plan import Encode, Nothing, PayloadOnly, Remove, decide
from encoder.rows import Done, Outcome, Row
from pixtail.bus.consumer import Consumed
from pixtail.bus.lookups import LookedUp
from pixtail.core.changes import Change, Op, Source, Tombstone
from pixtail.core.points import Delete, PictureFacts, SetPayload, Sync, Upsert, Version, Write
from pixtail.core.ports import Applied, VectorStore
from pixtail.core.settings import Lookup, Table
from tests.support.points import direction

ROWS = 2
KEYS = 2
MODEL = "f00d"
LOOKUPS = (
    Lookup(table="brands", column="brand_id", take={"name": "brand_name"}),
    Lookup(table="brands", column="maker_id", take={"name": "maker_name"}),
)
TABLE = Table(lookups=LOOKUPS, rename={})
_FACTS = PictureFacts("", 1, 1, "JPEG", 1)
_PATIENCE_S = 30.0


@dataclass
class World:
    """MySQL's two tables, the topics of their changes, and what the workers' groups have committed. `first_id` keeps runs apart that share
    a store."""

    first_id: int = 0
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    brands: dict[int, str] = field(default_factory=dict)
    topic: list[Change | Tombstone] = field(default_factory=list)
    log: LookupLog = field(default_factory=LookupLog)
    committed: int = 0
    owner: object = None
    seq: int = 0

    def write(self, number: int, brand: int, maker: int) -> None:
        op = Op.UPDATE if number in self.rows else Op.CREATE
        row = {"id": number, "file_path": "a.jpg", "brand_id": brand, "maker_id": maker}
        self.rows[number] = row
        self.topic.append(Change(op, {"id": number}, None, row, self._next(), Source("shop", "images")))

    def delete(self, number: int) -> None:
        if self.rows.pop(number, None):
            self.topic.append(Change(Op.DELETE, {"id": number}, None, None, self._next(), Source("shop", "images")))

    def name(self, key: int, name: str | None) -> None:
        if name is not None:
            self.brands[key] = name
        elif self.brands.pop(key, None) is None:
            return
        after = None if name is None else {"id": key, "name": name}
        self._look_up(
            Change(Op.UPDATE if after else Op.DELETE, {"id": key}, None, after, self._next(), Source("shop", "brands"))
        )

    def truncate(self) -> None:
        self.brands.clear()
        self._look_up(Change(Op.TRUNCATE, {"*": "truncate"}, None, None, self._next(), Source("shop", "brands")))

    def _look_up(self, change: Change) -> None:
        self.log.records.append(("brands", change))

    def _next(self) -> int:
        self.seq += 1
        return self.seq


class Killed(BaseException):
    """The end of a worker's process."""


class Actor:
    """A thread that runs from one `pause` to the next when it is told to."""

    def __init__(self, work: Callable[[Actor], None]) -> None:
        self.over = False
        self._dead = False
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def step(self) -> None:
        if not self.over:
            self._go.release()
            assert self._back.acquire(timeout=_PATIENCE_S)
        if self._failure:
            raise self._failure

    def kill(self) -> None:
        self._dead = True
        self.step()

    def pause(self) -> None:
        self._back.release()
        self._go.acquire()
        if self._dead:
            raise Killed

    def _run(self, work: Callable[[Actor], None]) -> None:
        self._go.acquire()
        try:
            if not self._dead:
                work(self)
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - raised in the test's own thread
            self._failure = error
        finally:
            self.over = True
            self._back.release()


class Store:
    """The store as a worker's `HeldStore`, with a pause before each call."""

    def __init__(self, store: VectorStore, actor: Actor) -> None:
        self._store = store
        self._actor = actor

    def versions(self, ids: Collection[Any]) -> Mapping[Any, Version]:
        self._actor.pause()
        return self._store.versions(ids)

    def apply(self, writes: Sequence[Write]) -> Applied:
        """Each for itself: a batch may be cut by a crash, or by somebody else's write."""
        stale: set[Any] = set()
        for write in writes:
            self._actor.pause()
            stale |= self._store.apply([write]).stale
        return Applied(0, frozenset(stale))

    def count(self) -> int:
        self._actor.pause()
        return self._store.count()


class Topics(FakeLookups):
    def __init__(self, log: LookupLog, actor: Actor) -> None:
        super().__init__(log)
        self._actor = actor

    def read(self) -> list[LookedUp]:
        self._actor.pause()
        return super().read()

    def commit(self) -> None:
        self._actor.pause()
        super().commit()


class Worker:
    """One life of a worker's process."""

    def __init__(self, world: World, store: VectorStore) -> None:
        self._world = world
        self._inner = store
        self.idle = 0  # turns without anything to do
        self.actor = Actor(self._work)

    def _work(self, actor: Actor) -> None:
        store: Any = Store(self._inner, actor)
        lookups = Lookups(TABLE, Topics(self._world.log, actor))
        lookups.open()
        position = self._world.committed
        while True:
            lookups.tick(store)
            actor.pause()
            mine = self._world.owner is self
            window = self._world.topic[position : position + 2] if mine else []
            position = self._world.committed if not mine else position + len(window)
            self.idle = 0 if window or lookups.behind else self.idle + 1
            if window:
                begun = lookups.turn
                done = [self._apply(store, entry, lookups) for entry in {e.key["id"]: e for e in window}.values()]
                lookups.mend(store, done, begun)
                actor.pause()
                if self._world.owner is self:
                    self._world.committed = position

    def _apply(self, store: Any, entry: Change | Tombstone, lookups: Lookups) -> Done:
        number = entry.key["id"]
        asked = wanted(entry, TABLE, lookups.names)
        sync = Sync(entry.seq, "a.jpg", MODEL, _FACTS, "")
        outcome: Outcome
        match decide(entry.seq, asked, store.versions([number]).get(number), MODEL):
            case Nothing(why):
                return _done(number, entry, why)
            case Remove():
                write: Write = Delete(number, entry.seq)
                outcome = "deleted"
            case PayloadOnly(_, version):
                assert asked is not None
                stale = store.apply([SetPayload(number, asked.payload, sync, version.seq)]).stale
                found = store.versions([number]).get(number)
                if stale or (isinstance(found, Sync) and found.seq >= entry.seq):
                    return _done(number, entry, "stale" if stale else "payload_only")
                write, outcome = Upsert(number, direction(1), asked.payload, sync), "encoded"
            case Encode():
                assert asked is not None
                write, outcome = Upsert(number, direction(1), asked.payload, sync), "encoded"
        return _done(number, entry, "stale" if store.apply([write]).stale else outcome)


def _done(number: int, entry: Change | Tombstone, outcome: Outcome) -> Done:
    return Done(Row(number, b"", entry, Consumed(entry, b"", b"", 0, 0)), outcome)


MOVES = ("write", "write", "delete", "name", "name", "name", "unname", "truncate", "kill", "rebalance") + ("step",) * 20
Move: TypeAlias = tuple[str, int, int]
"""What happens, and two numbers that say to whom and how."""
WORKERS = 3


def play(store: VectorStore, moves: Sequence[Move], first_id: int = 0) -> World:
    """Does the moves; then a new worker does what is left, and those who are late go on a little before they die."""
    world = World(first_id)
    workers = [Worker(world, store) for _ in range(WORKERS)]
    world.owner = workers[0]
    try:
        for what, number, other in moves:
            _do(world, store, workers, what, number, other)
        _finish(world, store)
        for worker, (_, steps, _) in zip(workers, [*moves, *moves, *moves], strict=False):
            for _ in range(steps):
                worker.actor.step()
    finally:
        for worker in workers:
            worker.actor.kill()
    return world


def _do(world: World, store: VectorStore, workers: list[Worker], what: str, number: int, other: int) -> None:
    which = number % WORKERS
    match what:
        case "kill":
            workers[which].actor.kill()
            owned = world.owner is workers[which]
            workers[which] = Worker(world, store)
            world.owner = workers[other % WORKERS] if owned else world.owner
        case "rebalance":
            world.owner = workers[which]
        case "step":
            for _ in range(1 + other % 4):
                workers[which].actor.step()
        case _:
            _change(world, what, number, other)


def _change(world: World, what: str, number: int, other: int) -> None:
    match what:
        case "write":
            world.write(world.first_id + number % ROWS, other % KEYS, other // KEYS % KEYS)
        case "delete":
            world.delete(world.first_id + number % ROWS)
        case "name":
            world.name(number % KEYS, f"n{other % 3}")
        case "unname":
            world.name(number % KEYS, None)
        case _:
            world.truncate()


def _finish(world: World, store: VectorStore) -> None:
    last = Worker(world, store)
    world.owner = last
    try:
        while last.idle < 2:
            last.actor.step()
    finally:
        last.actor.kill()


def differences(store: VectorStore, world: World) -> list[str]:
    """What the index shows otherwise than the tables."""
    numbers = range(world.first_id, world.first_id + ROWS)
    points = {point.id: point.payload for point in store.get(numbers)}
    found = []
    for number in numbers:
        row = world.rows.get(number)
        names = row and {lookup.take["name"]: world.brands.get(row[lookup.column]) for lookup in LOOKUPS}
        expected = row and {name: value for name, value in {**row, **(names or {})}.items() if value is not None}
        if points.get(number) != expected:
            found.append(f"row {number} should be shown as {expected}, and is as {points.get(number)}")
    return found
