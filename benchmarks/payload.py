"""Rows of which only a column has changed, through the whole worker: no picture is fetched, no model is asked.

    python benchmarks/payload.py [--quick]

Points with vectors stand in the store, and one update of each row's title in the topic of a real Kafka; the worker works them off.
Twice anew: with the embedded store, and, as the bound, with one in memory: what is left then is the worker's own and the topic's.
Prints a line of JSON and a table.

Caveats: all updates are there when the worker starts; rows are small (three columns); Kafka and the worker share the machine's cores.
The peak of memory is that of the whole process, with the model that it loads and does not use, and what fills the topic and the store.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import report
from encoder.clip import load
from encoder.pictures import Pictures
from encoder.worker import Worker
from pixtail.bus.consumer import LANES, ChangeConsumer
from pixtail.bus.dead_letters import DeadLetters
from pixtail.bus.inspection import lane_group
from pixtail.bus.producer import TransactionalProducer
from pixtail.bus.topics import Topics, ensure_topics
from pixtail.core import logs, settings
from pixtail.core.changes import Change, Op, Record, Source, encode
from pixtail.core.lifecycle import Stop
from pixtail.core.metrics import Metrics
from pixtail.core.points import PictureFacts, Sync, Upsert, now_text
from pixtail.core.ports import Embedder, Picture, VectorStore
from pixtail.servers.kafka import KafkaServer
from sink.edge import EdgeStore
from sink.memory import MemoryStore

CHUNK = 1000


class Counting:
    """The model, and how many pictures it was asked for."""

    def __init__(self, model: Embedder) -> None:
        self.name, self.fingerprint, self.dimension = model.name, model.fingerprint, model.dimension
        self.decode, self.encode_texts = model.decode, model.encode_texts
        self.encoded = 0
        self._model = model

    def encode(self, pictures: Sequence[Picture]) -> Any:
        self.encoded += len(pictures)
        return self._model.encode(pictures)


def fill(store: VectorStore, model: Embedder, rows: int) -> None:
    """A point per row, in the row's first version."""
    store.prepare(model.dimension, model.fingerprint)
    vectors = np.random.default_rng(1).normal(size=(CHUNK, model.dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    facts = PictureFacts("ab" * 32, 640, 480, "JPEG", 50_000)
    for first in range(0, rows, CHUNK):
        syncs = [Sync(n + 1, f"{n}.jpg", model.fingerprint, facts, now_text()) for n in range(first, first + CHUNK)]
        store.apply([Upsert(s.seq - 1, vectors[n], {"title": "old"}, s) for n, s in enumerate(syncs)])


def update(number: int, rows: int) -> Record:
    row = {"id": number, "file_path": f"{number}.jpg", "title": f"new {number}"}
    return encode(Change(Op.UPDATE, {"id": number}, None, row, rows + number + 1, Source("shop", "images")))


def work_off(server: KafkaServer, name: str, store: VectorStore, model: Counting, rows: int) -> dict[str, float]:
    """Seconds, CPU seconds of this process, and encodings."""
    kafka = settings.Kafka(bootstrap=server.bootstrap, prefix=name)
    topics = Topics(name, "shop.images")
    ensure_topics(kafka, topics)
    with closing(TransactionalProducer(kafka, f"{name}.bench")) as producer:
        producer.open()
        for first in range(0, rows, CHUNK):
            producer.commit({topics.changes: [update(n, rows) for n in range(first, first + CHUNK)]})
    metrics, stop = Metrics(), Stop()
    live, backlog = (ChangeConsumer(kafka, topics.changes, lane_group(topics, lane), lane) for lane in LANES)
    worker = Worker(
        topic=topics.changes,
        live=live,
        backlog=backlog,
        dead_letters=DeadLetters(kafka, topics),
        store=store,
        pictures=Pictures(settings.Pictures()),
        embedder=model,
        table=settings.Table(),
        model=settings.Model(name="tiny-clip"),
        metrics=metrics,
    )
    done = metrics.images.labels("payload_only")._value
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    while not done.get():
        time.sleep(0.001)
    counted, began_s, began_cpu_s = done.get(), time.perf_counter(), time.process_time()
    while done.get() < rows:
        time.sleep(0.005)
    took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    stop.set()
    thread.join()
    return {"rows_per_s": (rows - counted) / took_s, "rows_per_cpu_s": (rows - counted) / cpu_s}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of it")
    rows = 10_000 if parser.parse_args().quick else 100_000
    logs.configure(level="warning")
    model = Counting(load(settings.Model(name="tiny-clip"), settings.Pictures()))
    with tempfile.TemporaryDirectory() as place, KafkaServer() as kafka:
        with closing(EdgeStore(Path(place), "images")) as embedded:
            fill(embedded, model, rows)
            figures = work_off(kafka, "embedded", embedded, model, rows)
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        with closing(MemoryStore()) as memory:
            fill(memory, model, rows)
            bound = work_off(kafka, "memory", memory, model, rows)
    report(
        {
            "benchmark": "payload",
            "rows": rows,
            "rows_per_s": round(figures["rows_per_s"]),
            "rows_per_cpu_s": round(figures["rows_per_cpu_s"]),
            "in_memory_rows_per_s": round(bound["rows_per_s"]),
            "in_memory_rows_per_cpu_s": round(bound["rows_per_cpu_s"]),
            "encodings": model.encoded,
            "peak_rss_mb": round(peak_mb),
        }
    )


if __name__ == "__main__":
    main()
