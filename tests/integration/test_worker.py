"""The worker over a real Kafka and a real (random) CLIP: changes in, points out."""

from __future__ import annotations

import functools
import gc
import http.server
import io
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from encoder.clip import ClipEmbedder, load
from encoder.pictures import Pictures
from encoder.worker import Worker
from pixtail.bus.consumer import ChangeConsumer
from pixtail.bus.dead_letters import DeadLetters
from pixtail.bus.inspection import lane_group
from pixtail.bus.producer import TransactionalProducer
from pixtail.bus.topics import Topics, ensure_topics
from pixtail.core import settings
from pixtail.core.changes import Change, Op, Record, Source, Tombstone, encode
from pixtail.core.errors import Reason, StoreUnreachable
from pixtail.core.lifecycle import Stop
from pixtail.core.metrics import OUTCOMES, Metrics
from pixtail.core.points import StoredPoint
from pixtail.core.ports import Applied
from pixtail.servers.kafka import KafkaServer
from sink.memory import MemoryStore
from tests.support.random_clip import DIMENSION, save_random_clip

PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipEmbedder:
    folder = save_random_clip(tmp_path_factory.mktemp("clip"))
    return load(settings.Model(name=str(folder), device="cpu"), settings.Pictures())


class CountingClip:
    """The real embedder, and how many pictures it has encoded."""

    def __init__(self, clip: ClipEmbedder) -> None:
        self.name, self.fingerprint, self.dimension = clip.name, clip.fingerprint, clip.dimension
        self.decode, self.encode_texts = clip.decode, clip.encode_texts
        self.encoded = 0
        self._clip = clip

    def encode(self, pictures: Any) -> Any:
        self.encoded += len(pictures)
        return self._clip.encode(pictures)


class MortalStore(MemoryStore):
    """Dies, as its process would, right after a write."""

    mortal = False

    def apply(self, writes: Any) -> Applied:
        applied = super().apply(writes)
        if self.mortal:
            raise KeyboardInterrupt
        return applied


def until(condition: Callable[[], bool], what: str) -> None:
    """Waits for the worker's threads; fails with the state that was not reached."""
    pause = threading.Event()
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what}"
        pause.wait(0.01)


class Pipeline:
    """A topic of its own, a worker over it, and a folder of pictures."""

    def __init__(self, kafka: KafkaServer, unique: str, clip: ClipEmbedder, root: Path) -> None:
        self.kafka = settings.Kafka(bootstrap=kafka.bootstrap, prefix=unique, partitions=2)
        self.topics = Topics(unique, "app.images")
        ensure_topics(self.kafka, self.topics)
        self.producer = TransactionalProducer(self.kafka, f"{unique}.test")
        self.producer.open()
        self.root = root
        self.store = MortalStore()
        self.clip = CountingClip(clip)
        self.metrics = Metrics()
        self.pictures = settings.Pictures(root=root)
        self.seq = 1000
        self.failure: BaseException | None = None
        self._stop = Stop()
        self._thread: threading.Thread | None = None

    def draw(self, name: str, seed: int) -> bytes:
        pixels = np.random.default_rng(seed).integers(0, 256, (50, 60, 3), dtype=np.uint8)
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG")
        (self.root / name).write_bytes(out.getvalue())
        return out.getvalue()

    def send(self, op: str, number: int, ref: str | None = None, **columns: Any) -> int:
        self.seq += 1
        source = Source("app", "images", ts_ms=int(time.time() * 1000))
        row = None if op == "d" else {"id": number, "file_path": ref, **columns}
        records = [encode(Change(Op(op), {"id": number}, None, row, self.seq, source))]
        if op == "d":
            records.append(encode(Tombstone({"id": number}, self.seq)))
        self.producer.commit({self.topics.changes: records})
        return self.seq

    def send_raw(self, key: bytes, value: bytes) -> None:
        self.producer.commit({self.topics.changes: [Record(key, value)]})

    def start(self) -> None:
        self._stop = Stop()
        worker = Worker(
            topic=self.topics.changes,
            live=ChangeConsumer(self.kafka, self.topics.changes, lane_group(self.topics, "live"), "live"),
            backlog=ChangeConsumer(self.kafka, self.topics.changes, lane_group(self.topics, "backlog"), "backlog"),
            dead_letters=DeadLetters(self.kafka, self.topics),
            store=self.store,
            pictures=Pictures(self.pictures),
            embedder=self.clip,
            table=settings.Table(),
            model=settings.Model(batch=4, max_wait_ms=20),
            metrics=self.metrics,
        )
        self.worker = worker
        self._thread = threading.Thread(target=self._run, args=(worker,), name="worker under test")
        self._thread.start()

    def _run(self, worker: Worker) -> None:
        try:
            worker.run(self._stop)
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.failure = error

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(PATIENCE_S)
            assert not self._thread.is_alive()

    def point(self, number: int) -> StoredPoint | None:
        return next(iter(self.store.get([number], with_vectors=True)), None)

    def shows(self, number: int, seq: int) -> bool:
        point = self.point(number)
        return point is not None and point.sync is not None and point.sync.seq == seq

    def letters(self) -> dict[bytes, Reason]:
        letters = DeadLetters(self.kafka, self.topics)
        letters.open()
        try:
            return {key: letter.reason for key, letter in letters.letters.items()}
        finally:
            letters.close()

    def cosine(self, number: int, data: bytes) -> float:
        point = self.point(number)
        assert point is not None
        return float(np.asarray(point.vector) @ self.clip._clip.encode([self.clip.decode(data)])[0])


