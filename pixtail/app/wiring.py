"""Which station gets which neighbours. Stations are imported when they are needed: a listener installs without torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from pixtail.core.errors import UsageError
from pixtail.core.lifecycle import Service
from pixtail.core.ports import Embedder, Index
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


@contextmanager
def opened_index(settings: Settings, api_address: str | None = None) -> Iterator[Index]:
    """The index, its store proved to work; closed at the end. Raises `StoreBusy`, `StoreUnreachable`, `SettingError`."""
    with needs("encode"):
        from sink.open import open_index
    with closing(open_index(settings, api_address=api_address)) as index:
        index.store(index.current() or "").check()
        yield index
