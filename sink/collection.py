"""What every store says and does about its collection: its name, its size, and the errors when it does not fit."""

from __future__ import annotations

import re

from pixtail.core.errors import DimensionMismatch, ModelMismatch, SettingError, UsageError

_GENERATION = re.compile(r"[0-9A-Za-z]+(-[0-9]+)?")


class CollectionMissing(SettingError):
    """There is no collection to write to."""


def collection_name(alias: str, generation: str) -> str:
    """The collection behind `alias` that holds the vectors of one model."""
    return f"{alias}__{generation}" if generation else alias


def generation_of(alias: str, collection: str) -> str | None:
    """The generation of a collection; None if it is none of the alias's."""
    if collection == alias:
        return ""
    if not collection.startswith(f"{alias}__") or collection == tombstones_of(alias):
        return None
    generation = collection.removeprefix(f"{alias}__")
    return generation if _GENERATION.fullmatch(generation) else None


def tombstones_of(collection: str) -> str:
    """Where the tombstones of a collection are: each has its own, for they go when its own workers have passed them."""
    return f"{collection}__tombstones"


def fingerprint_of(generation: str) -> str:
    """The model's. Empty for a plain collection: its points only tell."""
    return generation.partition("-")[0]


def require_model(generation: str | None, fingerprint: str, alias: str, place: str) -> None:
    """Raises `ModelMismatch` unless vectors of the model belong into the generation."""
    if generation and fingerprint_of(generation) != fingerprint:
        raise ModelMismatch(
            f"collection {alias} in {place} was made with another model ({generation}, and this is {fingerprint})",
            "Run `pixtail reindex` to move to the new model, or set model.name to the former one",
        )


def missing(alias: str, place: str) -> CollectionMissing:
    return CollectionMissing(
        f"{place} has no collection {alias}",
        "Start `pixtail run` or `pixtail encode`, which makes it; if somebody removed it, restart them",
    )


def no_snapshot(place: str) -> UsageError:
    return UsageError(
        f"{place} has no folder that could be packed",
        "Use the snapshots that a Qdrant server makes itself: POST /collections/<name>/snapshots",
    )


def require_dimension(have: int, want: int, alias: str, place: str) -> None:
    """Raises `DimensionMismatch` unless vectors of size `want` fit a collection of size `have`."""
    if have != want:
        raise DimensionMismatch(
            f"collection {alias} in {place} holds vectors of size {have}, the model makes vectors of size {want}",
            "Set model.name to the model that the collection was made with, or qdrant.collection to a new name",
        )


def require_not_current(generation: str, current: str | None, alias: str) -> None:
    if generation == current:
        raise UsageError(f"{collection_name(alias, generation)} is the collection that is searched", "Swap first")
