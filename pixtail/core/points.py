"""A point of the index: its id, its bookkeeping, and the writes that may be done to it.

Every write carries the `seq` of the row version it stands for; a store does it only if what it knows of the row is older. Deletes leave
tombstones, so that this holds for late writers too. That makes writes idempotent and their order irrelevant.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from pixtail.core.changes import Key, key_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector: TypeAlias = NDArray[np.float32]
    """One embedding: shape (dimension,), float32, unit length."""
    Vectors: TypeAlias = NDArray[np.float32]
    """A batch of them: shape (n, dimension)."""

PointId: TypeAlias = int | str
"""An unsigned 64-bit integer, or a UUID in its canonical text form: what Qdrant takes."""
Payload: TypeAlias = Mapping[str, Any]

SYNC = "_sync"
"""The bookkeeping's place in a payload. Names that begin with it and an underline belong to lookups, see `lookup_version`."""
_NAMESPACE = uuid.UUID("6b0c4b36-6f0b-5d0c-9d3a-7a2f1c3f9a10")


def point_id(table: str, key: Key) -> PointId:
    """The point of a row: its key if that is one unsigned integer below 2^64, else a uuid5 of table and key."""
    values = list(key.values())
    if len(values) == 1 and isinstance(values[0], int) and not isinstance(values[0], bool) and 0 <= values[0] < 1 << 64:
        return values[0]
    return str(uuid.uuid5(_NAMESPACE, f"{table}:{key_bytes(key).decode()}"))


def lookup_version(table: str, column: str) -> str:
    """The payload's key for the seq of the row of `table` whose names a point shows, `column` being the payload's name of its key's place.

    It stands beside `_sync`, not in it: only so can one operation of a store write it together with the names.
    """
    return f"{SYNC}_{table}_{column}"


def is_bookkeeping(name: str) -> bool:
    """Of a payload's key: true if it is no column."""
    return name == SYNC or name.startswith(f"{SYNC}_")


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What is known of a picture's file. `sha256` is hexadecimal, of the bytes as fetched; `width × height` as displayed."""

    sha256: str
    width: int
    height: int
    format: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Sync:
    """The bookkeeping object `_sync` of a point: which version of the row it shows and which picture was encoded by which model."""

    seq: int
    ref: str
    model: str
    facts: PictureFacts
    at: str

    def as_payload(self) -> dict[str, Any]:
        facts = self.facts  # not asdict(), which copies each value: this is done for every point
        return {
            "seq": self.seq,
            "ref": self.ref,
            "sha256": facts.sha256,
            "width": facts.width,
            "height": facts.height,
            "format": facts.format,
            "bytes": facts.bytes,
            "model": self.model,
            "at": self.at,
        }

    @staticmethod
    def from_payload(payload: Payload | None) -> Sync | None:
        """The bookkeeping found in a point's payload; None for a point that this program did not write."""
        body = (payload or {}).get(SYNC)
        if not isinstance(body, Mapping) or not isinstance(body.get("seq"), int):
            return None
        facts = PictureFacts(
            sha256=body.get("sha256", ""),
            width=body.get("width", 0),
            height=body.get("height", 0),
            format=body.get("format", ""),
            bytes=body.get("bytes", 0),
        )
        return Sync(body["seq"], body.get("ref", ""), body.get("model", ""), facts, body.get("at", ""))


@dataclass(frozen=True, slots=True)
class Gone:
    """A tombstone: there is no point, because this version of the row (or of the table, by TRUNCATE) wants none."""

    seq: int


Version: TypeAlias = Sync | Gone | None
"""What a store knows of a row; None: a point that another program wrote."""


def now_text() -> str:
    """The time for `_sync.at`: ISO 8601, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Upsert:
    """The point anew: vector, columns and bookkeeping replace whatever was there."""

    id: PointId
    vector: Vector
    payload: Payload
    sync: Sync

    @property
    def seq(self) -> int:
        return self.sync.seq


@dataclass(frozen=True, slots=True)
class SetPayload:
    """New columns and bookkeeping beside the vector that is there. `over`: the seq of the version that was seen to have the right vector;
    does nothing if the point is not there, or is of another version by now."""

    id: PointId
    payload: Payload
    sync: Sync
    over: int

    @property
    def seq(self) -> int:
        return self.sync.seq


@dataclass(frozen=True, slots=True)
class Delete:
    """The point gone, if its seq is at most this one (a delete also removes the version whose picture just failed). What is older and
    comes later stays away, an upsert of the very same version (the picture that is tried again) does not."""

    id: PointId
    seq: int


@dataclass(frozen=True, slots=True)
class Truncate:
    """Every point that this program wrote with a smaller seq gone, and those that come later kept away."""

    seq: int


@dataclass(frozen=True, slots=True)
class SetNames:
    """What version `seq` of a lookup's row says (None: nothing), in every point of ours that shows its key: whose `column` is `value`.

    Done where the names are of an older version of that row, or of none; `version` is where the point keeps which, see `lookup_version`.
    `again`: also where they are of this very version, taken from it in another way. `ids`: in no other points than these.
    """

    column: str
    value: str | int | float
    names: Payload
    version: str
    seq: int
    again: bool = False
    ids: frozenset[PointId] | None = None


Write: TypeAlias = Upsert | SetPayload | Delete | Truncate | SetNames


@dataclass(frozen=True, slots=True)
class StoredPoint:
    """A point as it is stored. `payload` is without the bookkeeping; of that, `sync` is the row's (None: not written by this program)."""

    id: PointId
    payload: Payload
    sync: Sync | None
    vector: Sequence[float] | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A search result; `score` is the cosine similarity, −1 … 1."""

    point: StoredPoint
    score: float
