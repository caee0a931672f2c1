"""From commit to searchable, measured from outside at a constant rate of single-row transactions."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pixtail.app.demo.client import ApiClient
from pixtail.app.demo.database import Database
from pixtail.app.demo.samples import Sample
from pixtail.app.demo.stack import Places
from pixtail.core.errors import PixtailError

LIMIT_S = 30.0
TICK_S = 0.01


@dataclass(frozen=True, slots=True)
class Freshness:
    """Percentiles over `rows` rows, in seconds; the resolution is the polling interval, 10 ms."""

    rows: int
    p50_s: float
    p99_s: float
    max_s: float


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of a sorted, non-empty sequence."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def measure(places: Places, samples: Sequence[Sample], rate_per_s: float) -> Freshness:
    """Inserts the samples at that rate and polls the API for each until it is there.

    Raises `PixtailError` if one is not there 30 s after the last insert.
    """
    pending: dict[int, float] = {}
    inserted = threading.Event()

    def insert() -> None:
        try:
            with Database(places.address) as database:
                database.use()
                began = time.monotonic()
                for number, sample in enumerate(samples):
                    time.sleep(max(0.0, began + number / rate_per_s - time.monotonic()))
                    key = database.insert_one(sample)
                    pending[key] = time.monotonic()
        finally:
            inserted.set()

    writer = threading.Thread(target=insert, name="insert")
    writer.start()
    with ApiClient(places.api) as api:
        took = _collect(api, pending, inserted)
    writer.join()
    if len(took) < len(samples):
        raise PixtailError(f"{len(samples) - len(took)} of {len(samples)} rows were not searchable in time")
    took.sort()
    return Freshness(len(took), percentile(took, 0.5), percentile(took, 0.99), took[-1])


def _collect(api: ApiClient, pending: dict[int, float], inserted: threading.Event) -> list[float]:
    """Seconds from commit until seen, for each pending row that is seen.

    Asks for the oldest one only: rows become searchable about in their order, and asking for all would measure the asking.
    """
    took: list[float] = []
    last_news = time.monotonic()
    while time.monotonic() - last_news < LIMIT_S:
        oldest = next(iter(list(pending)), None)
        if oldest is None and inserted.is_set():
            break
        if oldest is None or api.image(oldest) is None:
            time.sleep(TICK_S)
            continue
        last_news = time.monotonic()
        took.append(last_news - pending.pop(oldest))
    return took
