"""Writers of the table, at random, and a journal of what they did that owes nothing to the binlog.

Each statement is followed, in the same transaction, by rows of `aside.journal` that say what it changed: so the database itself decides
whether both count or neither, whatever becomes of the connection or the server. A row's version is a number that no other write has. The
journal's order is UUID_SHORT(), drawn on the server while the rows are locked: of one key it is the order of the commits. (AUTO_INCREMENT
is not: a statement may be given numbers in advance.)
No triggers: with them the server writes an event per row, and a REPLACE as two changes. What a statement will do is therefore found out
before it by SELECT … FOR UPDATE, whose locks, gaps included, keep it true until the commit.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pymysql

from pixtail.servers.sql import SqlServer

DATABASE, TABLE = "shop", "images"
HOT_KEYS = 2000
RANGES_KEPT = 400
TRICKLE_S = 0.5  # a writer that is ahead of its pace goes on at this one
LOCK_WAIT_S = 5
GIANT_ROWS = (5_000, 20_000)  # the listener cuts above 4000
TURN_ROWS = 25  # what a transaction changes on average, giants aside
ONCE_IN_ROWS = {"giant": 50_000, "truncate": 60_000}
_MOST_ROWS_A_STATEMENT = 2_500

_ROWS = (
    "(id BIGINT UNSIGNED PRIMARY KEY, version BIGINT UNSIGNED NOT NULL, title VARCHAR(6000) NOT NULL,"
    " file_path VARCHAR(200) NOT NULL) ENGINE = InnoDB"
)
_SCHEMA = (
    f"CREATE DATABASE {DATABASE}",
    "CREATE DATABASE aside",
    f"CREATE TABLE {DATABASE}.{TABLE} {_ROWS}",
    f"CREATE TABLE {DATABASE}.{TABLE}_old {_ROWS}",
    f"CREATE TABLE aside.{TABLE} {_ROWS}",  # the same name elsewhere
    "CREATE TABLE aside.journal (n BIGINT UNSIGNED PRIMARY KEY, id BIGINT UNSIGNED NOT NULL, op CHAR(1) NOT NULL,"
    " old BIGINT UNSIGNED, new BIGINT UNSIGNED) ENGINE = InnoDB",
)
_GAVE_WAY = {1205, 1213}  # a deadlock, or too long a wait for a lock: the transaction is rolled back
_GONE = {1053, 1317, 1927, 2002, 2003, 2006, 2013, 2055, 4031}

Entry = tuple[int, str, int | None, int | None]
"""Of the journal: id, op, version before, version after."""


class Numbers:
    """Blocks of numbers that nobody else has. Thread-safe."""

    def __init__(self, first: int) -> None:
        self._next = first
        self._lock = threading.Lock()

    def take(self, count: int) -> int:
        with self._lock:
            first, self._next = self._next, self._next + count
        return first


class Gate:
    """Any number inside, or one alone. Thread-safe."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._inside = 0
        self._alone = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._condition:
            self._condition.wait_for(lambda: not self._alone)
            self._inside += 1
        try:
            yield
        finally:
            with self._condition:
                self._inside -= 1
                self._condition.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._condition:
            self._condition.wait_for(lambda: not self._alone)
            self._alone = True
            self._condition.wait_for(lambda: not self._inside)
        try:
            yield
        finally:
            with self._condition:
                self._alone = False
                self._condition.notify_all()


class Workload:
    """What the writers share. `written` is an estimate; `giant` is set right behind the commit of a giant transaction."""

    def __init__(self, server: SqlServer, allowed: Callable[[], float]) -> None:
        self.server = server
        self.allowed = allowed
        self.ids = Numbers(HOT_KEYS + 1)
        self.versions = Numbers(1)
        self.gate = Gate()
        self.enough = threading.Event()
        self.giant = threading.Event()
        self.written = 0
        self.transactions = 0
        self.ranges: list[tuple[int, int]] = []
        self.failure: BaseException | None = None
        self._lock = threading.Lock()

    def create(self, rows: int) -> None:
        """The tables, and rows that are there before anybody listens. They are not in the journal."""
        self.server.execute(*_SCHEMA)
        with Session(self.server) as session:
            for ids in _cut(range(1, rows + 1)):
                session.insert(ids, self.versions.take(len(ids)), "x" * 20)
        self.ids.take(rows)
        self.ranges += [(first, first + 199) for first in range(HOT_KEYS + 1, rows - 200, 200)]

    def count(self, rows: int) -> None:
        with self._lock:
            self.written += rows
            self.transactions += 1

    def keep(self, first: int, last: int) -> None:
        with self._lock:
            self.ranges.append((first, last))
            del self.ranges[:-RANGES_KEPT]

    def forget_ranges(self) -> None:
        with self._lock:
            self.ranges.clear()

    def some_range(self, chance: random.Random) -> tuple[int, int] | None:
        with self._lock:
            return chance.choice(self.ranges) if self.ranges else None


