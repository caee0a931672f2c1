"""How long from a commit in MySQL until the picture is searchable, against the least that any program could need.

The product: `pixtail demo --check`, as a user runs it; 200 single-row transactions at 20 rows/s, each polled for over HTTP.
The bound: in the same run, the same model and store called directly for one picture at a time, without database, topic or polling.
Prints a JSON line and a table. Caveats: the pictures are small (320×240 and 640×480), the model is the tiny one, and everything shares
the machine's cores with the servers.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import report
from encoder.clip import load
from encoder.pictures import Pictures
from pixtail.app.demo.freshness import percentile
from pixtail.app.demo.samples import make_samples
from pixtail.core import logs, settings
from pixtail.core.points import Sync, Upsert, now_text
from sink.edge import EdgeStore

PICTURES = 60
WARM_UP = 10


def bound(folder: Path) -> list[float]:
    """Seconds per picture: fetch, decode, encode, write, and read back."""
    pictures = Pictures(settings.Pictures(root=folder))
    model = load(settings.Model(name="tiny-clip"), settings.Pictures())
    store = EdgeStore(folder / "store", "images")
    store.prepare(model.dimension, model.fingerprint)
    took = []
    for number, sample in enumerate(list(make_samples(folder, PICTURES))):
        began = time.perf_counter()
        picture = model.decode(pictures.fetch(sample.file_path))
        sync = Sync(1, sample.file_path, model.fingerprint, picture.facts, now_text())
        store.apply([Upsert(number, model.encode([picture])[0], {}, sync)])
        assert store.get([number])
        took.append(time.perf_counter() - began)
    store.close()
    return sorted(took[WARM_UP:])


def product(database: str) -> tuple[dict[str, float], dict[str, float], float]:
    """Freshness, timings, and CPU seconds of the whole demo with its servers."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [str(Path(sys.executable).with_name("pixtail")), "demo", "--check", "--json", "--database", database]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = json.loads(ran.stdout)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return report["freshness"], report["timings_s"], cpu_s


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="no difference: it takes a minute")
    parser.add_argument("--database", default="auto", help="auto, mysql or mariadb")
    arguments = parser.parse_args()
    logs.configure(level="warning")
    with tempfile.TemporaryDirectory() as folder:
        direct = bound(Path(folder))
    freshness, timings, cpu_s = product(arguments.database)
    result = {
        "benchmark": "freshness",
        "rows": freshness["rows"],
        "p50_ms": round(freshness["p50_s"] * 1000, 1),
        "p99_ms": round(freshness["p99_s"] * 1000, 1),
        "bound_p50_ms": round(percentile(direct, 0.5) * 1000, 1),
        "bound_p99_ms": round(percentile(direct, 0.99) * 1000, 1),
        "ratio_p50": round(freshness["p50_s"] / percentile(direct, 0.5), 1),
        "start_to_first_searchable_s": round(timings["first_searchable"], 1),
        "start_to_all_searchable_s": round(timings["all_searchable"], 1),
        "cpu_s": round(cpu_s, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        "cores": os.cpu_count(),
    }
    report(result)


if __name__ == "__main__":
    main()
