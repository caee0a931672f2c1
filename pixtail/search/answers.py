"""The shapes of the answers. They are the API's promise: fields may be added, never renamed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pixtail.core.points import Hit, PointId, StoredPoint, Sync
from pixtail.core.settings import Table

API = "/api/v1"
VERSION_DIGITS = 12
"""So many digits of a picture's SHA-256 make its address change when the picture does."""


class SyncAnswer(BaseModel):
    """Which version of the row the point shows, and which picture was encoded by which model."""

    seq: int = Field(description="Version of the row; a higher one is newer.")
    ref: str = Field(description="The picture's path or URL as it was encoded.")
    sha256: str = Field(description="Of the picture's bytes.")
    width: int
    height: int
    format: str
    bytes: int
    model: str = Field(description="Fingerprint of the model that encoded it.")
    at: str = Field(description="When it was written, ISO 8601 UTC.")

    @classmethod
    def of(cls, sync: Sync) -> SyncAnswer:
        facts = sync.facts
        return cls(
            seq=sync.seq,
            ref=sync.ref,
            sha256=facts.sha256,
            width=facts.width,
            height=facts.height,
            format=facts.format,
            bytes=facts.bytes,
            model=sync.model,
            at=sync.at,
        )


class ImageAnswer(BaseModel):
    id: int | str = Field(description="The point's id: the row's key, or a UUID made of it.", examples=[42])
    payload: dict[str, Any] = Field(description="The row's columns.")
    sync: SyncAnswer | None = Field(description="Null for a point that another program wrote.")
    url: str = Field(description="This image in the API.", examples=[f"{API}/images/42"])
    picture: str | None = Field(description="Its thumbnail; add `size`.", examples=[f"{API}/images/42/picture"])

    @classmethod
    def of(cls, point: StoredPoint, table: Table) -> ImageAnswer:
        return cls(**image_fields(point, table))


class HitAnswer(ImageAnswer):
    score: float = Field(description="Cosine similarity, −1 … 1.", examples=[0.31])

    @classmethod
    def of_hit(cls, hit: Hit, table: Table) -> HitAnswer:
        return cls(score=hit.score, **image_fields(hit.point, table))


class SearchAnswer(BaseModel):
    hits: list[HitAnswer] = Field(description="Best first.")
    offset: int
    more: bool = Field(description="True if there are hits behind these.")
    took_ms: float


class ModelAnswer(BaseModel):
    name: str
    fingerprint: str
    dimension: int


class VectorAnswer(BaseModel):
    id: int | str
    model: str | None = Field(description="Fingerprint of the model that made it; null for another program's point.")
    dimension: int
    vector: list[float] = Field(description="Of unit length.")


class CopiesAnswer(BaseModel):
    """Images whose files are the same, byte by byte."""

    sha256: str
    ids: list[int | str]


class AlikeAnswer(BaseModel):
    id: int | str
    score: float = Field(description="Best cosine similarity to another image of the group.")
    nearest: int | str = Field(description="Which one that is.")


class DuplicatesAnswer(BaseModel):
    points: int = Field(description="Images looked at.")
    min_score: float | None
    exact_groups: int = Field(description="How many there are; `exact` lists the largest.")
    near_groups: int = Field(description="How many there are; `near` lists the most alike.")
    near_pairs: int
    exact: list[CopiesAnswer]
    near: list[list[AlikeAnswer]] = Field(
        description="Each group hangs together by pairs of at least `min_score`. Of the copies of one file only the first is in it."
    )


class RunningAnswer(BaseModel):
    status: str = Field(examples=["running"])
    blocks_done: int
    blocks: int = Field(description="0 while the images are still being read.")


class SizeAnswer(BaseModel):
    min: int
    mean: float
    max: int
    sum: int


class ValueAnswer(BaseModel):
    value: Any = Field(description="Null: the column is empty.")
    count: int


class DetailsAnswer(BaseModel):
    """Counted point by point."""

    points: int
    foreign: int = Field(description="Written by another program: without format, size and model.")
    models: dict[str, int] = Field(description="By fingerprint.")
    formats: dict[str, int]
    sizes: dict[str, SizeAnswer | None] = Field(description="Of `width`, `height` and `bytes`.")
    by: dict[str, list[ValueAnswer]] = Field(description="By the values of the columns asked for.")
    dead_letters: dict[str, int] = Field(description="By reason.")