class Session:
    """A connection, and the statements that are written down in the journal. For one thread."""

    def __init__(self, server: SqlServer) -> None:
        self.connection = server.connect(
            DATABASE, autocommit=True, init_command=f"SET SESSION innodb_lock_wait_timeout = {LOCK_WAIT_S}"
        )
        self.entries: list[Entry] = []
        """What this transaction has done so far; a savepoint is a length of it."""

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with suppress(pymysql.Error):
            self.connection.close()

    def run(self, statement: str, arguments: Sequence[Any] = ()) -> int:
        with self.connection.cursor() as cursor:
            return int(cursor.execute(statement, arguments or None))

    def query(self, statement: str, arguments: Sequence[Any] = ()) -> list[Any]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, arguments or None)
            return list(cursor.fetchall())

    def locked(self, condition: str) -> dict[int, int]:
        """Versions by id, and nobody may change them, or add others that meet the condition, until the end of the transaction."""
        return dict(self.query(f"SELECT id, version FROM {TABLE} WHERE {condition} ORDER BY id FOR UPDATE"))

    def journal(self, entries: Sequence[Entry]) -> None:
        for part in _cut(entries):
            values = ", ".join(f"(UUID_SHORT(), {i}, '{op}', {_sql(old)}, {_sql(new)})" for i, op, old, new in part)
            self.run(f"INSERT INTO aside.journal VALUES {values}")
        self.entries += entries

    def insert(self, ids: Sequence[int], version: int, filler: str, verb: str = "INSERT", tail: str = "") -> None:
        """One statement. The first row has `version`, the next ones those that follow."""
        values = ", ".join(f"({i}, {v}, '{v}:{filler}', 'p/{i}.jpg')" for v, i in enumerate(ids, version))
        self.run(f"{verb} INTO {TABLE} VALUES {values} {tail}")