@pytest.fixture
def pipeline(kafka: KafkaServer, unique: str, clip: ClipEmbedder, tmp_path: Path) -> Iterator[Pipeline]:
    pipeline = Pipeline(kafka, unique, clip, tmp_path)
    yield pipeline
    pipeline.stop()
    pipeline.producer.close()


def test_a_row_lives_its_whole_life_in_the_index(pipeline: Pipeline) -> None:
    data = pipeline.draw("a.png", 1)
    pipeline.start()

    inserted = pipeline.send("c", 1, "a.png", title="Red truck")
    until(lambda: pipeline.shows(1, inserted), "the inserted row is a point")
    point = pipeline.point(1)
    assert point is not None
    assert point.sync is not None
    assert point.payload == {"image_id": 1, "file_path": "a.png", "title": "Red truck"}
    assert (point.sync.facts.width, point.sync.facts.height, point.sync.facts.format) == (60, 50, "PNG")
    assert pipeline.store.dimension() == DIMENSION
    assert pipeline.cosine(1, data) > 0.9999

    renamed = pipeline.send("u", 1, "a.png", title="Blue truck")
    until(lambda: pipeline.shows(1, renamed), "the new title is shown")
    assert pipeline.clip.encoded == 1
    assert pipeline.cosine(1, data) > 0.9999

    pipeline.draw("c.png", 1)
    moved = pipeline.send("u", 1, "c.png", title="Blue truck")
    until(lambda: pipeline.shows(1, moved), "the new path is shown")
    assert pipeline.clip.encoded == 1

    other = pipeline.draw("b.png", 2)
    pipeline.send("u", 1, "b.png", title="Blue truck")
    until(lambda: pipeline.cosine(1, other) > 0.9999, "the new picture's vector")
    assert pipeline.clip.encoded == 2

    pipeline.send("u", 1, None, title="Blue truck")
    until(lambda: pipeline.point(1) is None, "a row without a picture has no point")
    again = pipeline.send("u", 1, "b.png", title="Blue truck")
    until(lambda: pipeline.shows(1, again), "the picture is back")

    pipeline.send("d", 1)
    until(lambda: pipeline.point(1) is None, "the deleted row is gone")
    counted = {name: pipeline.metrics.images.labels(name)._value.get() for name in OUTCOMES}
    expected = {"encoded": 3, "payload_only": 2, "no_picture": 1, "deleted": 1}
    assert {name: count for name, count in counted.items() if count} == expected
    assert pipeline.worker.ready()


def test_a_bad_picture_is_a_dead_letter_until_it_is_mended_and_its_mates_go_through(pipeline: Pipeline) -> None:
    pipeline.draw("a.png", 1)
    (pipeline.root / "bad.png").write_bytes(b"no picture at all")
    last = [pipeline.send("c", n, "bad.png" if n == 2 else "none.png" if n == 3 else "a.png") for n in range(1, 6)][-1]
    pipeline.send_raw(b'{"id":77}', b"no json")
    pipeline.start()
    until(lambda: pipeline.shows(5, last), "the mates are points")
    reasons = {b'{"id":2}': Reason.NOT_AN_IMAGE, b'{"id":3}': Reason.NOT_FOUND, b'{"id":77}': Reason.MALFORMED}
    until(lambda: pipeline.letters() == reasons, "three dead letters with their reasons")
    assert [n for n in range(1, 6) if pipeline.point(n)] == [1, 4, 5]

    pipeline.draw("bad.png", 3)
    mended = pipeline.send("u", 2, "bad.png")
    pipeline.send("d", 3)
    until(lambda: pipeline.shows(2, mended), "the mended picture is a point")
    until(
        lambda: pipeline.letters() == {b'{"id":77}': Reason.MALFORMED}, "its letter and the deleted row's are cleared"
    )


