"""The same work for every program that captures a MySQL table into Kafka, and what it cost that program. Used by `listener.py`.

A backlog is made while the program is stopped by SIGSTOP, so that the rate is the program's and not the writers'. CPU and memory are those
of its whole process tree, children that have ended included (the kernel adds them to their parent's). A scenario is over when the
topic's committed end has grown by as many records as there are rows and the last row stands there; afterwards each row is counted.
"""

# ruff: noqa: S608 - statements made of our own names

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import orjson
from kafka import KafkaConsumer, TopicPartition

from pixtail.servers.sql import SqlServer

DATABASE, TABLE = "shop", "images"
COLUMNS = "(title, description, file_path, category, model_id, brand_id)"
DESCRIPTION = "a description of some length, the way people write them"
LONG = 420  # characters of description in the giant transaction: 500 bytes a row
PAUSE_S = 0.01
STALL_S = 600.0
QUIET_S = 2.0
PATIENCE_S = 60.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

_CREATE = f"""CREATE TABLE {TABLE} (
  id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, title VARCHAR(255), description TEXT, file_path VARCHAR(512), category VARCHAR(64),
  model_id INT, brand_id INT, upload_date DATETIME DEFAULT CURRENT_TIMESTAMP,
  updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP)"""


def _row(title: object, description: str = f"'{DESCRIPTION}'") -> str:
    return f"('{title}', {description}, 'uploads/2026/11/picture.jpg', 'car', 1, 2)"


_FILL = f"""CREATE PROCEDURE fill(n INT) BEGIN
  DECLARE i INT DEFAULT 0;
  WHILE i < n DO INSERT INTO {TABLE} {COLUMNS} VALUES {_row("one")}; SET i = i + 1; END WHILE;
END"""


Offsets: TypeAlias = Mapping[TopicPartition, int]


class Failed(Exception):
    """The program ended, or did not finish its work."""


