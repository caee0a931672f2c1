"""How fast the binlog is decoded, alone: our decoder against mysql-replication's own reader. No Kafka.

    python benchmarks/decode.py [--quick] [--rounds 3]

Both read the same binlog from the same server, each in a process of its own, and turn every row into named values. What counts is the CPU
time of that process, the network included. Two binlogs: transactions of one row, and of 1000 rows. Prints a table, and a line of JSON per
binlog: medians over the rounds, in which they take turns.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, TypeAlias

from pydantic import SecretStr
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent
from rich.console import Console
from rich.table import Table

from benchmarks import workload
from benchmarks.workload import DATABASE
from ingest import mysql, tables
from ingest.binlog import BinlogStream
from ingest.position import Position
from ingest.rowimage import RowChange
from ingest.transactions import Followed, Transaction, Transactions
from pixtail.core.settings import Mysql, Settings
from pixtail.servers.mysql import MysqlServer
from pixtail.servers.process import HOST

Place: TypeAlias = tuple[str, int]
Decoder: TypeAlias = Callable[[int, Place], Iterator[int]]
"""From a server's port and a place in its binlog to the numbers of rows decoded, bit by bit; endless."""
SERVER_ID = 4242


class Counter:
    """A handler of `Transactions` that counts rows."""

    rows_seen = 0

    def rows(
        self, _transaction: Transaction, changes: list[RowChange], _file: str, _pos: int, _size_bytes: int
    ) -> None:
        self.rows_seen += len(changes)

    def truncated(self, _transaction: Transaction, _file: str, _pos: int) -> None: ...

    def committed(self, _gtid: str | None, _file: str, _pos: int, _commit_ms: int) -> None: ...


def ours(port: int, place: Place) -> Iterator[int]:
    """The listener's way from the socket to the rows."""
    settings = Settings(mysql=Mysql(url=SecretStr(f"mysql://root@{HOST}:{port}/{DATABASE}?ssl_mode=DISABLED")))
    server, followed = _looked_at(settings)
    with BinlogStream(settings, server, Position(None, *place)) as stream:
        counter = Counter()
        transactions = Transactions(followed, stream.file, stream.pos, counter)
        while True:
            transactions.feed(stream.read(1.0), 0)
            yield counter.rows_seen
            counter.rows_seen = 0


def _looked_at(settings: Settings) -> tuple[mysql.Server, Followed]:
    with closing(mysql.connect(settings.mysql.address)) as connection:
        server = mysql.look(connection, settings.mysql)
        table = tables.describe(connection, server, DATABASE, workload.TABLE)
        assert table is not None
        charset_of = tables.charsets(connection, server)
    return server, Followed(DATABASE, table.name, False, charset_of, table.json, table.unsigned)


def theirs(port: int, place: Place) -> Iterator[int]:
    """mysql-replication as its documentation uses it."""
    events = [WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent]
    with closing(_stream(port, place, only_events=events, only_schemas=[DATABASE])) as stream:
        for event in stream:
            yield len(event.rows)


def _stream(port: int, place: Place, **options: Any) -> Any:
    return BinLogStreamReader(
        connection_settings={"host": HOST, "port": port, "user": "root", "ssl_disabled": True},
        server_id=SERVER_ID,
        log_file=place[0],
        log_pos=place[1],
        resume_stream=True,
        blocking=True,
        enable_logging=False,
        **options,
    )


def speed(decoder: Decoder, port: int, place: Place, rows: int) -> float:
    """Rows per CPU-second of this process, from the first rows on: opening a stream is not decoding."""
    decoded = decoder(port, place)
    first = next(filter(None, decoded))
    seen, begun = first, time.process_time()
    while seen < rows:
        seen += next(decoded)
    return (seen - first) / (time.process_time() - begun)


def measured(decoder: Decoder, port: int, place: Place, rows: int) -> float:
    """`speed` in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(speed, (decoder, port, place, rows))


def show(lines: list[dict[str, Any]]) -> None:
    table = Table("transactions of", "ours", "mysql-replication", "ratio", title="rows per CPU-second")
    for line in lines:
        sys.stdout.write(json.dumps(line) + "\n")
        table.add_row(*(f"{line[name]:g}" for name in ("rows_per_transaction", "ours", "peer", "ratio")))
    Console(width=100).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds of which the median counts")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    chosen = parser.parse_args()
    factor, lines = (1 if chosen.quick else 10), []
    with MysqlServer() as server:
        rows = workload.Rows(server)
        rows.begin(0)
        for size, make, number in ((1, rows.single, 3_000 * factor), (1000, rows.bulk, 20_000 * factor)):
            place = server.query("SHOW MASTER STATUS")[0][:2]
            make(number)
            found: dict[str, list[float]] = {"ours": [], "peer": []}
            for _ in range(chosen.rounds):
                found["ours"].append(measured(ours, server.port, place, number))
                found["peer"].append(measured(theirs, server.port, place, number))
            medians = {name: round(statistics.median(values)) for name, values in found.items()}
            ratio = round(medians["ours"] / medians["peer"], 1)
            lines.append({"benchmark": "decode", "rows_per_transaction": size, **medians, "ratio": ratio})
    show(lines)


if __name__ == "__main__":
    main()