def test_a_crash_between_apply_and_commit_ends_in_the_same_state(pipeline: Pipeline) -> None:
    data = pipeline.draw("a.png", 1)
    pipeline.store.mortal = True
    seq = pipeline.send("c", 1, "a.png")
    pipeline.start()
    until(lambda: pipeline.failure is not None, "the worker died")
    assert isinstance(pipeline.failure, KeyboardInterrupt)
    pipeline.stop()

    pipeline.store.mortal = False
    pipeline.start()
    unchanged = pipeline.metrics.images.labels("unchanged")
    until(lambda: unchanged._value.get() == 1, "the record came again")
    assert pipeline.shows(1, seq)
    assert pipeline.cosine(1, data) > 0.9999
    assert pipeline.clip.encoded == 1


def test_what_was_committed_does_not_come_again(pipeline: Pipeline) -> None:
    pipeline.draw("a.png", 1)
    first = pipeline.send("c", 1, "a.png")
    pipeline.start()
    until(lambda: pipeline.shows(1, first), "the first point")
    pipeline.stop()
    second = pipeline.send("c", 2, "a.png")
    pipeline.start()
    until(lambda: pipeline.shows(2, second), "the second point")
    assert pipeline.metrics.images.labels("unchanged")._value.get() == 0


def test_a_store_that_is_down_is_held_for_and_loses_nothing(pipeline: Pipeline) -> None:
    pipeline.draw("a.png", 1)
    pipeline.start()
    first = pipeline.send("c", 1, "a.png")
    until(lambda: pipeline.shows(1, first), "the store works")
    pipeline.store.fail_with = StoreUnreachable("the store does not answer")
    pipeline.send("c", 2, "a.png")
    pipeline.send("d", 1)
    until(lambda: not pipeline.worker.ready(), "the worker holds")
    pipeline.store.fail_with = None
    until(lambda: pipeline.point(2) is not None and pipeline.point(1) is None, "all is applied afterwards")
    until(pipeline.worker.ready, "the worker says so")


def test_pictures_come_from_a_web_server_but_never_from_a_private_address_unless_allowed(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    data = pipeline.draw("a.png", 1)
    handler = functools.partial(QuietFiles, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        pipeline.pictures = settings.Pictures(allow_private=True, allow_hosts=("127.0.0.1",))
        pipeline.start()
        seq = pipeline.send("c", 1, f"{base}/a.png")
        until(lambda: pipeline.shows(1, seq), "the picture was fetched")
        assert pipeline.cosine(1, data) > 0.9999
        pipeline.stop()

        pipeline.pictures = settings.Pictures(allow_private=False)
        pipeline.start()
        pipeline.send("u", 1, f"{base}/b.png")
        until(lambda: pipeline.letters() == {b'{"id":1}': Reason.FORBIDDEN_ADDRESS}, "a private address is refused")
        assert pipeline.point(1) is None
        server.shutdown()


class QuietFiles(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args: Any) -> None: ...


def test_a_truncate_in_every_partition_empties_the_index(pipeline: Pipeline) -> None:
    pipeline.draw("a.png", 1)
    pipeline.start()
    for number in range(1, 6):
        pipeline.send("c", number, "a.png")
    until(lambda: pipeline.store.count() == 5, "five points")
    pipeline.seq += 1
    change = Change(Op.TRUNCATE, {"*": "truncate"}, None, None, pipeline.seq, Source("app", "images"))
    record = encode(change)
    everywhere = [Record(record.key, record.value, record.headers, partition) for partition in range(2)]
    pipeline.producer.commit({pipeline.topics.changes: everywhere})
    until(lambda: pipeline.store.count() == 0, "no points")
    seq = pipeline.send("c", 3, "a.png")
    until(lambda: pipeline.shows(3, seq), "a row inserted afterwards")


@pytest.fixture
def own_kafka() -> Iterator[KafkaServer]:
    """One to kill."""
    server = KafkaServer()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.mark.slow
def test_kafka_may_die_and_come_back_under_a_working_worker(
    own_kafka: KafkaServer, kafka: KafkaServer, unique: str, clip: ClipEmbedder, tmp_path: Path
) -> None:
    """`kafka` is asked for only so that a machine without it skips."""
    pipeline = Pipeline(own_kafka, unique, clip, tmp_path)
    try:
        pipeline.draw("a.png", 1)
        pipeline.start()
        first = pipeline.send("c", 1, "a.png")
        until(lambda: pipeline.shows(1, first), "the first point")
        pipeline.producer.close()
        own_kafka.kill()
        own_kafka.start()
        pipeline.producer.open()
        second = pipeline.send("c", 2, "none.png")
        until(lambda: pipeline.letters() == {b'{"id":2}': Reason.NOT_FOUND}, f"the letter of {second}")
        third = pipeline.send("c", 3, "a.png")
        until(lambda: pipeline.shows(3, third), "a point of the second life")
        assert pipeline.failure is None
    finally:
        pipeline.stop()
        pipeline.producer.close()
        gc.collect()  # here, where these sockets are forgiven
