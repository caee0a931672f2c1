"""Which station gets which neighbours. Stations are imported when they are needed: a listener installs without torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
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
def opened_store(settings: Settings, metrics: Metrics, api_address: str | None = None) -> Iterator[VectorStore]:
    """The store, proved to work; closed at the end. Raises `StoreBusy`, `StoreUnreachable`, `SettingError`."""
    with needs("encode"):
        from sink.open import open_store
    with closing(open_store(settings, metrics=metrics, api_address=api_address)) as store:
        store.check()
        yield store


@contextmanager
def station(settings: Settings, store: VectorStore, metrics: Metrics) -> Iterator[Station]:
    """With the model loaded and the store prepared for it. Raises `ModelError`, `DimensionMismatch`, `StoreUnreachable`."""
    with needs("encode"):
        from encoder.pictures import Pictures
    model = embedder(settings)
    store.prepare(model.dimension, model.fingerprint)
    metrics.model_info.labels(model.name, model.fingerprint, str(model.dimension)).set(1)
    with closing(Pictures(settings.pictures)) as pictures:
        yield Station(settings, store, model, pictures, metrics)
