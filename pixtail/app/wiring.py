"""Which station gets which neighbours. Stations are imported when they are needed: a listener installs without torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pixtail.core.errors import UsageError
from pixtail.core.lifecycle import Service
from pixtail.core.metrics import Metrics
from pixtail.core.ports import Embedder, PictureSource, VectorStore
from pixtail.core.settings import Settings


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Says which extra to install when a station's libraries are missing."""
    try:
        yield
    except ImportError as error:
        raise UsageError(f"this needs the library {error.name}", f"pip install 'pixtail[{extra}]'") from error


def embedder(settings: Settings) -> Embedder:
    """The model, loaded. Raises `ModelError`."""
    with needs("encode"):
        from encoder.clip import load
    return load(settings.model, settings.pictures)


def not_ready(services: Sequence[Service]) -> list[str]:
    return [service.name for service in services if not service.ready()]


@dataclass(frozen=True, slots=True)
class Station:
    """What `encode`, `serve` and `run` share: the open store, the loaded model, the pictures, the metrics."""

    settings: Settings
    store: VectorStore
    model: Embedder
    pictures: PictureSource
    metrics: Metrics


@contextmanager
def station(settings: Settings, api_address: str | None = None) -> Iterator[Station]:
    """Opened and prepared; closed at the end. Raises `StoreBusy`, `ModelError`, `DimensionMismatch`, `ServerUnreachable`."""
    with needs("encode"):
        from encoder.pictures import Pictures
        from sink.open import open_store
    metrics = Metrics()
    store = open_store(settings, metrics=metrics, api_address=api_address)
    pictures = Pictures(settings.pictures)
    try:
        store.check()
        model = embedder(settings)
        store.prepare(model.dimension, model.fingerprint)
        yield Station(settings, store, model, pictures, metrics)
    finally:
        pictures.close()
        store.close()
