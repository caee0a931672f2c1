"""Every point of the index, one after the other: from the store, or from the process that holds the embedded store open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from rich.console import Console

from pixtail.app.asking import ask, credentials, no_collection, streamed
from pixtail.app.conditions import column_and_value
from pixtail.app.jobs import Show
from pixtail.app.progress import RowProgress
from pixtail.app.wiring import needs
from pixtail.core.errors import StoreBusy
from pixtail.core.points import StoredPoint
from pixtail.core.settings import Settings

SHOWN_EVERY = 500


@dataclass(frozen=True, slots=True)
class Reading:
    """`points` in the order of ids, read as they are taken; the index had `about` of them when it began."""

    about: int
    points: Iterator[StoredPoint]


def conditions(where: Sequence[str]) -> list[tuple[str, str]]:
    """Column and value of each `COLUMN=VALUE`. Raises `UsageError`."""
    return [column_and_value(text) for text in where]


@contextmanager
def whole_index(
    settings: Settings, where: Sequence[tuple[str, str]] = (), *, with_vectors: bool = False
) -> Iterator[Reading]:
    """The points that have these values. Memory is that of a page.

    Raises `PixtailError` if there is no collection yet, `StoreBusy` if the process that holds it open serves no API; while the points are
    read, `StoreUnreachable` if they end too soon, and `UsageError` for a column that no point has.
    """
    with needs("encode"):
        from sink.open import open_store
    with needs("serve"):
        from pixtail.search.rows import from_line, matching, wanted
    with closing(open_store(settings)) as store:
        try:
            dimension, api = store.dimension(), None
        except StoreBusy as busy:
            if busy.api is None:
                raise
            dimension, api = None, busy.api
        if api is None:
            if dimension is None:
                raise no_collection(settings)
            yield Reading(store.count(), matching(store.scan(with_vectors=with_vectors), wanted(where)))
            return
    about = ask(settings, lambda store: store.count(), ("GET", "/api/v1/stats", {}), lambda answer: answer["points"])
    params = [("vectors", str(with_vectors).lower()), *where]
    with streamed(api, "/api/v1/export", params, credentials(settings)) as lines:
        yield Reading(about, map(from_line, lines))


@contextmanager
def bar(console: Console) -> Iterator[Show]:
    """A bar on a terminal, and nothing elsewhere: these commands say at their end what they did."""
    if not console.is_terminal:
        yield lambda _what, _rows, _about: None
        return
    with RowProgress(console) as progress:
        yield progress.show


def watched(reading: Reading, show: Show, what: str) -> Iterator[StoredPoint]:
    """The points, shown on their way."""
    for number, point in enumerate(reading.points):
        if number % SHOWN_EVERY == 0:
            show(what, number, reading.about)
        yield point
