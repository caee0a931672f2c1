"""The ports where the stations meet: `PictureSource` and `Embedder` (written by encoder), `VectorStore` (written by sink)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pixtail.core.points import Hit, PictureFacts, PointId, StoredPoint, Version, Write

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pixtail.core.points import Vector, Vectors


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture, ready to be encoded: `pixels` has the model's size, shape (height, width, 3), uint8, RGB."""

    pixels: NDArray[np.uint8]
    facts: PictureFacts


class PictureSource(Protocol):
    """Where the bytes of a picture come from. Thread-safe; blocking."""

    def fetch(self, ref: str) -> bytes:
        """The bytes that the row's picture column points to (path or URL).

        Raises `PictureError` with a reason; never anything else for whatever `ref` says.
        """

    def close(self) -> None: ...


class Embedder(Protocol):
    """Pictures and texts to unit vectors of one space. Thread-safe; blocking."""

    @property
    def name(self) -> str:
        """The model as the user named it."""

    @property
    def fingerprint(self) -> str:
        """Short hexadecimal name of exactly these weights and this preprocessing: equal fingerprints, equal vectors."""

    @property
    def dimension(self) -> int: ...

    def decode(self, data: bytes) -> Picture:
        """The picture in the model's size, under the one policy for index and query (first frame, EXIF orientation
        applied, transparency on white, 16-bit and float scaled). Raises `PictureError`."""

    def encode(self, pictures: Sequence[Picture]) -> Vectors:
        """Shape (n, dimension), float32, each row of unit length, in the order given."""

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """The same for texts; too long ones are cut at the model's limit."""


@dataclass(frozen=True, slots=True)
class Applied:
    """How a batch of writes ended: ids whose stored version was newer were left as they are (`stale`)."""

    written: int
    stale: frozenset[PointId] = frozenset()


NOTHING: Mapping[str, str] = {}


class VectorStore(Protocol):
    """A collection: points with one unnamed cosine vector. Thread-safe; blocking; a write is durable when the call returns.

    A store that was opened by the alias stays with the collection that the alias named at its first use.

    Every method raises `StoreUnreachable` when the store does not answer: the call may be repeated, all writes are idempotent.
    """

    def prepare(self, dimension: int, fingerprint: str, made_by: Mapping[str, str] = NOTHING) -> None:
        """Makes the collection if there is none, adopts one that exists. `made_by` is kept with a new one, see `Index.made_by`.

        Raises `DimensionMismatch` if the existing one has vectors of another size, `ModelMismatch` if they are another model's.
        """

    def check(self) -> str:
        """Proves that the store answers and can be written; says in words what it is (kind, place, version)."""

    def dimension(self) -> int | None:
        """The vector size of the collection that is there; None if there is none yet."""

    def versions(self, ids: Collection[PointId]) -> Mapping[PointId, Version]:
        """What is known of each row, if anything is: the bookkeeping of its point, its tombstone, or None for a point that another
        program wrote."""

    def apply(self, writes: Sequence[Write]) -> Applied:
        """Does the writes in the given order, each only if it is newer than what is stored.

        An `Upsert` is done if the stored seq is lower (or the point has no bookkeeping) and no tombstone has a higher one; a `SetPayload`
        if the stored seq is the one that it names; a `Delete` if the stored seq is at most its own, and it leaves a tombstone whether
        there was a point or not; a `Truncate` removes what has a lower seq; a `SetNames` is done in the points that it describes, whatever
        their number, and leaves `sync` alone. The writes of one call may be done as few operations.
        """

    def begin_bulk(self) -> None:
        """Says that much is about to be written: what only makes searching faster is built later. Searches stay right, and get slower.
        Does nothing in a store that builds nothing."""

    def end_bulk(self) -> bool:
        """Ends that; also what another process began. True once searching is as fast as it will be: call it until then, with pauses.

        Raises `StoreUnreachable` as well when the store says that it cannot build what is missing.
        """

    def snapshot(self, file: Path) -> int:
        """Writes everything into the tar `file`, as it is at one moment; returns the number of points. Writes wait meanwhile, searches
        do not. Raises `UsageError` where there is nothing to pack: a server makes snapshots itself."""

    def forget(self, below: int) -> None:
        """Drops the tombstones with a seq below this one: nobody who read older changes can still be writing."""

    def get(self, ids: Sequence[PointId], *, with_vectors: bool = False) -> list[StoredPoint]:
        """The points that exist, in the order of `ids`."""

    def scan(self, *, after: PointId | None = None, with_vectors: bool = False) -> Iterator[StoredPoint]:
        """Every point with an id beyond `after`, in the order of ids: numbers first, then UUIDs. Memory is that of a page.

        What is written meanwhile may be seen or not; what stays as it is comes exactly once.
        """

    def search(
        self,
        vector: Vector,
        *,
        limit: int,
        offset: int = 0,
        where: Mapping[str, Any] | None = None,
        min_score: float | None = None,
        exclude: Collection[PointId] = (),
    ) -> list[Hit]:
        """The nearest points, best first; `where` asks for equality of payload columns."""

    def count(self) -> int: ...

    def close(self) -> None:
        """Gives back files, locks and connections. The object is not used afterwards."""


class Index(Protocol):
    """The collections behind one alias, of which one is searched. Thread-safe; blocking; raises as `VectorStore`.

    Each is named by its *generation*: the fingerprint of the model that made its vectors, with `-2`, `-3`, … if that model was used before.
    The generation of a plain collection, whose own name is the alias, is "".
    """

    def current(self) -> str | None:
        """The generation that the alias names now; None if there is none yet."""

    def previous(self) -> str | None:
        """The generation that the alias named before the last `swap`, if it is still there."""

    def generations(self) -> list[str]:
        """All that are there, complete or not."""

    def made_by(self, generation: str) -> Mapping[str, str]:
        """What `VectorStore.prepare` was told when the collection was made: how to load its model. Empty if nobody knows."""

    def store(self, generation: str) -> VectorStore:
        """The store of one generation, there or yet to be prepared, whatever the alias names. The same object each time."""

    def swap(self, generation: str) -> None:
        """The alias names `generation` from now on, in one step: nobody finds no collection in between. What it named is `previous`."""

    def drop(self, generation: str) -> None:
        """Removes a collection and its tombstones; never the current one: raises `UsageError`."""

    def close(self) -> None:
        """Closes all its stores."""
