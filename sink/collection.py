"""What every store says and does about its collection: its name, its size, and the errors when it does not fit."""

from __future__ import annotations

from pixtail.core.errors import DimensionMismatch, SettingError


class CollectionMissing(SettingError):
    """There is no collection to write to."""


def collection_name(alias: str, fingerprint: str) -> str:
    """The collection behind `alias` that holds the vectors of one model."""
    return f"{alias}__{fingerprint}"


def missing(alias: str, place: str) -> CollectionMissing:
    return CollectionMissing(
        f"{place} has no collection {alias}",
        "Start `pixtail run` or `pixtail encode`, which makes it; if somebody removed it, restart them",
    )


def require_dimension(have: int, want: int, alias: str, place: str) -> None:
    """Raises `DimensionMismatch` unless vectors of size `want` fit a collection of size `have`."""
    if have != want:
        raise DimensionMismatch(
            f"collection {alias} in {place} holds vectors of size {have}, the model makes vectors of size {want}",
            "Set model.name to the model that the collection was made with, or qdrant.collection to a new name",
        )
