"""`pixtail listen` against Debezium: rows per second and per CPU-second, latency, memory, what a kill costs. One run, the same servers.

    python benchmarks/listener.py [--quick] [--only single --only bulk] [--no-peer] [--rounds 3] [--hang-s 600]

Each program goes through the same session, one after the other, alone on the servers: the snapshot of a table, then backlogs of
transactions, and so on as below. Both start with their defaults, into topics of the same settings; for the latency Debezium gets
`poll.interval.ms=5` (by default it waits for up to half a second). Prints a table, and a line of JSON per figure: medians over the rounds.
`ratio` says how many times better ours is.

Caveats: Debezium's standalone mode is at-least-once and ours exactly-once; its first round is colder than the later ones, as its JIT
compiler is still at work; servers, writers and programs share the machine's cores; absolute figures drift by 10–20 %.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table

from benchmarks.workload import (
    DATABASE,
    TABLE,
    Failed,
    Offsets,
    Program,
    Rows,
    Topic,
    first_record,
    inserting,
    latencies,
    open_topic,
)
from pixtail.bus.topics import Topics, ensure_topics
from pixtail.core.settings import Kafka
from pixtail.servers.debezium import DebeziumServer, create_account
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.mysql import MysqlServer
from pixtail.servers.process import free_port

Figures: TypeAlias = dict[str, float]
Results: TypeAlias = dict[tuple[str, str], dict[str, list[float]]]
"""(scenario, figure) → program → its rounds."""
SOURCE = f"{DATABASE}.{TABLE}"
WARM_UP_S = 5.0
HANG_RATE = 500

console = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Rows of each scenario, and seconds."""

    snapshot: int = 200_000
    single: int = 100_000
    bulk: int = 300_000
    giant: int = 2_000_000  # 1 GB of binlog
    latency_s: float = 20.0
    hang_s: float = 600.0


QUICK = Sizes(snapshot=20_000, single=5_000, bulk=30_000, giant=50_000, latency_s=4.0, hang_s=10.0)


class Servers:
    """The private MySQL and Kafka that both programs work with."""

    def __init__(self, mysql: MysqlServer, kafka: KafkaServer) -> None:
        self.mysql = mysql
        self.kafka = kafka
        self.rows = Rows(mysql)
        create_account(mysql)

    @contextmanager
    def topic(self, prefix: str) -> Iterator[Topic]:
        """The topic of `prefix`, made with the settings that ours has by default."""
        ensure_topics(Kafka(bootstrap=self.kafka.bootstrap, prefix=prefix), Topics(prefix, SOURCE))
        with open_topic(self.kafka.bootstrap, f"{prefix}.{SOURCE}") as topic:
            yield topic


class Ours:
    """`pixtail listen`, as a user runs it."""

    name = "ours"
    rates = (500, 1000)

    def program(self, servers: Servers, prefix: str, folder: Path, *, quick_poll: bool = False) -> Program:
        environment = {
            "PIXTAIL_MYSQL__URL": servers.mysql.url(DATABASE),
            "PIXTAIL_KAFKA__BOOTSTRAP": servers.kafka.bootstrap,
            "PIXTAIL_KAFKA__PREFIX": prefix,
            "PIXTAIL_METRICS__PORT": "0",
            # Backlogs are made while the program is stopped: one that is frozen for so long rightly loses the leadership, and the
            # peer has none to lose.
            "PIXTAIL_KAFKA__LEADER_TIMEOUT_S": "30",
        }
        return Program([str(Path(sys.executable).with_name("pixtail")), "listen"], folder, environment)


class Debezium:
    """Debezium's connector on Kafka Connect standalone. Offsets are flushed every second."""

    name = "debezium"
    rates = (500,)

    def program(self, servers: Servers, prefix: str, folder: Path, *, quick_poll: bool = False) -> Program:
        properties = {"snapshot.locking.mode": "none"} | ({"poll.interval.ms": "5"} if quick_poll else {})
        server = DebeziumServer(
            servers.mysql,
            servers.kafka,
            SOURCE,
            prefix,
            schemas=False,
            properties=properties,
            folder=folder,
            port=free_port(),
        )
        server.prepare()
        return Program(server.command(), folder)


Contender: TypeAlias = Ours | Debezium


