"""Fetching and decoding, many at a time and bounded."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from encoder.decode import sha256
from encoder.plan import Encode, same_picture
from encoder.rows import Row
from pixtail.core.metrics import Metrics
from pixtail.core.ports import Embedder, Picture, PictureSource

FETCHERS = 16


@dataclass(frozen=True, slots=True)
class Loaded:
    """A row's picture, ready for the model; None if the stored vector was made of the very same bytes."""

    row: Row
    plan: Encode
    picture: Picture | None


class Loader:
    """Loads pictures in threads of its own. Network waits overlap widely; decoding, which takes a core and the picture's full size in
    memory, happens once per core."""

    def __init__(self, pictures: PictureSource, embedder: Embedder, metrics: Metrics, fetchers: int = FETCHERS) -> None:
        self._pictures = pictures
        self._embedder = embedder
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(fetchers, "picture")
        self._decoding = threading.BoundedSemaphore(os.cpu_count() or 1)

    def submit(self, row: Row, plan: Encode) -> Future[Loaded]:
        """The picture to come; the future raises `PictureError`."""
        return self._pool.submit(self._load, row, plan)

    def close(self) -> None:
        """Lets running fetches end; those not begun are dropped."""
        self._pool.shutdown(cancel_futures=True)

    def _load(self, row: Row, plan: Encode) -> Loaded:
        with self._metrics.stage.labels("fetch").time():
            data = self._pictures.fetch(plan.wanted.ref)
        self._metrics.bytes_fetched.inc(len(data))
        if same_picture(plan.stored, sha256(data), self._embedder.fingerprint):
            return Loaded(row, plan, None)
        with self._decoding, self._metrics.stage.labels("decode").time():
            return Loaded(row, plan, self._embedder.decode(data))
