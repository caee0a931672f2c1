"""The embedded store under load: writes that are durable when they return, and exact search over what was written.

    python benchmarks/store.py [--quick]

Each measurement has a process and a folder of its own: rows of 512 dimensions with the payload of the upload app, written in batches of
64 and of 256, then columns alone written over them, then searches. The peers are the same engine without anything of ours (no
conditions, no tombstones, nothing synced), and for searches also NumPy over an array in memory. Prints a line of JSON and a table.

Caveats: the vectors are random; the searches come one after another, nobody writes meanwhile; the files are in the page cache.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from qdrant_edge import EdgeShard, Point, Query, SearchRequest, UpdateOperation

from benchmarks.report import report
from pixtail.app.demo.freshness import percentile
from pixtail.core import logs
from pixtail.core.points import PictureFacts, SetPayload, Sync, Upsert
from sink.edge import EdgeStore
from sink.edge_requests import shard_config
from sink.points import payload_of

DIMENSION = 512
LIMIT = 20
SEARCHES = 300
SEQ = 1_800_000_000_000 << 10

Vectors = NDArray[np.float32]
Measured = dict[str, float]
Plain = tuple[int, Any, dict[str, Any]]


class Took(NamedTuple):
    """How long something took, and how much of it the processor worked, all threads together."""

    wall_s: float
    cpu_s: float


def vectors(count: int, seed: int) -> Vectors:
    made = np.random.default_rng(seed).standard_normal((count, DIMENSION), dtype=np.float32)
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), dtype=np.float32)


def row(number: int) -> dict[str, Any]:
    return {
        "image_id": number,
        "title": f"Model {number % 500} in the evening light",
        "description": "A red car in front of a brick house, seen from the left, with its doors open",
        "category": ("car", "truck", "van")[number % 3],
        "model_id": number % 500,
        "model_name": f"Model {number % 500}",
        "brand_id": number % 50,
        "brand_name": f"Brand {number % 50}",
        "brand_chinese_name": "小米汽车",
        "upload_date": "2026-11-21T10:00:00Z",
        "updated_at": "2026-11-21T10:00:00Z",
    }


def sync(number: int, seq: int) -> Sync:
    facts = PictureFacts(f"{number:064x}", 1600, 1200, "JPEG", 345_678)
    return Sync(seq, f"uploads/{number % 100}/{number}.jpg", "0123456789abcdef", facts, "2026-11-21T10:00:00.000Z")


def batches(rows: int, size: int) -> Iterator[list[Upsert]]:
    for first in range(0, rows, size):
        made = vectors(min(size, rows - first), first)
        yield [Upsert(first + i, vector, row(first + i), sync(first + i, SEQ)) for i, vector in enumerate(made)]


def ours(rows: int, size: int, datatype: str = "float32") -> Measured:
    logs.configure(level="warning")
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(EdgeStore(Path(folder), "images", datatype=datatype)) as store,
    ):
        store.prepare(DIMENSION, "f00d")
        written = [timed(partial(store.apply, batch)) for batch in batches(rows, size)]
        columns = [timed(partial(store.apply, batch)) for batch in column_batches(rows, size)]
        searched = search_times(lambda query: store.search(query, limit=LIMIT))
        file = Path(folder) / "index.tar"
        packed = timed(lambda: store.snapshot(file))
        return {
            **rates("upserts", rows, written),
            **latencies("apply", written),
            **rates("payloads", rows, columns),
            **latencies("search", searched),
            "snapshot_s": packed.wall_s,
            "snapshot_mb": file.stat().st_size / 1e6,
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


def half(rows: int, size: int) -> Measured:
    """The same with `qdrant.datatype = "float16"`."""
    return ours(rows, size, "float16")


def column_batches(rows: int, size: int) -> Iterator[list[SetPayload]]:
    for first in range(0, rows, size):
        numbers = range(first, min(rows, first + size))
        yield [SetPayload(n, {**row(n), "title": "renamed"}, sync(n, SEQ + 1), SEQ) for n in numbers]


def engine(rows: int, size: int) -> Measured:
    """The same points, converted beforehand, as fast as the library takes them, and nothing on the disk for sure."""
    with tempfile.TemporaryDirectory() as folder:
        shard = EdgeShard.create(folder, shard_config(DIMENSION))

        def write(points: Sequence[Plain]) -> None:
            made = [Point(number, vector, payload) for number, vector, payload in points]
            shard.update(UpdateOperation.upsert_points(made))

        def search(query: Vectors) -> object:
            return shard.search(SearchRequest(Query.Nearest(query.tolist()), LIMIT, with_payload=True))

        written = [timed(partial(write, points)) for points in map(points_of, batches(rows, size))]
        measured = {**rates("upserts", rows, written), **latencies("search", search_times(search))}
        shard.close()
        return measured


def points_of(batch: Sequence[Upsert]) -> list[Plain]:
    return [(int(write.id), write.vector.data, payload_of(write)) for write in batch]


def brute_force(rows: int, _size: int) -> Measured:
    """What a search costs at least: one pass over all vectors, in memory, by BLAS."""
    everything = vectors(rows, 0)

    def search(query: Vectors) -> object:
        scores = everything @ query
        best = np.argpartition(-scores, LIMIT)[:LIMIT]
        return best[np.argsort(-scores[best])]

    return latencies("search", search_times(search))


def search_times(search: Callable[[Vectors], object]) -> list[Took]:
    queries = vectors(SEARCHES + 20, 1_000_000_007)
    return [timed(partial(search, query)) for query in queries][20:]


def rates(name: str, rows: int, took: Sequence[Took]) -> Measured:
    wall_s, cpu_s = sum(one.wall_s for one in took), sum(one.cpu_s for one in took)
    return {f"{name}_per_s": rows / wall_s, f"{name}_per_cpu_s": rows / cpu_s}


def latencies(name: str, took: Sequence[Took]) -> Measured:
    in_order = sorted(1000 * one.wall_s for one in took)
    return {f"{name}_p50_ms": percentile(in_order, 0.5), f"{name}_p99_ms": percentile(in_order, 0.99)}


def timed(do: Callable[[], object]) -> Took:
    begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
    do()
    return Took(time.perf_counter() - begun_s, time.process_time() - begun_cpu_s)


def alone(measure: Callable[[int, int], Measured], rows: int, size: int) -> Measured:
    """In a process that did nothing else: its memory is what the store needs."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(measure, rows, size).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of it")
    rows = 10_000 if parser.parse_args().quick else 100_000
    figures: dict[str, object] = {"benchmark": "store", "rows": rows, "dimension": DIMENSION}
    for size in (64, 256):
        mine, peer = alone(ours, rows, size), alone(engine, rows, size)
        figures |= {f"{name}_{size}": round(value, 1) for name, value in mine.items()}
        figures |= {f"engine_{name}_{size}": round(value, 1) for name, value in peer.items()}
        figures[f"ratio_upserts_{size}"] = round(mine["upserts_per_cpu_s"] / peer["upserts_per_cpu_s"], 2)
    figures |= {f"float16_{name}_256": round(value, 1) for name, value in alone(half, rows, 256).items()}
    figures |= {f"numpy_{name}": round(value, 1) for name, value in alone(brute_force, rows, 0).items()}
    report(figures)


if __name__ == "__main__":
    main()