class StatsAnswer(BaseModel):
    points: int = Field(description="Pictures that can be found now.")
    model: ModelAnswer
    max_picture_bytes: int = Field(description="Largest picture to search by.")
    pipeline: dict[str, Any] = Field(
        description="Facts of the pipeline, as far as this process knows them.",
        examples=[{"lag_records": 0, "dead_letters": 2}],
    )
    details: DetailsAnswer | None = Field(None, description="If asked for.")


class SnapshotAnswer(BaseModel):
    file: str = Field(description="Its name in the store's folder. It may be moved away.")
    points: int


class FailureAnswer(BaseModel):
    """A picture that fails now."""

    model_config = ConfigDict(extra="allow")

    id: int | str | None = None
    key: Any = None
    reason: str
    message: str
    attempts: int
    first_failed: str


class FailuresAnswer(BaseModel):
    failures: list[FailureAnswer]
    total: int


class VerifyRequest(BaseModel):
    """How to verify."""

    model_config = ConfigDict(extra="forbid")

    repair: bool = Field(False, description="Mend what differs, and verify it again.")
    chunk_rows: int = Field(4000, ge=1, le=100_000, description="Rows read at a time.")
    wait_s: float = Field(300, ge=0, description="The longest wait for the pipeline.")


class ReindexRequest(BaseModel):
    """How to move the index to another model."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="Its name; else the settings'.")
    limit: int | None = Field(None, ge=1, description="Stop after about so many points, and do not swap.")
    batch: int | None = Field(None, ge=1, le=4096, description="Pictures encoded at a time.")
    concurrency: int | None = Field(None, ge=1, le=256, description="Pictures fetched at a time.")
    force: bool = Field(False, description="Begin anew, whatever is there.")
    only_missing: bool = Field(False, description="Fill the holes of the collection that is searched.")
    accept: bool = Field(False, description="Swap whatever the gate says.")
    dry_run: bool = Field(False, description="Only say what would be done.")


class JobAnswer(BaseModel):
    """The one that runs, else the last one of this process."""

    number: int = Field(description="They are counted; 0 before the first one.")
    running: bool
    doing: str = Field(description="What it does now.")
    done: int
    about: int = Field(description="How many there are; 0 while unknown.")
    report: dict[str, Any] | None = Field(description="What came of it, once it has ended.")
    problem: str | None = Field(description="Why it could not be done.")
    remedy: str = Field(description="What mends that.")
    refused: bool = Field(description="True if there was nothing to do.")


class RollbackAnswer(BaseModel):
    generation: str = Field(description="The collection that is searched from now on.")
    former: str = Field(description="The one that was until now: another rollback leads back to it.")


class HealthAnswer(BaseModel):
    status: str


def image_fields(point: StoredPoint, table: Table) -> dict[str, Any]:
    return {
        "id": point.id,
        "payload": dict(point.payload),
        "sync": SyncAnswer.of(point.sync) if point.sync else None,
        "url": image_url(point.id),
        "picture": picture_url(point, table),
    }


def image_url(point: PointId) -> str:
    return f"{API}/images/{point}"


def picture_url(point: StoredPoint, table: Table) -> str | None:
    """The thumbnail's address; it names the picture's version, so that browsers may keep it for ever."""
    if picture_ref(point, table) is None:
        return None
    version = f"?v={point.sync.facts.sha256[:VERSION_DIGITS]}" if point.sync and point.sync.facts.sha256 else ""
    return f"{image_url(point.id)}/picture{version}"


def picture_ref(point: StoredPoint, table: Table) -> str | None:
    """Where the point's picture is: as it was encoded, else (another program's point) as the picture column says."""
    if point.sync and point.sync.ref:
        return point.sync.ref
    column = table.rename.get(table.picture, table.picture)
    return _text(point.payload, column)


def _text(payload: Mapping[str, Any], column: str) -> str | None:
    value = payload.get(column)
    return value if isinstance(value, str) and value else None