class Writer(threading.Thread):
    """Transactions at random, until there are enough of them; rides out whatever happens to the server."""

    def __init__(self, shared: Workload, seed: int) -> None:
        super().__init__(name=f"writer-{seed}", daemon=True)
        self._shared = shared
        self._chance = random.Random(seed)
        self._session: Session | None = None
        self._giants_at = self._truncates_at = 0.0
        self._small = (self._upsert, self._single, self._single, self._single)
        self._bulky = (self._insert_many, self._insert_many, self._update_range, self._delete_range, self._move_range)

    def run(self) -> None:
        try:
            while not self._shared.enough.is_set():
                self._wait_for_turn()
                self._survive(self._turn)
        except BaseException as error:  # noqa: BLE001 - for the harness to raise
            self._shared.failure = error
        finally:
            self._drop_session()

    def _wait_for_turn(self) -> None:
        limit = time.monotonic() + TRICKLE_S
        while self._shared.written > self._shared.allowed() and time.monotonic() < limit:
            self._shared.enough.wait(0.005)

    def _survive(self, work: Callable[[], object]) -> bool:
        """False if it did not come to its end, or nobody knows."""
        try:
            work()
        except pymysql.err.InterfaceError:
            self._drop_session()
        except pymysql.err.OperationalError as error:
            if error.args[0] in _GAVE_WAY:
                return False
            if error.args[0] not in _GONE:
                raise
            self._drop_session()
            time.sleep(0.05)
        else:
            return True
        return False

    @property
    def _on(self) -> Session:
        if self._session is None:
            self._session = Session(self._shared.server)
        return self._session

    def _drop_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    # Transactions

    def _turn(self) -> None:
        if self._is_time_for("truncate"):
            self._truncate()
            return
        with self._shared.gate.shared():
            try:
                self._transaction()
            except pymysql.err.OperationalError as error:
                if error.args[0] in _GAVE_WAY:
                    self._on.run("ROLLBACK")
                raise

    def _is_time_for(self, what: str) -> bool:
        """By chance, about once in so many rows."""
        return self._chance.random() < TURN_ROWS / ONCE_IN_ROWS[what]

    def _transaction(self) -> None:
        session, chance = self._on, self._chance
        session.entries.clear()
        session.run("BEGIN")
        self._write_elsewhere()
        giant = self._is_time_for("giant")
        if giant:
            self._giant()
        else:
            for _ in range(chance.choice((0, 1, 1, 1, 2, 3, 5))):
                self._step()
        self._write_elsewhere()
        if chance.random() < 0.05:
            session.run("ROLLBACK")
            return
        session.run("COMMIT")
        self._shared.count(len(session.entries))
        if giant:
            self._shared.giant.set()

    def _step(self) -> None:
        if self._chance.random() < 0.12:
            self._rolled_back_step()
        kinds = self._bulky if self._chance.random() < 0.12 else self._small
        self._chance.choice(kinds)()

    def _rolled_back_step(self) -> None:
        session = self._on
        before = len(session.entries)
        session.run("SAVEPOINT here")
        self._chance.choice((*self._small, *self._bulky))()
        session.run("ROLLBACK TO SAVEPOINT here")
        del session.entries[before:]

    def _giant(self) -> None:
        wanted = self._chance.randint(*GIANT_ROWS)
        while len(self._on.entries) < wanted:
            rows = self._chance.randint(500, _MOST_ROWS_A_STATEMENT)
            self._insert_many(rows)
            self._chance.choice((self._update_range, self._delete_range, self._move_range, self._single))()

    def _write_elsewhere(self) -> None:
        if self._chance.random() > 0.25:
            return
        table = self._chance.choice((f"{DATABASE}.{TABLE}_old", f"aside.{TABLE}"))
        self._on.run(f"REPLACE INTO {table} VALUES ({self._chance.randint(1, 500)}, 0, 'elsewhere', 'q.jpg')")

    # Statements. Of many rows

    def _insert_many(self, rows: int = 0) -> None:
        ids = self._fresh(rows or self._chance.randint(2, 120))
        self._create(ids)
        self._shared.keep(ids[0], ids[-1])

    def _update_range(self) -> None:
        if not (span := self._shared.some_range(self._chance)):
            return
        first, last = span
        found = self._on.locked(f"id BETWEEN {first} AND {last}")
        base = self._shared.versions.take(last - first + 1)
        version = f"{base} + (id - {first})"
        self._on.run(
            f"UPDATE {TABLE} SET version = {version}, title = CONCAT({version}, ':', REPEAT('u', {self._length()}))"
            f" WHERE id BETWEEN {first} AND {last}"
        )
        self._on.journal([(i, "u", old, base + i - first) for i, old in found.items()])

    def _delete_range(self) -> None:
        if not (span := self._shared.some_range(self._chance)):
            return
        middle = (span[0] + span[1]) // 2
        found = self._on.locked(f"id BETWEEN {middle} AND {span[1]}")
        self._on.run(f"DELETE FROM {TABLE} WHERE id BETWEEN {middle} AND {span[1]}")
        self._on.journal([(i, "d", old, None) for i, old in found.items()])

    def _move_range(self) -> None:
        if not (span := self._shared.some_range(self._chance)):
            return
        first, last = span
        found = self._on.locked(f"id BETWEEN {first} AND {last}")
        target = self._shared.ids.take(last - first + 1)
        self._move(f"id BETWEEN {first} AND {last}", first, target, last - first + 1, found)
        self._shared.keep(target, target + last - first)

    # Of few

    def _upsert(self) -> None:
        """Rows that are there and rows that are not, in one statement, which the server writes as updates and inserts."""
        ids = sorted(self._chance.sample(range(1, HOT_KEYS), self._chance.randint(2, 6)))
        found = self._on.locked(f"id IN ({', '.join(map(str, ids))})")
        self._put(ids, found, self._chance.choice((_replace, _or_update)))

    def _single(self) -> None:
        key = self._chance.randint(1, HOT_KEYS)
        found = self._on.locked(f"id = {key}")
        if not found:
            self._put([key], found, self._chance.choice((_insert, _replace, _or_update)))
            return
        kind = self._chance.choice((self._update, self._update, self._replace, self._remove, self._rename))
        kind(key, found)

    def _update(self, key: int, found: dict[int, int]) -> None:
        version = self._shared.versions.take(1)
        filler = "u" * self._length()
        self._on.run(f"UPDATE {TABLE} SET version = {version}, title = '{version}:{filler}' WHERE id = {key}")
        self._on.journal([(key, "u", found[key], version)])

    def _replace(self, key: int, found: dict[int, int]) -> None:
        self._put([key], found, self._chance.choice((_replace, _or_update)))

    def _remove(self, key: int, found: dict[int, int]) -> None:
        self._on.run(f"DELETE FROM {TABLE} WHERE id = {key}")
        self._on.journal([(key, "d", found[key], None)])

    def _rename(self, key: int, found: dict[int, int]) -> None:
        """To a key that is free: one that has never been, or one that was."""
        other = self._chance.randint(1, HOT_KEYS)
        free = other != key and not self._on.locked(f"id = {other}")
        self._move(f"id = {key}", key, other if free else self._shared.ids.take(1), 1, found)

    # How

    def _create(self, ids: Sequence[int]) -> None:
        self._put(ids, {}, _insert)

    def _put(self, ids: Sequence[int], found: dict[int, int], how: tuple[str, str]) -> None:
        version = self._shared.versions.take(len(ids))
        verb, tail = how
        for number, part in enumerate(_cut(ids)):
            self._on.insert(part, version + number * _MOST_ROWS_A_STATEMENT, "n" * self._length(), verb, tail)
        self._on.journal([(i, "u" if i in found else "c", found.get(i), v) for v, i in enumerate(ids, version)])

    def _move(self, condition: str, first: int, target: int, width: int, found: dict[int, int]) -> None:
        base = self._shared.versions.take(width)
        version = f"{base} + (id - {first})"  # assignments go from left to right, so the id comes last
        new_id = f"id + {target - first}" if target >= first else f"id - {first - target}"
        self._on.run(
            f"UPDATE {TABLE} SET version = {version}, title = CONCAT({version}, ':moved'), id = {new_id} WHERE {condition}"
        )
        entries: list[Entry] = []
        for i, old in found.items():
            entries += [(i, "d", old, None), (i - first + target, "c", None, base + i - first)]
        self._on.journal(entries)

    def _fresh(self, count: int) -> range:
        first = self._shared.ids.take(count)
        return range(first, first + count)

    def _length(self) -> int:
        """Mostly short; now and then more than a page."""
        return self._chance.choice((0, 10, 40, 200)) if self._chance.random() < 0.995 else 5000

    # TRUNCATE commits by itself, and leaves no rows to write into a journal: it is done alone

    def _truncate(self) -> None:
        with self._shared.gate.alone():
            marker = self._shared.versions.take(1)
            if not self._asked(lambda s: s.query(f"SELECT 1 FROM {TABLE} LIMIT 1")):
                return
            while self._asked(lambda s: s.query(f"SELECT 1 FROM {TABLE} LIMIT 1")):
                self._survive(lambda: self._on.run(f"TRUNCATE TABLE {TABLE}"))
            while not self._asked(lambda s: s.query(f"SELECT 1 FROM aside.journal WHERE op = 't' AND new = {marker}")):
                self._survive(lambda: self._on.journal([(0, "t", None, marker)]))
            self._shared.forget_ranges()
            self._shared.count(1)

    def _asked(self, question: Callable[[Session], list[Any]]) -> list[Any]:
        """The answer, however long the server is away."""
        answer: list[list[Any]] = []
        while not self._survive(lambda: answer.append(question(self._on))):
            pass
        return answer[-1]


_insert = ("INSERT", "")
_replace = ("REPLACE", "")
_or_update = ("INSERT", "ON DUPLICATE KEY UPDATE version = VALUES(version), title = VALUES(title)")


def _cut(things: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for first in range(0, len(things), _MOST_ROWS_A_STATEMENT):
        yield things[first : first + _MOST_ROWS_A_STATEMENT]


def _sql(version: int | None) -> str:
    return "NULL" if version is None else str(version)