@dataclass
class Program:
    """A program under test: its command line, a folder to run in, and what it adds to the environment."""

    command: Sequence[str]
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "program.log"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.folder,
                start_new_session=True,
            )

    def signal(self, number: signal.Signals) -> None:
        """To the whole process tree at once."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()
            self.process = None

    def check(self) -> None:
        """Raises `Failed` if it has ended."""
        if self.process is None or self.process.poll() is not None:
            raise Failed(f"the program ended. {self.last_words()}")

    def last_words(self) -> str:
        """For messages: the log's folder does not outlive the run."""
        return f"Its log ends: {' | '.join(self.log.read_text(errors='replace').splitlines()[-4:])}"

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """While work for it is made."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def pids(self) -> list[int]:
        """The process and its descendants."""
        found = [self.process.pid] if self.process is not None else []
        parents = {pid: int(stat[1]) for pid, stat in _stats()}
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def cpu_s(self) -> float:
        """User and system time so far."""
        tree = set(self.pids())
        return sum(sum(map(int, stat[11:15])) for pid, stat in _stats() if pid in tree) / TICKS_PER_S

    def rss_peak_mb(self) -> float:
        """The highest resident size since the start or `forget_peak`, summed over the processes."""
        return sum(_status_kb(pid, "VmHWM") for pid in self.pids()) / 1024

    def forget_peak(self) -> None:
        for pid in self.pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): resets VmHWM


def _stats() -> Iterator[tuple[int, list[str]]]:
    """Of each process what stands behind its name in /proc/PID/stat, see proc(5): state, parent, …, utime, stime, cutime, cstime, …"""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            yield int(stat.parent.name), stat.read_text().rpartition(")")[2].split()


def _status_kb(pid: int, name: str) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
    return 0


class Rows:
    """Writes the table. Durability is off: the writers are not what is measured."""

    def __init__(self, server: SqlServer) -> None:
        self.server = server
        self.server.execute(
            "SET GLOBAL sync_binlog = 0",
            "SET GLOBAL innodb_flush_log_at_trx_commit = 0",
            "SET GLOBAL net_write_timeout = 600",  # a stopped program must not lose its connection
            f"CREATE DATABASE IF NOT EXISTS {DATABASE}",
            "CREATE DATABASE IF NOT EXISTS aside",
            "CREATE TABLE IF NOT EXISTS aside.thousand (n INT)",
            f"INSERT INTO aside.thousand VALUES {', '.join(f'({n})' for n in range(1000))}",
        )

    def begin(self, number: int) -> None:
        """The table anew, with so many rows."""
        self.sql(f"DROP TABLE IF EXISTS {TABLE}", _CREATE, "DROP PROCEDURE IF EXISTS fill", _FILL)
        self.bulk(number)

    def bulk(self, number: int) -> None:
        """Transactions of 1000 rows."""
        for first in range(0, number, 1000):
            self.sql(f"INSERT INTO {TABLE} {COLUMNS} VALUES {', '.join(_row(first + n) for n in range(1000))}")

    def single(self, number: int) -> None:
        """Transactions of one row."""
        self.sql(f"CALL fill({number})")

    def giant(self, number: int) -> None:
        """One transaction; 500 bytes a row."""
        values = _row("giant", f"REPEAT('x', {LONG})").strip("()")
        many = "aside.thousand a JOIN aside.thousand b JOIN aside.thousand c"
        self.sql(f"INSERT INTO {TABLE} {COLUMNS} SELECT {values} FROM {many} LIMIT {number}")

    def last_id(self) -> int:
        return int(self.server.query(f"SELECT COALESCE(MAX(id), 0) FROM {TABLE}", DATABASE)[0][0])

    def sql(self, *statements: str) -> None:
        self.server.execute(*statements, database=DATABASE)


@contextmanager
def inserting(port: int, rate: int, seconds: float) -> Iterator[multiprocessing.process.BaseProcess]:
    """A process that writes single-row transactions at a constant rate, each with the time in its title."""
    process = multiprocessing.get_context("spawn").Process(target=_insert, args=(port, rate, seconds))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def _insert(port: int, rate: int, seconds: float) -> None:
    server = SqlServer(port=port)
    with server.connect(DATABASE) as connection, connection.cursor() as cursor:
        begun = time.time()
        for number in range(int(rate * seconds)):
            time.sleep(max(0.0, begun + number / rate - time.time()))
            cursor.execute(f"INSERT INTO {TABLE} {COLUMNS} VALUES {_row(f'at {time.time():.6f}')}")


class Topic:
    """What is committed in a topic of JSON records without schemas. For one thread."""

    def __init__(self, bootstrap: str, name: str) -> None:
        self.name = name
        self._consumer = KafkaConsumer(
            bootstrap_servers=bootstrap,
            enable_auto_commit=False,
            isolation_level="read_committed",
            fetch_max_wait_ms=5,
        )
        found = self._consumer.partitions_for_topic(name)
        self._consumer.assign([TopicPartition(name, partition) for partition in sorted(found)])

    def close(self) -> None:
        self._consumer.close()

    def ends(self) -> dict[TopicPartition, int]:
        """The last stable offsets; transaction markers count in them."""
        ends: dict[TopicPartition, int] = self._consumer.end_offsets(self._consumer.assignment())
        return ends

    def read(self, since: Offsets, until: Offsets) -> Iterator[Any]:
        for partition, offset in since.items():
            self._consumer.seek(partition, offset)
        while any(self._consumer.position(partition) < end for partition, end in until.items()):
            for records in self._consumer.poll(timeout_ms=100).values():
                yield from records

    def follow(self, since: Offsets) -> Iterator[Any]:
        """What comes; None whenever nothing has."""
        for partition, offset in since.items():
            self._consumer.seek(partition, offset)
        while True:
            for records in self._consumer.poll(timeout_ms=100).values():
                yield from records
            yield None

    def wait(self, program: Program, since: Offsets, rows: int, last_id: int = 0) -> float:
        """The moment (`time.time`) when `rows` more records and, if it is given, among the last of them that of `last_id` are seen."""
        grown: float = time.time()
        former: Offsets = {}
        while True:
            program.check()
            ends = self.ends()
            now = time.time()
            if ends != former:
                grown, former = now, ends
                if _sum(ends) - _sum(since) >= rows and (not last_id or last_id in self._last_ids(ends)):
                    return now
            if now - grown > STALL_S:
                raise Failed(f"{self.name} has not grown for {STALL_S:.0f} s. {program.last_words()}")
            time.sleep(PAUSE_S)

    def settle(self) -> None:
        """Until nothing has come for a while: what a program repeats comes late."""
        former: Offsets = {}
        while (ends := self.ends()) != former:
            former = ends
            time.sleep(QUIET_S)

    def _last_ids(self, ends: Offsets) -> set[int]:
        starts = {partition: max(end - 8, 0) for partition, end in ends.items()}
        return set(_ids(self.read(starts, ends)))

    def count(self, since: Offsets, first_id: int) -> Counter[int]:
        """How often each id from `first_id` on is there."""
        return Counter(number for number in _ids(self.read(since, self.ends())) if number >= first_id)


def _sum(offsets: Offsets) -> int:
    return sum(offsets.values())


def _ids(records: Iterable[Any]) -> Iterator[int]:
    return (orjson.loads(record.key)["id"] for record in records if record.value is not None)


def latencies(topic: Topic, port: int, rate: int, seconds: float) -> list[float]:
    """Seconds from right before each INSERT until its record is read, sorted; all of them, or `Failed`."""
    seen: list[float] = []
    wanted, begun = int(rate * seconds), time.time()
    with inserting(port, rate, seconds):
        for record in topic.follow(topic.ends()):
            now = time.time()
            written = _written(record) if record is not None else 0.0
            if written > begun:  # a program that was killed before may repeat former rows
                seen.append(now - written)
            if len(seen) == wanted:
                return sorted(seen)
            if now > begun + seconds + PATIENCE_S:
                break
    raise Failed(f"{len(seen)} of {wanted} rows came")


def _written(record: Any) -> float:
    """The moment in the row's title; 0 if it has none."""
    title: str = orjson.loads(record.value)["after"]["title"]
    return float(title.removeprefix("at ")) if title.startswith("at ") else 0.0


def first_record(program: Program, topic: Topic, begun: float) -> float:
    """Seconds from `begun` until the topic holds anything."""
    while not any(topic.ends().values()):
        program.check()
        if time.time() - begun > STALL_S:
            raise Failed(f"nothing came. {program.last_words()}")
        time.sleep(PAUSE_S)
    return time.time() - begun


@contextmanager
def open_topic(bootstrap: str, name: str) -> Iterator[Topic]:
    with closing(Topic(bootstrap, name)) as topic:
        yield topic
