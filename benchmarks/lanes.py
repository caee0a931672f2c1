"""A fresh upload while a backlog is being worked off: how soon it is searchable, and what the backlog loses by it.

    python benchmarks/lanes.py [--quick]

The worker with the tiny model and the embedded store, on a real Kafka, four times anew: uploads alone, a backlog alone (a snapshot's, of a
million rows, which are not worked off to the end), a backlog while as many uploads are written to a topic that nobody reads, and both at
once. Measuring begins when the live lane has read over the whole backlog, which is timed too. An upload counts from right before it is
written to the topic until the store has it for good. The bound is the same run without the other lane; for the backlog that is the
one with unread uploads, since each is a transaction of its own, which the broker and the writer work on, on the same cores.
Prints a line of JSON and a table.

Caveats: small pictures (320×240 and 640×480), the tiny model; topic, worker and the writer of uploads share the machine's
cores, and worker and writer one interpreter.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.report import report
from encoder.clip import load
from encoder.pictures import Pictures
from encoder.worker import Worker
from pixtail.app.demo.freshness import percentile
from pixtail.app.demo.samples import make_samples
from pixtail.bus.consumer import ChangeConsumer
from pixtail.bus.dead_letters import DeadLetters
from pixtail.bus.inspection import lane_group
from pixtail.bus.producer import TransactionalProducer
from pixtail.bus.topics import Topics, ensure_topics
from pixtail.core import logs, settings
from pixtail.core.changes import Change, Op, Record, Source, encode
from pixtail.core.lifecycle import Stop
from pixtail.core.metrics import Metrics
from pixtail.core.points import PointId, Upsert, Write
from pixtail.core.ports import Applied, Embedder
from pixtail.servers.kafka import KafkaServer
from sink.edge import EdgeStore

SAMPLES = 200
ROWS, QUICK_ROWS = 1_000_000, 20_000
SECONDS, QUICK_SECONDS = 40.0, 5.0
COMMIT_ROWS = 10_000
FIRST_UPLOAD = 10_000_000
PROBE = FIRST_UPLOAD - 1
RATE = 20  # transactions a second, of one upload each unless it is said otherwise
WARM_UP_ROWS = 300
WARM_UP = 20  # uploads that do not count, if there are many more


class Timed(EdgeStore):
    """Remembers when each point was there for good."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "images")
        self.done_s: dict[PointId, float] = {}

    def apply(self, writes: Sequence[Write]) -> Applied:
        applied = super().apply(writes)
        now_s = time.perf_counter()
        self.done_s.update({write.id: now_s for write in writes if isinstance(write, Upsert)})
        return applied


