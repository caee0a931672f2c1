"""How long a renamed brand takes in the embedded store: one write by filter, with the time of an exact search beside it.

    python benchmarks/lookups.py [--quick] [--points N]

Half of the points have one brand, the rest a thousand others. Caveats: random vectors of 512 dimensions; no index of the column, so that
each write reads all points; what is measured is the store alone, without database and topic.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.report import report
from pixtail.core import logs
from pixtail.core.points import PictureFacts, SetNames, Sync, Upsert, lookup_version
from sink.edge import EdgeStore

POINTS, QUICK_POINTS = 20_000, 2_000
DIMENSION = 512
BATCH = 256
BRANDS = 1000
VERSION = lookup_version("brands", "brand_id")
FACTS = PictureFacts("0" * 64, 640, 480, "JPEG", 100_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the points")
    parser.add_argument("--points", type=int)
    arguments = parser.parse_args()
    points = arguments.points or (QUICK_POINTS if arguments.quick else POINTS)
    logs.configure()
    with tempfile.TemporaryDirectory() as folder:
        store = EdgeStore(Path(folder), "images")
        fill(store, points)
        vector = np.ones(DIMENSION, np.float32)
        searched = milliseconds(lambda: store.search(vector, limit=10))
        figures = {
            "points": points,
            "search_ms": searched,
            "rename_half_of_all_ms": milliseconds(lambda: store.apply([named(0, 10)])),
            "rename_in_vain_ms": milliseconds(lambda: store.apply([named(0, 10)])),
            "rename_few_ms": milliseconds(lambda: store.apply([named(1, 10)])),
            "mend_64_by_id_ms": milliseconds(lambda: store.apply([named(n, 20, n * 2) for n in range(1, 65)])),
        }
        store.close()
    report({**figures, "rename_half_to_search": round(figures["rename_half_of_all_ms"] / searched, 1)})


def fill(store: EdgeStore, points: int) -> None:
    store.prepare(DIMENSION, "benchmark")
    vectors = np.random.default_rng(1).normal(size=(BATCH, DIMENSION)).astype(np.float32)
    for first in range(0, points, BATCH):
        store.apply([point(first + number, vector) for number, vector in enumerate(vectors)])


def point(number: int, vector: np.ndarray[tuple[int], np.dtype[np.float32]]) -> Upsert:
    brand = 0 if number % 2 else 1 + number // 2 % BRANDS
    columns = {
        "image_id": number,
        "title": "a title of some length",
        "brand_id": brand,
        "brand_name": "old",
        VERSION: 1,
    }
    return Upsert(number, vector, columns, Sync(1, f"{number}.jpg", "model", FACTS, ""))


def named(brand: int, seq: int, *ids: int) -> SetNames:
    return SetNames("brand_id", brand, {"brand_name": "new"}, VERSION, seq, ids=frozenset(ids) if ids else None)


def milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return round((time.perf_counter() - began) * 1000, 2)


if __name__ == "__main__":
    main()
