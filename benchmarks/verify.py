"""How long a verification takes, and how much memory: a large table on MySQL against the embedded store.

    python benchmarks/verify.py [--quick] [--rows N] [--dimension N]

The store is filled directly with what the rows ask for, but for one row in a thousand, which is missing. Then a process of its own
verifies, without a pipeline: nobody to wait for. The bound, in the same run, is what reading both sides takes, one after the other, without
comparing anything. Memory is that process's peak: of its own, and with the pages of the store's files that are mapped into it, which the
system takes back when it needs them. Prints a line of JSON and a table.

Caveats: random vectors, of another dimension than CLIP's unless it is given; the server shares the machine's cores, and its tables fit
into its memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import report
from ingest.tablerows import TableRows
from pixtail.app.verify.expected import asked, wants
from pixtail.app.verify.options import Options
from pixtail.app.verify.verifier import Verifier
from pixtail.core import logs
from pixtail.core.lifecycle import Stop
from pixtail.core.points import PictureFacts, Sync, Upsert, now_text
from pixtail.core.settings import Settings
from pixtail.servers.mysql import MysqlServer
from sink.edge import EdgeStore

ROWS, QUICK_ROWS = 1_000_000, 50_000
MISSING = 1000  # one in so many
BATCH = 5000
MODEL = "f00d"
FACTS = PictureFacts("0" * 64, 640, 480, "JPEG", 123_456)
TABLE = (
    "CREATE TABLE images (id BIGINT UNSIGNED PRIMARY KEY, file_path VARCHAR(255), title VARCHAR(255), description TEXT,"
    " category VARCHAR(50), model_id INT, brand_id INT, upload_date DATETIME, updated_at TIMESTAMP)"
)
ROW = (
    "({n}, 'uploads/2026/11/{n:08}.jpg', 'Red van number {n}', 'A red van, parked at the harbour, seen from the left. No. {n}',"
    " 'van', {model}, {brand}, '2026-11-{day:02} 10:20:30', '2026-11-{day:02} 10:20:31')"
)


class NoPipeline:
    """Nothing is under way, and no picture fails."""

    def failing(self) -> frozenset[Any]:
        return frozenset()

    def wait(self, _end: object) -> str:
        return ""

    def send_again(self, _keys: Sequence[Any]) -> str:
        return ""


def fill_table(server: MysqlServer, rows: int) -> None:
    server.create_database("shop")
    server.execute(TABLE, database="shop")
    for first in range(1, rows + 1, BATCH):
        numbers = range(first, min(first + BATCH, rows + 1))
        values = ",".join(ROW.format(n=n, model=n % 50, brand=n % 9, day=1 + n % 28) for n in numbers)
        server.execute(f"INSERT INTO images VALUES {values}", database="shop")  # noqa: S608 - numbers of ours


def fill_store(settings: Settings, dimension: int) -> None:
    vectors = np.random.default_rng(1).normal(size=(BATCH, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with closing(EdgeStore(settings.qdrant.path, "images", min_free_bytes=0)) as store:
        store.prepare(dimension, MODEL)
        rows = TableRows(settings).all()
        while batch := list(islice(rows, BATCH)):
            store.apply([upsert(row, vectors[n], settings) for n, row in enumerate(batch) if row["id"] % MISSING])


def upsert(row: Any, vector: Any, settings: Settings) -> Upsert:
    point = wants(row, settings.table)
    assert point is not None
    sync = Sync(row["id"], point.ref, MODEL, FACTS, now_text())
    return Upsert(asked(row, settings.table).id, vector, point.payload, sync)


def measure(settings: Settings) -> dict[str, Any]:
    rows = TableRows(settings)
    with closing(EdgeStore(settings.qdrant.path, "images")) as store:
        store.check()
        opened_mb = rss_mb("VmRSS")
        own_mb: list[int] = []
        verifier = Verifier(
            table=settings.table,
            rows=rows,
            store=store,
            model=MODEL,
            pipeline=NoPipeline(),
            show=lambda *_: own_mb.append(rss_mb("RssAnon")),
            stop=Stop(),
        )
        began_s = time.process_time()
        found = verifier.run(Options())
        cpu_s = time.process_time() - began_s
        peak_mb = rss_mb("VmHWM")
        reading = [timed(lambda: drain(rows.all())), timed(lambda: drain(store.scan()))]
    assert found.drift.total() == found.rows // MISSING, found.as_json()
    return {
        "rows": found.rows,
        "found": found.drift.total(),
        "took_s": round(found.took_s, 1),
        "rows_per_s": round(found.rows / found.took_s),
        "rows_per_cpu_s": round(found.rows / cpu_s),
        "bound_s": round(sum(took_s for took_s, _ in reading), 1),
        "ratio": round(found.took_s / sum(took_s for took_s, _ in reading), 2),
        "ratio_cpu": round(cpu_s / sum(cpu_s for _, cpu_s in reading), 2),
        "peak_own_mb": max(own_mb),
        "peak_rss_mb": peak_mb,
        "rss_once_the_store_is_open_mb": opened_mb,
    }


def drain(items: Iterable[object]) -> None:
    for _ in items:
        pass


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds, and seconds of this process on a processor."""
    began = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began[0], time.process_time() - began[1]


def rss_mb(what: str) -> int:
    """https://man7.org/linux/man-pages/man5/proc_pid_status.5.html"""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{what}:"))
    return int(line.split()[1]) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a twentieth of the rows")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logs.configure(level="warning")
    if arguments.measure:
        url, path = arguments.measure
        sys.stdout.write(json.dumps(measure(Settings(mysql={"url": url}, qdrant={"path": path}))))
        return
    rows = arguments.rows or (QUICK_ROWS if arguments.quick else ROWS)
    with tempfile.TemporaryDirectory() as folder, MysqlServer() as server:
        url, path = server.url("shop"), Path(folder) / "store"
        fill_table(server, rows)
        fill_store(Settings(mysql={"url": url}, qdrant={"path": path}), arguments.dimension)
        command = [sys.executable, __file__, "--measure", url, str(path)]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures = {
        "benchmark": "verify",
        "dimension": arguments.dimension,
        **json.loads(ran.stdout),
        "cores": os.cpu_count(),
    }
    report(figures)


if __name__ == "__main__":
    main()