class Session:
    """One program that follows the table into a topic of its own."""

    def __init__(self, contender: Contender, servers: Servers, topic: Topic, sizes: Sizes, folder: Path) -> None:
        self.contender = contender
        self.servers = servers
        self.rows = servers.rows
        self.topic = topic
        self.sizes = sizes
        self.folder = folder
        self.program = contender.program(servers, folder.name, folder)

    def restart(self, *, quick_poll: bool = False) -> None:
        self.program.kill()
        self.program = self.contender.program(self.servers, self.folder.name, self.folder, quick_poll=quick_poll)
        self.program.start()

    def snapshot(self) -> Figures:
        """From the start of the process."""
        number, since, begun = self.sizes.snapshot, self.topic.ends(), time.time()
        self.program.start()
        first_s = first_record(self.program, self.topic, begun)
        return self._figures(since, number, 1, begun, 0.0) | {"first_event_s": first_s}

    def backlog(self, make: Callable[[int], None], number: int) -> Figures:
        """So many rows, made while the program stood still."""
        first, since = self.rows.last_id() + 1, self.topic.ends()
        self.program.forget_peak()
        with self.program.stopped():
            make(number)
            begun, cpu_s = time.time(), self.program.cpu_s()
        return self._figures(since, number, first, begun, cpu_s)

    def _figures(self, since: Offsets, number: int, first: int, begun: float, cpu_s: float) -> Figures:
        wall_s = self.topic.wait(self.program, since, number, self.rows.last_id()) - begun
        figures = {
            "rows_per_s": number / wall_s,
            "rows_per_cpu_s": number / (self.program.cpu_s() - cpu_s),
            "rss_peak_mb": self.program.rss_peak_mb(),
        }
        if any(self.lost_and_repeated(since, number, first).values()):
            raise Failed(f"rows were lost or repeated. {self.program.last_words()}")
        return figures

    def lost_and_repeated(self, since: Offsets, number: int, first: int) -> Figures:
        counts = self.topic.count(since, first)
        return {"lost": number - len(counts), "repeated": counts.total() - len(counts)}

    def killed(self) -> Figures:
        """kill -9 when half of the backlog is written, and a new start."""
        number, first, since = self.sizes.single, self.rows.last_id() + 1, self.topic.ends()
        with self.program.stopped():
            self.rows.single(number)
        self.topic.wait(self.program, since, number // 2)
        self.restart()
        self.topic.wait(self.program, since, number, self.rows.last_id())
        self.topic.settle()
        return self.lost_and_repeated(since, number, first)

    def hung(self) -> Figures:
        """The broker stands still while rows go on being written."""
        number, first, since = int(HANG_RATE * self.sizes.hang_s), self.rows.last_id() + 1, self.topic.ends()
        self.program.forget_peak()
        self.servers.kafka.pause()
        try:
            with inserting(self.servers.mysql.port, HANG_RATE, self.sizes.hang_s) as writer:
                writer.join()
                if writer.exitcode:
                    raise Failed("the writer of rows failed")
        finally:
            self.servers.kafka.resume()
        self.topic.wait(self.program, since, number, self.rows.last_id())
        return {"rss_peak_mb": self.program.rss_peak_mb()} | self.lost_and_repeated(since, number, first)

    def latency(self, rate: int) -> Figures:
        """Commit to readable. The first seconds are for the JIT compiler and not counted."""
        port = self.servers.mysql.port
        latencies(self.topic, port, rate, WARM_UP_S)
        seen = latencies(self.topic, port, rate, self.sizes.latency_s)
        return {f"p{q}_ms": 1000 * seen[len(seen) * q // 100] for q in (50, 99)}


Scenario: TypeAlias = Callable[[Session, int], Iterator[tuple[str, Figures]]]


def single(session: Session, rounds: int) -> Iterator[tuple[str, Figures]]:
    for _ in range(rounds):
        yield "single-row transactions", session.backlog(session.rows.single, session.sizes.single)


def bulk(session: Session, rounds: int) -> Iterator[tuple[str, Figures]]:
    for _ in range(rounds):
        yield "1000-row transactions", session.backlog(session.rows.bulk, session.sizes.bulk)


def kill(session: Session, rounds: int) -> Iterator[tuple[str, Figures]]:
    for _ in range(rounds):
        yield "kill -9 half-way", session.killed()


def giant(session: Session, _rounds: int) -> Iterator[tuple[str, Figures]]:
    yield "one giant transaction", session.backlog(session.rows.giant, session.sizes.giant)


def hang(session: Session, _rounds: int) -> Iterator[tuple[str, Figures]]:
    yield f"broker hung for {session.sizes.hang_s:g} s", session.hung()


def latency(session: Session, rounds: int) -> Iterator[tuple[str, Figures]]:
    session.restart(quick_poll=True)
    for rate in session.contender.rates:
        for _ in range(rounds):
            yield f"commit to readable, {rate}/s", session.latency(rate)


# In this order: the snapshot comes before all, and a restarted JVM is a cold one.
SCENARIOS: dict[str, Scenario] = {
    "single": single,
    "bulk": bulk,
    "giant": giant,
    "hang": hang,
    "kill": kill,
    "latency": latency,
}


@contextmanager
def following(contender: Contender, servers: Servers, sizes: Sizes, folder: Path) -> Iterator[Session]:
    """A session whose prefix is the name of `folder`; its program is killed at the end."""
    folder.mkdir()
    with servers.topic(folder.name) as topic:
        session = Session(contender, servers, topic, sizes, folder)
        try:
            yield session
        finally:
            session.program.kill()


def measured(
    contender: Contender, servers: Servers, sizes: Sizes, rounds: int, wanted: Collection[str], folder: Path
) -> Iterator[tuple[str, Figures]]:
    """(scenario, figures) for each round. A scenario that fails says so and is left out."""
    servers.rows.begin(sizes.snapshot)
    for number in range(rounds if "snapshot" in wanted else 0):
        with following(contender, servers, sizes, folder / f"{contender.name}{number}") as session:
            yield "snapshot, start included", session.snapshot()
    with following(contender, servers, sizes, folder / f"{contender.name}") as session:
        session.snapshot()
        for name, scenario in SCENARIOS.items():
            if name not in wanted:
                continue
            try:
                yield from scenario(session, rounds)
            except Failed as error:
                console.print(f"{contender.name}, {name}: {error}", style="red")
                session.restart()


def compared(results: Results) -> Iterator[dict[str, Any]]:
    """Each figure: medians of ours and Debezium's, how many times better ours is, and all rounds."""
    for (scenario, figure), by_name in results.items():
        medians = {name: statistics.median(values) for name, values in by_name.items()}
        yield {
            "benchmark": "listener",
            "scenario": scenario,
            "figure": figure,
            **{name: rounded(median) for name, median in medians.items()},
            "ratio": ratio(figure, medians),
            "rounds": {name: [rounded(value) for value in values] for name, values in by_name.items()},
        }


def ratio(figure: str, medians: Mapping[str, float]) -> float | None:
    ours, peer = medians.get(Ours.name), medians.get(Debezium.name)
    if not ours or not peer:
        return None
    return round(ours / peer if figure.endswith(("_per_s", "_per_cpu_s")) else peer / ours, 2)


def rounded(value: float) -> float:
    """To three digits and more."""
    return round(value, 2 if value < 10 else 1 if value < 100 else None)


def show(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        sys.stdout.write(json.dumps(line) + "\n")
    table = Table("scenario", "figure", "ours", "debezium", "times better")
    for line in lines:
        values = [line.get(name) for name in (Ours.name, Debezium.name, "ratio")]
        table.add_row(line["scenario"], line["figure"], *("" if value is None else f"{value:g}" for value in values))
    Console(width=110).print(table)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="benchmarks/listener.py"
    )
    parser.add_argument("--only", action="append", choices=["snapshot", *SCENARIOS], help="a scenario; may be repeated")
    parser.add_argument("--peer", action=argparse.BooleanOptionalAction, default=True, help="Debezium as well")
    parser.add_argument("--rounds", type=int, help="rounds of which the median counts (3; with --quick 1)")
    parser.add_argument("--hang-s", type=float, help="how long the broker hangs (600; with --quick 10)")
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it works")
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that nothing is left behind
    sizes = QUICK if chosen.quick else Sizes()
    sizes = replace(sizes, hang_s=chosen.hang_s or sizes.hang_s)
    rounds = chosen.rounds or (1 if chosen.quick else 3)
    results: Results = defaultdict(lambda: defaultdict(list))
    contenders: list[Contender] = [Ours(), Debezium()] if chosen.peer else [Ours()]
    with tempfile.TemporaryDirectory() as folder, MysqlServer() as mysql, KafkaServer() as kafka:
        servers = Servers(mysql, kafka)
        for contender in contenders:
            wanted = chosen.only or ["snapshot", *SCENARIOS]
            for scenario, figures in measured(contender, servers, sizes, rounds, wanted, Path(folder)):
                said = ", ".join(f"{figure} {rounded(value):g}" for figure, value in figures.items())
                console.print(f"{contender.name}, {scenario}: {said}")
                for figure, value in figures.items():
                    results[scenario, figure][contender.name].append(value)
    show(list(compared(results)))


if __name__ == "__main__":
    main()
