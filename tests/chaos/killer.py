"""What befalls listener, broker and database, in an order that a seed decides."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import StrEnum

import pymysql

from pixtail.servers.kafka import KafkaServer
from pixtail.servers.sql import SqlServer
from tests.chaos.listeners import FOLLOWS, POLL_S, STANDS_BY, ListenerProcess, Listeners
from tests.chaos.topic import Tail
from tests.chaos.workload import Workload

RECOVERY_LIMIT_S = 120.0
START_S = 1.6  # a start takes about so long: the whole of it shall be hit
BACKLOG_S = 0.25
RUNNING_S = 0.8
GIANT_S = 0.4
OUTAGE_S = (0.0, 1.5)
# UUID_SHORT() begins with the second in which the server started: no two lives may share one.
DATABASE_OUTAGE_S = (1.1, 2.5)
WAKING_S = 1.0
HANG_S = (0.5, 8.0)
LONG_HANG_S = (40.0, 70.0)  # longer than any time-out of the listener's and of its transaction
STANDBY_LIMIT_S = 10.0


class Kind(StrEnum):
    LISTENER_STARTING = "listener: kill -9 while it starts"
    LISTENER_BACKLOG = "listener: kill -9 in its backlog"
    LISTENER_RUNNING = "listener: kill -9 while it runs"
    LISTENER_FAILOVER = "listener: kill -9 with another one standing by"
    LISTENER_FROZEN = "listener: SIGSTOP until another one leads"
    DUMP_CUT = "binlog connection: KILL"
    BROKER_KILL = "broker: kill -9"
    BROKER_RESTART = "broker: restart"
    BROKER_HANG = "broker: SIGSTOP for seconds"
    BROKER_LONG_HANG = "broker: SIGSTOP for a minute"
    DATABASE_KILL = "database: kill -9"
    DATABASE_RESTART = "database: restart"


# Of a thousand. A broker costs ten seconds, a listener one.
SHARES = {
    Kind.LISTENER_STARTING: 380,
    Kind.LISTENER_BACKLOG: 280,
    Kind.LISTENER_RUNNING: 195,
    Kind.LISTENER_FAILOVER: 10,
    Kind.LISTENER_FROZEN: 5,
    Kind.DUMP_CUT: 50,
    Kind.BROKER_KILL: 22,
    Kind.BROKER_RESTART: 8,
    Kind.BROKER_HANG: 18,
    Kind.BROKER_LONG_HANG: 2,
    Kind.DATABASE_KILL: 22,
    Kind.DATABASE_RESTART: 8,
}
_WHILE_STARTING = {Kind.LISTENER_STARTING, Kind.LISTENER_BACKLOG}
_STARTS = {*_WHILE_STARTING, Kind.LISTENER_RUNNING}
_RARE = 3


def plan(kills: int, chance: random.Random) -> list[Kind]:
    """So many, mixed as SHARES says; the whole parts first, the rest by chance."""
    sure = [kind for kind, share in SHARES.items() for _ in range(kills * share // 1000)]
    rest = chance.choices(list(SHARES), list(SHARES.values()), k=kills - len(sure))
    return chance.sample([*sure, *rest], kills)


class NotRecovered(Exception):
    """No new record came for too long."""


class Killer:
    """Runs the plan. `recoveries`: seconds from a listener's end, or from the moment that a server answers again, until a record made
    since then is in the topic; by the kind that came last. For one thread."""

    def __init__(
        self,
        listeners: Listeners,
        broker: KafkaServer,
        database: SqlServer,
        workload: Workload,
        tail: Tail,
        chance: random.Random,
    ) -> None:
        self.recoveries: dict[Kind, list[float]] = defaultdict(list)
        self.done = 0
        self._listeners = listeners
        self._broker = broker
        self._database = database
        self._workload = workload
        self._tail = tail
        self._chance = chance
        self._since = time.time()
        self._owed: Kind | None = None  # whose recovery has not been seen
        self._ways: dict[Kind, Callable[[], None]] = {
            Kind.LISTENER_STARTING: self._kill_starting,
            Kind.LISTENER_BACKLOG: self._kill_in_backlog,
            Kind.LISTENER_RUNNING: self._kill_running,
            Kind.LISTENER_FAILOVER: self._fail_over,
            Kind.LISTENER_FROZEN: self._freeze,
            Kind.DUMP_CUT: self._cut_dump,
            Kind.BROKER_KILL: lambda: self._outage(self._broker.kill, self._broker.start, *OUTAGE_S),
            Kind.BROKER_RESTART: lambda: self._outage(self._broker.stop, self._broker.start, *OUTAGE_S),
            Kind.BROKER_HANG: lambda: self._outage(self._broker.pause, self._broker.resume, *HANG_S),
            Kind.BROKER_LONG_HANG: lambda: self._outage(self._broker.pause, self._broker.resume, *LONG_HANG_S),
            Kind.DATABASE_KILL: lambda: self._outage(self._database.kill, self._database.start, *DATABASE_OUTAGE_S),
            Kind.DATABASE_RESTART: lambda: self._outage(self._database.stop, self._database.start, *DATABASE_OUTAGE_S),
        }

    def run(self, kinds: Sequence[Kind], told: Callable[[Kind], None] = lambda kind: None) -> None:
        """All of them. Raises `NotRecovered`."""
        for kind in kinds:
            told(kind)
            if kind not in _WHILE_STARTING or self._owed not in _STARTS:
                self.recover()
            self._ways[kind]()
            self._owed = kind
            self.done += 1
        self.recover()

    def recover(self) -> None:
        """Waits until the work goes on. Raises `NotRecovered`."""
        limit = time.monotonic() + RECOVERY_LIMIT_S
        while not self._tail.has_made(int(self._since * 1000), POLL_S):
            self._listeners.look_after()
            if time.monotonic() > limit:
                raise NotRecovered(f"nothing new in the topic {RECOVERY_LIMIT_S:.0f} s after: {self._owed}")
        if self._owed is not None:
            self.recoveries[self._owed].append(time.time() - self._since)
            self._owed = None

    def _disturbed(self) -> None:
        self._since = time.time()

    def _pause(self, longest_s: float, shortest_s: float = 0.0) -> None:
        time.sleep(self._chance.uniform(shortest_s, longest_s))

    def _await_moment(self) -> None:
        """Any one; in the middle of a giant transaction, if there is one."""
        self._workload.giant.clear()
        if self._workload.giant.wait(self._chance.uniform(0, RUNNING_S)):
            self._pause(GIANT_S)

    # The listener

    def _replace(self) -> None:
        self._disturbed()
        self._listeners.replace()

    def _kill_starting(self) -> None:
        self._listeners.look_after()
        time.sleep(max(self._listeners.leader.started_at + self._chance.uniform(0, START_S) - time.monotonic(), 0))
        self._replace()

    def _kill_in_backlog(self) -> None:
        """There is more to read than at other times when it has just begun to."""
        self._listeners.look_after()
        self._wait_for(self._listeners.leader, FOLLOWS, RECOVERY_LIMIT_S)
        self._pause(BACKLOG_S)
        self._replace()

    def _kill_running(self) -> None:
        self._await_moment()
        self._replace()

    def _fail_over(self) -> None:
        """The dead one's session runs out as it does in earnest."""
        standby = self._listeners.stand_by()
        self._wait_for(standby, STANDS_BY, STANDBY_LIMIT_S)
        self._await_moment()
        former = self._listeners.leader
        self._disturbed()
        former.kill()
        self._listeners.fall_over()

    def _freeze(self) -> None:
        """The former leader wakes up with a transaction in its hands, and does not know that it has a successor."""
        standby = self._listeners.stand_by()
        self._wait_for(standby, STANDS_BY, STANDBY_LIMIT_S)
        self._await_moment()
        former = self._listeners.leader
        self._disturbed()
        former.freeze()
        self._listeners.fall_over()
        self.recover()
        self._disturbed()
        former.thaw()
        self._pause(WAKING_S)
        former.kill()

    def _wait_for(self, process: ListenerProcess, text: bytes, limit_s: float) -> None:
        """Whether it came is no matter: what must come is the recovery."""
        limit = time.monotonic() + limit_s
        while not process.says(text) and process.status is None and time.monotonic() < limit:
            time.sleep(POLL_S)

    # Its connections

    def _cut_dump(self) -> None:
        self._await_moment()
        self._disturbed()
        with suppress(pymysql.Error):  # it has just ended by itself
            for number, command in self._connections():
                if command.startswith("Binlog Dump"):
                    self._database.execute(f"KILL {number}")

    def _connections(self) -> list[tuple[int, str]]:
        return [(int(row[0]), str(row[4])) for row in self._database.query("SHOW PROCESSLIST")]

    # The servers

    def _outage(
        self, begin: Callable[[], object], end: Callable[[], object], shortest_s: float, longest_s: float
    ) -> None:
        """Now and then the listener is killed meanwhile, and starts without the server."""
        self._await_moment()
        begin()
        if self._chance.randrange(_RARE) == 0:
            self._pause(WAKING_S)
            self._listeners.replace(may_ask_broker=False)
        self._pause(longest_s, shortest_s)
        end()
        self._disturbed()
