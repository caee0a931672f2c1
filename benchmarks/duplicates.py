"""How long it takes to find the near duplicates among 100,000 vectors of 512 dimensions, and whether all of them are found.

    python benchmarks/duplicates.py [--quick]

Two sets of vectors: spread evenly, and as CLIP's lie, around one common direction with ever shorter axes. In each, pairs are planted whose
cosine is right above the threshold. The bound is the plain product of all blocks in full, with the same comparison, timed in the same
run on a part of the blocks. Then the whole work of the command: points through `find_duplicates`, temporary files included. Each in a
process of its own. Prints a line of JSON and a table for each.

Caveats: made vectors; points come from memory, not from a store; other programs on the machine lengthen seconds more than CPU-seconds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.report import report
from pixtail.core.points import PictureFacts, StoredPoint, Sync
from pixtail.search import nearness
from pixtail.search.duplicates import find_duplicates
from pixtail.search.nearness import near_pairs

DIMENSION = 512
THRESHOLD = 0.97
PLANTED = 1000
BOUND_PART = 10  # one of so many rows of blocks is multiplied in full

Array = np.ndarray[Any, np.dtype[np.float32]]


def even(random: np.random.Generator, rows: int) -> Array:
    return unit(random.normal(size=(rows, DIMENSION)).astype(np.float32))


def like_clip(random: np.random.Generator, rows: int) -> Array:
    """A mean cosine of 0.6, and of what is beside the common direction, the k-th axis as long as 1/√k."""
    axes = np.arange(1, DIMENSION + 1) ** -0.5
    beside = random.normal(size=(rows, DIMENSION)).astype(np.float32) * (axes / np.linalg.norm(axes)).astype(np.float32)
    beside[:, 0] += np.float32(1.2)
    return unit(beside)


def unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def planted(random: np.random.Generator, vectors: Array) -> set[tuple[int, int]]:
    """Changes vectors so that these pairs, far from each other in the order, have a cosine of 0.9701 to 1."""
    rows = random.permutation(len(vectors))[: 2 * PLANTED]
    left, right = rows[:PLANTED], rows[PLANTED:]
    other = unit(random.normal(size=(PLANTED, DIMENSION)).astype(np.float32))
    other -= np.einsum("ij,ij->i", other, vectors[left])[:, None] * vectors[left]
    cosine = np.linspace(THRESHOLD + 1e-4, 1, PLANTED, dtype=np.float32)[:, None]
    vectors[right] = cosine * vectors[left] + np.sqrt(1 - cosine**2) * unit(other)
    return {(min(pair), max(pair)) for pair in zip(left.tolist(), right.tolist(), strict=True)}


def in_full(vectors: Array) -> int:
    """Every pair's score, and which are high enough: of one row of blocks in `BOUND_PART`. Returns how many scores that were."""
    done = 0
    for i in range(0, len(vectors), nearness.ROWS * BOUND_PART):
        for j in range(i, len(vectors), nearness.COLUMNS):
            scores = vectors[i : i + nearness.ROWS] @ vectors[j : j + nearness.COLUMNS].T
            np.flatnonzero(scores >= THRESHOLD)
            done += scores.size
    return done


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Its result, seconds and CPU-seconds."""
    begun_s, cpu_s = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - begun_s, time.process_time() - cpu_s


def rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def pairs(kind: str, rows: int) -> dict[str, object]:
    random = np.random.default_rng(1)
    vectors = (even if kind == "even" else like_clip)(random, rows)
    expected = planted(random, vectors)
    near_pairs(vectors[:2048], THRESHOLD)  # the library's threads start
    found, wall_s, cpu_s = timed(lambda: near_pairs(vectors, THRESHOLD))
    done, bound_s, bound_cpu_s = timed(lambda: in_full(vectors))
    whole = rows * (rows - 1) / 2 / done
    missed = expected - set(zip(found.left.tolist(), found.right.tolist(), strict=True))
    return {
        "benchmark": "near pairs",
        "vectors": f"{rows} x {DIMENSION}, {kind}",
        "seconds": round(wall_s, 1),
        "cpu_seconds": round(cpu_s, 1),
        "all_in_full_seconds": round(bound_s * whole, 1),
        "all_in_full_cpu_seconds": round(bound_cpu_s * whole, 1),
        "ratio_cpu": round(cpu_s / (bound_cpu_s * whole), 2),
        "planted": len(expected),
        "missed": len(missed),
        "besides_planted": len(found.left) - len(expected) + len(missed),
    }


def command(_kind: str, rows: int) -> dict[str, object]:
    begun_mb = rss_mb()
    found, wall_s, cpu_s = timed(lambda: find_duplicates(points(rows), THRESHOLD, 100))
    return {
        "benchmark": "duplicates",
        "points": rows,
        "exact_groups": found.exact_groups,
        "near_groups": found.near_groups,
        "seconds": round(wall_s, 1),
        "cpu_seconds": round(cpu_s, 1),
        "peak_rss_mb": round(rss_mb()),
        "rss_before_mb": round(begun_mb),
    }


def points(rows: int) -> Iterator[StoredPoint]:
    """Each hundredth is a copy of the one before, and each thousandth looks like the one before."""
    random = np.random.default_rng(2)
    for start in range(0, rows, 1000):
        vectors = like_clip(random, min(1000, rows - start))
        vectors[1] = vectors[0]
        for row, vector in enumerate(vectors.tolist(), start):
            facts = PictureFacts(f"{row - (row % 100 == 50):064x}", 640, 480, "JPEG", 50_000)
            yield StoredPoint(row, {"image_id": row}, Sync(1, "a.jpg", "f00d", facts, ""), vector)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the vectors")
    rows = 20_000 if parser.parse_args().quick else 100_000
    context = multiprocessing.get_context("spawn")
    for measure, kind in ((pairs, "even"), (pairs, "like CLIP's"), (command, "")):
        with context.Pool(1) as pool:
            report(pool.apply(measure, (kind, rows)))


if __name__ == "__main__":
    main()