class Pipeline:
    """A topic, a store, and what is needed to work on them."""

    def __init__(self, kafka: KafkaServer, name: str, folder: Path, model: Embedder) -> None:
        self._kafka = settings.Kafka(bootstrap=kafka.bootstrap, prefix=name)
        self._topics = Topics(name, "shop.images")
        self._model = model
        self._pictures = Pictures(settings.Pictures(root=folder / "pictures"))
        self._refs = [sample.file_path for sample in make_samples(folder / "pictures", SAMPLES)]
        self._producer = TransactionalProducer(self._kafka, f"{name}.bench")
        self._sent_s: dict[int, float] = {}
        self.read_over_s = 0.0
        self.store = Timed(folder / name)
        ensure_topics(self._kafka, self._topics)
        self._producer.open()

    def close(self) -> None:
        self._producer.close()
        self._pictures.close()
        self.store.close()

    @contextmanager
    def working(self) -> Iterator[None]:
        stop = Stop()
        worker = threading.Thread(target=self._worker().run, args=(stop,))
        worker.start()
        try:
            yield
        finally:
            stop.set()
            worker.join()

    def _worker(self) -> Worker:
        live, backlog = (
            ChangeConsumer(self._kafka, self._topics.changes, lane_group(self._topics, lane), lane)
            for lane in ("live", "backlog")
        )
        return Worker(
            topic=self._topics.changes,
            live=live,
            backlog=backlog,
            dead_letters=DeadLetters(self._kafka, self._topics),
            store=self.store,
            pictures=self._pictures,
            embedder=self._model,
            table=settings.Table(),
            model=settings.Model(name="tiny-clip"),
            metrics=Metrics(),
        )

    def send(self, op: Op, rows: int) -> None:
        """Writes rows that are to be worked off: a backlog, if they are read ones."""
        for first in range(0, rows, COMMIT_ROWS):
            numbers = range(first, min(first + COMMIT_ROWS, rows))
            self._producer.commit({self._topics.changes: [self._record(op, number) for number in numbers]})

    def read_over(self) -> float:
        """Seconds until an upload behind the whole backlog is in the store."""
        begun = time.perf_counter()
        self._producer.commit({self._topics.changes: [self._record(Op.CREATE, PROBE)]})
        self.wait([PROBE])
        return time.perf_counter() - begun

    def upload(self, seconds: float, rows_per_s: float = RATE) -> list[float]:
        """At a constant rate; how long each took, in seconds, sorted."""
        numbers = self._write(seconds, self._topics.changes, rows_per_s)
        self.wait([FIRST_UPLOAD + number for number in numbers])
        return sorted(
            self.store.done_s[FIRST_UPLOAD + n] - self._sent_s[FIRST_UPLOAD + n]
            for n in numbers[min(WARM_UP, len(numbers) // 4) :]
        )

    def upload_unread(self, seconds: float) -> None:
        """The same, to a topic that nobody reads meanwhile."""
        self._write(seconds, self._topics.state, RATE)

    def _write(self, seconds: float, topic: str, rows_per_s: float) -> range:
        begun, written = time.perf_counter(), 0
        for tick in range(int(RATE * seconds)):
            time.sleep(max(0.0, begun + tick / RATE - time.perf_counter()))
            due = range(written, int((tick + 1) * rows_per_s / RATE))
            self._sent_s.update(dict.fromkeys((FIRST_UPLOAD + number for number in due), time.perf_counter()))
            self._producer.commit({topic: [self._record(Op.CREATE, FIRST_UPLOAD + number) for number in due]})
            written = due.stop
        return range(written)

    def wait(self, ids: Sequence[int]) -> None:
        while not all(number in self.store.done_s for number in ids):
            time.sleep(0.01)

    def rate(self, doing: Callable[[], object]) -> float:
        """Of the rows that were sent, how many per second are worked off while something is done, the first ones not counted."""
        while len(self.worked_off()) < WARM_UP_ROWS:
            time.sleep(0.01)
        begun = time.perf_counter()
        doing()
        ended = time.perf_counter()
        return sum(begun <= at_s <= ended for at_s in self.worked_off()) / (ended - begun)

    def worked_off(self) -> list[float]:
        """When each of the rows that were sent was in the store."""
        return [at_s for number, at_s in list(self.store.done_s.items()) if int(number) < PROBE]

    def _record(self, op: Op, number: int) -> Record:
        row = {"id": number, "file_path": self._refs[number % SAMPLES]}
        return encode(Change(op, {"id": number}, None, row, number + 1, Source("shop", "images")))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of it")
    rows, seconds = (QUICK_ROWS, QUICK_SECONDS) if parser.parse_args().quick else (ROWS, SECONDS)
    logs.configure(level="warning")
    model = load(settings.Model(name="tiny-clip"), settings.Pictures())
    with tempfile.TemporaryDirectory() as place, KafkaServer() as kafka:
        folder = Path(place)
        with closing(Pipeline(kafka, "uploads", folder, model)) as alone, alone.working():
            uploads = alone.upload(seconds)
        with behind(kafka, "backlog", folder, model, rows) as backlog:
            rate = backlog.rate(lambda: time.sleep(seconds))
        with behind(kafka, "beside", folder, model, rows) as beside:
            rate_beside = beside.rate(lambda: beside.upload_unread(seconds))
        among: list[float] = []
        with behind(kafka, "both", folder, model, rows) as both:
            rate_among = both.rate(lambda: among.extend(both.upload(seconds)))
            read_over_s = both.read_over_s
            left = rows - len(both.worked_off())
    show(
        uploads,
        among,
        rate,
        rate_beside,
        rate_among,
        {"backlog_rows": rows, "backlog_left": left, "read_over_s": round(read_over_s, 1)},
    )


@contextmanager
def behind(kafka: KafkaServer, name: str, folder: Path, model: Embedder, rows: int) -> Iterator[Pipeline]:
    """At work on a backlog, which the live lane has read over."""
    with closing(Pipeline(kafka, name, folder, model)) as pipeline:
        pipeline.send(Op.READ, rows)
        with pipeline.working():
            pipeline.read_over_s = pipeline.read_over()
            yield pipeline


def show(
    uploads: Sequence[float],
    among: Sequence[float],
    rate: float,
    rate_beside: float,
    rate_among: float,
    facts: dict[str, float],
) -> None:
    result = {
        "benchmark": "lanes",
        **facts,
        "uploads_alone_p50_ms": round(1000 * percentile(uploads, 0.5), 1),
        "uploads_alone_p99_ms": round(1000 * percentile(uploads, 0.99), 1),
        "uploads_among_backlog_p50_ms": round(1000 * percentile(among, 0.5), 1),
        "uploads_among_backlog_p99_ms": round(1000 * percentile(among, 0.99), 1),
        "ratio_p99": round(percentile(among, 0.99) / percentile(uploads, 0.99), 2),
        "backlog_alone_rows_per_s": round(rate),
        "backlog_beside_unread_uploads_rows_per_s": round(rate_beside),
        "backlog_among_uploads_rows_per_s": round(rate_among),
        "backlog_keeps_of_alone": round(rate_among / rate, 2),
        "backlog_keeps_of_beside_unread": round(rate_among / rate_beside, 2),
    }
    report(result)


if __name__ == "__main__":
    main()
