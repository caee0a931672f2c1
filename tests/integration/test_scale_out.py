"""Several workers on one topic: real processes, a real Kafka, one store by Qdrant's interface; one is frozen in the middle of its work."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from pixtail.bus.client import admin_client
from pixtail.bus.inspection import lane_group, worker_lag
from pixtail.bus.producer import TransactionalProducer
from pixtail.bus.topics import Topics, ensure_topics
from pixtail.core.changes import Change, Op, Source, Tombstone, encode
from pixtail.core.errors import BusUnreachable
from pixtail.core.settings import Kafka, Qdrant
from pixtail.servers.kafka import KafkaServer
from sink.qdrant import QdrantStore
from sink.qdrant_connection import server
from tests.integration.listener_kit import wait_for
from tests.support.qdrant_grpc import GrpcServer
from tests.support.stores import Serialised

ROWS, WORKERS = 240, 3

# A worker whose model takes a while. Arguments: Kafka's address, prefix, the store's URL.
PROGRAM = """
import sys, time
import pixtail.bus.consumer as consumer
from encoder.fakes import FakeEmbedder, FakePictures
from encoder.worker import Worker
from pixtail.bus.dead_letters import DeadLetters
from pixtail.bus.inspection import lane_group
from pixtail.bus.topics import Topics
from pixtail.core.lifecycle import Stop, stop_on_signals
from pixtail.core.metrics import Metrics
from pixtail.core.settings import Kafka, Model, Qdrant, Table
from sink.qdrant import QdrantStore
from sink.qdrant_connection import server

class Slow(FakeEmbedder):
    def encode(self, pictures):
        print("encoding", flush=True)
        time.sleep(0.3)
        return super().encode(pictures)

bootstrap, prefix, url = sys.argv[1:]
consumer.SESSION_TIMEOUT_S = 6.0
kafka, topics, stop = Kafka(bootstrap=bootstrap, prefix=prefix), Topics(prefix, "shop.images"), Stop()
stop_on_signals(stop)
Worker(
    topic=topics.changes,
    live=consumer.ChangeConsumer(kafka, topics.changes, lane_group(topics, "live"), "live"),
    backlog=consumer.ChangeConsumer(kafka, topics.changes, lane_group(topics, "backlog"), "backlog"),
    dead_letters=DeadLetters(kafka, topics),
    store=QdrantStore(server(Qdrant(url=url)), "images"),
    pictures=FakePictures({f"{letter}.jpg": letter.encode() for letter in "ab"}),
    embedder=Slow(),
    table=Table(),
    model=Model(batch=8),
    metrics=Metrics(),
).run(stop)
"""


class Pipeline:
    """The topic, the store, and the workers between them. `shown` is what the table holds: row → picture."""

    def __init__(self, kafka: KafkaServer, prefix: str, folder: Path) -> None:
        self.kafka = Kafka(bootstrap=kafka.bootstrap, prefix=prefix)
        self.topics = Topics(prefix, "shop.images")
        self.grpc = GrpcServer(Serialised())
        self.store = QdrantStore(server(Qdrant(url=self.grpc.url)), "images")
        self.rows: dict[int, str] = {}
        self._folder = folder
        self._seq = 1000
        self._producer = TransactionalProducer(self.kafka, f"{prefix}.test")
        ensure_topics(self.kafka, self.topics)
        self._producer.open()

    def close(self) -> None:
        self._producer.close()
        self.store.close()
        self.grpc.close()

    def write(self, op: Op, numbers: range, picture: str) -> None:
        self.rows.update(dict.fromkeys(numbers, picture))
        source = Source("shop", "images")
        rows = [{"id": number, "file_path": f"{picture}.jpg"} for number in numbers]
        self._send([Change(op, {"id": row["id"]}, None, row, self._next(), source) for row in rows])

    def delete(self, numbers: range) -> None:
        for number in numbers:
            del self.rows[number]
        self._send([Tombstone({"id": number}, self._next()) for number in numbers])

    def _next(self) -> int:
        self._seq += 1
        return self._seq

    def _send(self, entries: list[Any]) -> None:
        self._producer.commit({self.topics.changes: [encode(entry) for entry in entries]})

    def worker(self, number: int) -> subprocess.Popen[str]:
        arguments = [self.kafka.bootstrap, self.kafka.prefix, self.grpc.url]
        with (self._folder / f"{number}.log").open("w") as log:
            return subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], stdout=log, stderr=log, text=True)

    def said(self, number: int) -> str:
        return (self._folder / f"{number}.log").read_text()

    def members(self) -> int:
        group = lane_group(self.topics, "live")
        with (
            suppress(BusUnreachable),
            admin_client(self.kafka) as admin,
        ):  # a new broker first has to find the group's coordinator
            described = admin.describe_groups([group])[group]
            return len(described["members"]) if described["group_state"] == "Stable" else 0
        return 0

    def shown(self) -> dict[int, str]:
        points = self.store.get(range(ROWS))
        return {int(point.id): Path(point.sync.ref).stem for point in points if point.sync is not None}

    def done(self) -> bool:
        return worker_lag(self.kafka, self.topics) == 0


@pytest.fixture
def pipeline(kafka: KafkaServer, unique: str, tmp_path: Path) -> Iterator[Pipeline]:
    with closing(Pipeline(kafka, unique, tmp_path)) as pipeline:
        yield pipeline


def test_a_worker_that_was_frozen_and_wakes_up_writes_nothing_that_is_stale(pipeline: Pipeline) -> None:
    with ExitStack() as stack:
        workers = [stack.enter_context(pipeline.worker(number)) for number in range(WORKERS)]
        stack.callback(lambda: [worker.kill() for worker in workers])
        wait_for(lambda: pipeline.members() == WORKERS, "all workers in the group", 60)
        pipeline.write(Op.READ, range(ROWS // 2), "a")
        pipeline.write(Op.CREATE, range(ROWS // 2, ROWS), "a")
        wait_for(lambda: "encoding" in pipeline.said(0), "a worker at work", 30)
        workers[0].send_signal(signal.SIGSTOP)
        wait_for(lambda: pipeline.members() == WORKERS - 1, "the frozen one out of the group", 60)
        pipeline.write(Op.UPDATE, range(0, ROWS, 3), "b")
        pipeline.delete(range(1, ROWS, 3))
        wait_for(pipeline.done, "the others to be through", 60)
        assert pipeline.shown() == pipeline.rows
        workers[0].send_signal(signal.SIGCONT)
        wait_for(lambda: "given to another worker" in pipeline.said(0), "the late one to notice", 30)
        wait_for(lambda: pipeline.members() == WORKERS, "all workers in the group again", 60)
        wait_for(pipeline.done, "all to be through", 60)
        assert pipeline.shown() == pipeline.rows
        for worker in workers:
            worker.terminate()
        assert [worker.wait(30) for worker in workers] == [0] * WORKERS
