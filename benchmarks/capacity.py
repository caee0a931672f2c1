"""How soon a new row is searchable while rows come at four fifths of what the worker can take.

    python benchmarks/capacity.py [--quick]

First the capacity: rows per second when they are all there, while the topic's broker is as busy as later. Then rows at 80 % of it, in 20
transactions a second. A row counts from right before it is written to the topic until the store has it for good; the bound is the same at
10 %. Prints a line of JSON and a table.

Caveats: those of `benchmarks/lanes.py`, whose pipeline it is. MySQL and the listener are left out: they add what `benchmarks/listener.py`
says.
On a machine that others use, the capacity may be another one a minute later.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import closing
from pathlib import Path

from benchmarks.lanes import Pipeline
from benchmarks.report import report
from encoder.clip import load
from pixtail.app.demo.freshness import percentile
from pixtail.core import logs, settings
from pixtail.core.changes import Op
from pixtail.servers.kafka import KafkaServer

SHARE, LOW_SHARE = 0.8, 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of it")
    seconds, rows = (5.0, 1500) if parser.parse_args().quick else (40.0, 15_000)
    logs.configure(level="warning")
    model = load(settings.Model(name="tiny-clip"), settings.Pictures())
    with tempfile.TemporaryDirectory() as place, KafkaServer() as kafka:
        folder = Path(place)
        with closing(Pipeline(kafka, "capacity", folder, model)) as full:
            full.send(Op.CREATE, rows)
            with full.working():
                capacity = full.rate(lambda: full.upload_unread(seconds / 2))
        with closing(Pipeline(kafka, "low", folder, model)) as low, low.working():
            bound = low.upload(seconds, LOW_SHARE * capacity)
        with closing(Pipeline(kafka, "high", folder, model)) as high, high.working():
            took = high.upload(seconds, SHARE * capacity)
    report(
        {
            "benchmark": "capacity",
            "capacity_rows_per_s": round(capacity),
            "share": SHARE,
            "p50_ms": round(1000 * percentile(took, 0.5)),
            "p99_ms": round(1000 * percentile(took, 0.99)),
            "bound_p50_ms": round(1000 * percentile(bound, 0.5)),
            "bound_p99_ms": round(1000 * percentile(bound, 0.99)),
        }
    )


if __name__ == "__main__":
    main()
