"""The index moves to another model while it is searched: failed searches, how much slower they get, the pause of the swap, the way back.

    .venv/bin/python benchmarks/migration.py [--quick]

A real Kafka and the embedded store; 100,000 points of 512 dimensions. The models are stand-ins that take next to no time, and so are the
pictures, so that all that is measured is Pixtail's own: replay, store, swap. Searches run all the while, up to fifty a second, in the
process that does the work, as in `pixtail run`. The comparison with MySQL before the swap is left out: `benchmarks/verify.py` has it.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import encoder.clip
from benchmarks.report import report
from encoder.decode import sha256
from pixtail.app.demo.freshness import percentile
from pixtail.app.following import Following, open_generation
from pixtail.app.reindex.mover import Reindex
from pixtail.app.reindex.planning import Options
from pixtail.app.reindex.service import rolled_back
from pixtail.app.verify.report import Report
from pixtail.bus.producer import TransactionalProducer
from pixtail.bus.topics import Topics, ensure_topics
from pixtail.core import logs
from pixtail.core.changes import Change, Op, Record, Source, encode
from pixtail.core.lifecycle import Stop
from pixtail.core.metrics import Metrics
from pixtail.core.points import PictureFacts, Sync, Upsert
from pixtail.core.ports import Picture
from pixtail.core.settings import Kafka, Model, Settings
from pixtail.servers.kafka import KafkaServer
from sink.edge_index import EdgeIndex

DIMENSION = 512
BATCH = 1000
BEFORE_S = 10.0
BETWEEN_S = 0.02


class Stub:
    """An `Embedder` whose vectors are noise, of its own for each model and picture."""

    dimension = DIMENSION

    def __init__(self, name: str, fingerprint: str) -> None:
        self.name, self.fingerprint = name, fingerprint

    def decode(self, data: bytes) -> Picture:
        return Picture(
            np.frombuffer(data.ljust(12)[:12], np.uint8), PictureFacts(sha256(data), 1, 1, "STUB", len(data))
        )

    def encode(self, pictures: Sequence[Picture]) -> Any:
        return np.stack([noise(self.fingerprint, picture.facts.sha256) for picture in pictures])

    def encode_texts(self, texts: Sequence[str]) -> Any:
        return np.stack([noise(self.fingerprint, text) for text in texts])


def noise(model: str, what: str) -> Any:
    vector = np.random.default_rng(abs(hash((model, what)))).standard_normal(DIMENSION, np.float32)
    return vector / np.linalg.norm(vector)


class Refs:
    """A `PictureSource` whose files hold their own names."""

    def fetch(self, ref: str) -> bytes:
        return ref.encode()

    def close(self) -> None:
        """Nothing to give back."""


MODELS = {"old": Stub("old", "0ld"), "new": Stub("new", "4ew")}


def row(number: int) -> dict[str, Any]:
    return {"id": number, "file_path": f"pictures/{number}.jpg", "title": f"Picture {number}", "category": "car"}


def fill_topic(kafka: Kafka, topics: Topics, rows: int) -> None:
    ensure_topics(kafka, topics)
    producer = TransactionalProducer(kafka, "migration.bench")
    producer.open()
    with closing(producer):
        for first in range(0, rows, BATCH):
            producer.commit({topics.changes: [_record(number) for number in range(first, min(first + BATCH, rows))]})


def _record(number: int) -> Record:
    return encode(Change(Op.CREATE, {"id": number}, None, row(number), number + 1, Source("shop", "images")))


def fill_index(index: EdgeIndex, rows: int) -> None:
    """The former generation, as if its worker had made it."""
    old = MODELS["old"]
    store = index.store(old.fingerprint)
    store.prepare(DIMENSION, old.fingerprint, {"name": "old", "dtype": "auto"})
    for first in range(0, rows, BATCH):
        store.apply([_upsert(old, number) for number in range(first, min(first + BATCH, rows))])


def _upsert(model: Stub, number: int) -> Upsert:
    values = row(number)
    ref = str(values["file_path"])
    facts = PictureFacts(sha256(ref.encode()), 1, 1, "STUB", len(ref))
    vector = noise(model.fingerprint, facts.sha256)
    return Upsert(number, vector, values, Sync(number + 1, ref, model.fingerprint, facts, ""))


@dataclass
class Searches:
    """When each began, how long it took, and which generation answered."""

    took: list[tuple[float, float, str]] = field(default_factory=list)
    failed: int = 0

    def p(self, begun: float, ended: float, quantile: float) -> float:
        """Milliseconds."""
        seconds = sorted(took for at, took, _ in self.took if begun <= at < ended)
        return 1000 * percentile(seconds, quantile)

    def pause_ms(self, generation: str) -> float:
        """From the last answer before the first one of `generation` to that one."""
        first = next(i for i, (_, _, name) in enumerate(self.took) if name == generation)
        (at, took, _), (former_at, former_took, _) = self.took[first], self.took[first - 1]
        return 1000 * (at + took - former_at - former_took)


@contextmanager
def searching(following: Following) -> Iterator[Searches]:
    found, stop = Searches(), threading.Event()

    def search() -> None:
        number = 0
        while not stop.is_set():
            now, begun = following.current, time.perf_counter()
            vector = now.model.encode_texts([f"query {number}"])[0]
            hits = now.store.search(vector, limit=20)
            found.failed += len(hits) != 20
            found.took.append((begun, time.perf_counter() - begun, now.name))
            number += 1
            stop.wait(BETWEEN_S)

    thread = threading.Thread(target=search)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def measured(settings: Settings, index: EdgeIndex, rows: int) -> dict[str, object]:
    metrics = Metrics()
    following = Following(settings, index, metrics, open_generation(settings, index, metrics, index.current()))
    stop = Stop()
    looking = threading.Thread(target=following.run, args=(stop,))
    looking.start()
    move = Reindex(
        settings, index, Refs(), Options("new"), verify=lambda *_: Report(), show=lambda *_: None, model=MODELS["new"]
    )
    with searching(following) as searches:
        time.sleep(BEFORE_S)
        begun, cpu_s = time.perf_counter(), time.process_time()
        outcome = move.run(Stop())
        following.look()
        moved, cpu_s = time.perf_counter(), time.process_time() - cpu_s
        time.sleep(1)
        back = time.perf_counter()
        rolled_back(following)
        rollback_s = time.perf_counter() - back
        time.sleep(1)
    stop.set()
    looking.join()
    assert outcome.swapped, outcome
    assert outcome.points == rows, outcome
    before, during = searches.p(0, begun, 0.99), searches.p(begun, moved, 0.99)
    return {
        "points": rows,
        "migration_s": round(moved - begun, 1),
        "rows_per_s": round(rows / (moved - begun)),
        "rows_per_cpu_s": round(rows / cpu_s),
        "searches": len(searches.took),
        "searches_failed": searches.failed,
        "search_p50_ms_before": round(searches.p(0, begun, 0.5), 1),
        "search_p50_ms_during": round(searches.p(begun, moved, 0.5), 1),
        "search_p99_ms_before": round(before, 1),
        "search_p99_ms_during": round(during, 1),
        "p99_ratio": round(during / before, 2),
        "alias_moved_ms": round(1000 * (outcome.swap_s or 0), 1),
        "answers_paused_ms": round(searches.pause_ms("4ew"), 1),
        "rollback_s": round(rollback_s, 3),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "cores": os.cpu_count(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of it")
    rows = 10_000 if parser.parse_args().quick else 100_000
    logs.configure(level="warning")
    encoder.clip.load = lambda model, _pictures: MODELS[model.name]  # type: ignore[assignment, return-value]
    with tempfile.TemporaryDirectory() as place, KafkaServer() as server:
        kafka = Kafka(bootstrap=server.bootstrap, prefix="migration")
        settings = Settings(kafka=kafka, model=Model(name="old", batch=64))
        fill_topic(kafka, Topics("migration", settings.source), rows)
        with closing(EdgeIndex(Path(place) / "store", "images")) as index:
            fill_index(index, rows)
            report(measured(settings, index, rows))


if __name__ == "__main__":
    main()
