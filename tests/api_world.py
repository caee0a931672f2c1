"""A small world for the tests of the API and the console: pictures of one colour each, and a model that knows colours."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

import numpy as np
from PIL import Image

from pixtail.core.errors import PictureError, Reason, UsageError
from pixtail.core.lifecycle import Stop
from pixtail.core.metrics import Metrics
from pixtail.core.points import PictureFacts, PointId, Sync, Upsert
from pixtail.core.ports import Picture
from pixtail.core.settings import Api, Pictures, Settings
from pixtail.search import ApiService, Deps, create_app
from sink.memory import MemoryStore

COLOURS = {
    "red": (220, 20, 20),
    "green": (20, 200, 20),
    "blue": (20, 20, 220),
    "红色": (220, 20, 20),
    "pink": (220, 120, 120),
}
MODEL = "c0ffee"


def png(colour: str, size: tuple[int, int] = (64, 48)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, COLOURS[colour]).save(buffer, "PNG")
    return buffer.getvalue()


class ColourEmbedder:
    """An `Embedder` whose space is red, green and blue. `fail_with`, when set, is raised by both kinds of encoding."""

    name = "colours"
    fingerprint = MODEL
    dimension = 3

    def __init__(self) -> None:
        self.fail_with: Exception | None = None

    def decode(self, data: bytes) -> Picture:
        try:
            image = Image.open(io.BytesIO(data)).convert("RGB")
        except OSError:
            raise PictureError(Reason.NOT_AN_IMAGE, "the upload is not an image", "Send a JPEG or PNG") from None
        facts = PictureFacts(hashlib.sha256(data).hexdigest(), *image.size, "PNG", len(data))
        return Picture(np.asarray(image), facts)

    def encode(self, pictures: Sequence[Picture]) -> np.ndarray:
        return self._unit([picture.pixels.reshape(-1, 3).mean(axis=0) for picture in pictures])

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        words = [[COLOURS[word] for word in text.split() if word in COLOURS] or [(1, 1, 1)] for text in texts]
        return self._unit([np.mean(colours, axis=0) for colours in words])

    def _unit(self, rows: Sequence[Any]) -> np.ndarray:
        if self.fail_with is not None:
            raise self.fail_with
        vectors = np.asarray(rows, dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class PictureShelf:
    """A `PictureSource` over a dictionary; `fetched` lists what was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self.fail_with: PictureError | None = None

    def fetch(self, ref: str) -> bytes:
        self.fetched.append(ref)
        if self.fail_with is not None:
            raise self.fail_with
        if ref not in self.files:
            raise PictureError(Reason.NOT_FOUND, f"there is no file {ref}")
        return self.files[ref]

    def close(self) -> None:
        """Nothing to give back."""


def thumbnail(data: bytes, size: int) -> bytes:
    image = Image.open(io.BytesIO(data))
    image.thumbnail((size, size))
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


class NoJob:
    """A `Job` that only notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[Mapping[str, Any]] = []
        self.running = False

    def begin(self, options: Mapping[str, Any]) -> int | None:
        if self.running:
            return None
        self.asked.append(options)
        self.running = True
        return len(self.asked)

    def state(self) -> Mapping[str, Any]:
        idle = {"doing": "", "done": 0, "about": 0, "report": None, "problem": None, "remedy": "", "refused": False}
        return {"number": len(self.asked), "running": self.running, **idle}

    def stop(self) -> None:
        self.running = False


def no_rollback() -> Mapping[str, Any]:
    raise UsageError("there is no former collection")


@dataclass
class World:
    """Everything the API works with, all of it changeable by the test."""

    store: MemoryStore = field(default_factory=MemoryStore)  # or any other one
    embedder: ColourEmbedder = field(default_factory=ColourEmbedder)
    pictures: PictureShelf = field(default_factory=PictureShelf)
    metrics: Metrics = field(default_factory=Metrics)
    settings: Settings = field(default_factory=lambda: Settings(pictures=Pictures(max_bytes=50_000)))
    missing: list[str] = field(default_factory=list)
    pipeline: dict[str, Any] = field(default_factory=lambda: {"lag_records": 0, "dead_letters": 0})
    failures: list[Mapping[str, Any]] = field(default_factory=list)
    verification: NoJob = field(default_factory=NoJob)
    reindexing: NoJob = field(default_factory=NoJob)

    def __post_init__(self) -> None:
        self.store.prepare(self.embedder.dimension, MODEL)

    def add(self, point: PointId, colour: str, *, seq: int = 1, **payload: Any) -> bytes:
        """Indexes a picture of one colour; its payload gets a title unless one is given."""
        data = png(colour)
        picture = self.embedder.decode(data)
        ref = f"{point}.png"
        self.pictures.files[ref] = data
        sync = Sync(seq, ref, MODEL, picture.facts, "2026-11-21T08:00:00.000Z")
        columns = {"image_id": point, "title": f"{colour} {point}", "file_path": ref, **payload}
        self.store.apply([Upsert(point, self.embedder.encode([picture])[0], columns, sync)])
        return data

    def deps(self) -> Deps:
        return Deps(
            store=self.store,
            embedder=self.embedder,
            pictures=self.pictures,
            thumbnail=thumbnail,
            metrics=self.metrics,
            settings=self.settings,
            ready=lambda: self.missing,
            pipeline=lambda: self.pipeline,
            failures=lambda: self.failures,
            verification=self.verification,
            reindexing=self.reindexing,
            rollback=no_rollback,
        )


@contextmanager
def serving(world: World, port: int = 0) -> Iterator[str]:
    """The API of `world` on a port of this machine (0: a free one): its URL."""
    service, stop = ApiService(create_app(world.deps()), Api(port=port)), Stop()
    url = service.bind()
    thread = Thread(target=service.run, args=(stop,), daemon=True)
    thread.start()
    try:
        yield url
    finally:
        stop.set()
        thread.join(15)
        assert not thread.is_alive(), "the API did not stop within 15 s"
