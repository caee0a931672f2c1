"""Stand-ins with failure knobs for the worker's collaborators: no server, no model, no file."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pixtail.bus.consumer import Consumed
from pixtail.bus.dead_letters import DeadLetter
from pixtail.bus.lookups import LookedUp
from pixtail.core.changes import Change, Entry, Malformed, Tombstone, encode
from pixtail.core.errors import PictureError, PixtailError, Reason
from pixtail.core.lifecycle import Stop
from pixtail.core.points import PictureFacts
from pixtail.core.ports import Picture

if TYPE_CHECKING:
    from pixtail.core.points import Vector, Vectors

DIMENSION = 8


class FakePictures:
    """A `PictureSource` over a dictionary. `errors` holds what to raise for a ref, `outage` what to raise for all."""

    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        self.files = dict(files or {})
        self.errors: dict[str, Reason] = {}
        self.outage: Reason | None = None
        self.outage_fetches = 0  # the outage ends after so many fetches; 0: never by itself
        self.fetched: list[str] = []
        self._lock = threading.Lock()

    def fetch(self, ref: str) -> bytes:
        with self._lock:
            self.fetched.append(ref)
            reason = self.outage or self.errors.get(ref) or (None if ref in self.files else Reason.NOT_FOUND)
            if self.outage and self.outage_fetches == len(self.fetched):
                self.outage = None
        if reason is not None:
            raise PictureError(reason, f"{ref} fails by order")
        return self.files[ref]

    def close(self) -> None: ...


class FakeEmbedder:
    """An `Embedder` whose vector is a hash of the bytes. Bytes that begin with `bad` are no picture; `poison` fails in `encode`."""

    def __init__(self, fingerprint: str = "fa4e") -> None:
        self.name = "fake"
        self.fingerprint = fingerprint
        self.dimension = DIMENSION
        self.poison: set[bytes] = set()
        self.batches: list[int] = []

    @property
    def encoded(self) -> int:
        return sum(self.batches)

    def decode(self, data: bytes) -> Picture:
        if data.startswith(b"bad"):
            raise PictureError(Reason.CORRUPT, "bad by order")
        digest = hashlib.sha256(data)
        pixels = np.frombuffer(digest.digest()[:12], np.uint8).reshape(2, 2, 3)
        return Picture(pixels, PictureFacts(digest.hexdigest(), 2, 2, "FAKE", len(data)))

    def encode(self, pictures: Sequence[Picture]) -> Vectors:
        poison = {hashlib.sha256(data).hexdigest() for data in self.poison}
        if any(picture.facts.sha256 in poison for picture in pictures):
            raise PictureError(Reason.CORRUPT, "poisoned by order")
        self.batches.append(len(pictures))
        return np.stack([self._vector(picture.facts.sha256) for picture in pictures])

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        return np.stack([self._vector(hashlib.sha256(text.encode()).hexdigest()) for text in texts])

    def vector(self, data: bytes) -> Vector:
        """The vector that these bytes must have in the index."""
        return self._vector(hashlib.sha256(data).hexdigest())

    def _vector(self, sha256: str) -> Vector:
        values = np.frombuffer(bytes.fromhex(sha256)[:DIMENSION], np.uint8).astype(np.float32) + 1
        return values / np.linalg.norm(values)


class FakeTopic:
    """A consumer over a list. Each `open` starts at the committed offset, as after a crash.

    An idle poll that finds nothing sets `stop`; the short polls in which a batch fills do not count as idle.
    `failures` are raised by the next polls, one each; `moved_on` keeps what is finished from being saved.
    """

    def __init__(self, stop: Stop) -> None:
        self.records: list[Consumed] = []
        self.saved = 0
        self.failures: list[PixtailError] = []
        self.moved_on = False
        self.opened = 0
        self._stop = stop
        self._position = 0

    def send(self, *entries: Change | Tombstone | Malformed) -> None:
        for entry in entries:
            offset = len(self.records)
            if isinstance(entry, Malformed):
                self.records.append(Consumed(entry, entry.raw_key, entry.raw_value, 0, offset))
            else:
                record = encode(entry)
                self.records.append(Consumed(entry, record.key, record.value, 0, offset))

    def open(self) -> None:
        self.opened += 1
        self._position = self.saved

    def poll(self, timeout_s: float, max_records: int) -> list[Consumed]:
        if self.failures:
            raise self.failures.pop(0)
        polled = self.records[self._position : self._position + max_records]
        self._position += len(polled)
        if not polled and timeout_s >= 0.1:
            self._stop.set()
        return polled

    def finish(self, next_offsets: Mapping[int, int]) -> None:
        if not self.moved_on:
            self.saved = next_offsets[0]

    def ends(self) -> dict[int, int]:
        return {0: len(self.records)}

    def committed(self) -> dict[int, int]:
        return {0: self.saved}

    def lag(self) -> dict[int, int]:
        return {0: len(self.records) - self._position}

    def close(self) -> None: ...


class FakeDeadLetters:
    """Dead letters in a dictionary. `failures` are raised by the next writes, one each."""

    def __init__(self, letters: Iterable[DeadLetter] = ()) -> None:
        self.letters = {letter.key: letter for letter in letters}
        self.failures: list[PixtailError] = []

    def open(self) -> None: ...

    def refresh(self) -> None: ...

    def put(self, letters: Sequence[DeadLetter]) -> None:
        self._may_fail()
        self.letters.update({letter.key: letter for letter in letters})

    def clear(self, keys: Collection[bytes]) -> None:
        self._may_fail()
        for key in keys:
            self.letters.pop(key, None)

    def close(self) -> None: ...

    def _may_fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)


@dataclass
class LookupLog:
    """What stands in the topics of lookups, as (table, entry), and how much of it the index has followed."""

    records: list[tuple[str, Entry]] = field(default_factory=list)
    followed: int = 0


class FakeLookups:
    """A reader of the log; several may share it. `failures` are raised by the next reads, one each."""

    def __init__(self, log: LookupLog) -> None:
        self.log = log
        self.failures: list[PixtailError] = []
        self._followed = self._position = 0

    def open(self) -> None:
        self._followed, self._position = self.log.followed, 0

    def read(self) -> list[LookedUp]:
        if self.failures:
            raise self.failures.pop(0)
        first, self._position = self._position, len(self.log.records)
        return [
            LookedUp(table, entry, number < self._followed)
            for number, (table, entry) in enumerate(self.log.records[first : self._position], start=first)
        ]

    def commit(self) -> None:
        self.log.followed = self._position

    def close(self) -> None: ...
