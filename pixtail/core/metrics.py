"""Every metric, in one typed place: name, kind, unit, labels, and how to read it.

An instance belongs to one process (or test) and is passed to whoever measures; nothing is registered at import time.
Counters and gauges of another process's station simply stay at zero here.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from pixtail.core.errors import Reason

__all__ = ["CONTENT_TYPE", "Metrics"]

# From the blink of a stream to the hours of a back-fill.
FRESHNESS_BUCKETS = (0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60, 300, 1800, 7200)
STAGE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
OUTCOMES = ("encoded", "payload_only", "unchanged", "deleted", "no_picture", "not_wanted", "failed", "stale")


class Metrics:
    """All of them over one registry. Thread-safe."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = r = registry or CollectorRegistry()

        # The listener
        self.events = Counter("pixtail_events", "Row changes written to the topic, by operation.", ["op"], registry=r)
        self.listener_lag = Gauge(
            "pixtail_listener_lag_seconds",
            "Now minus the commit time of the last change read; 0 when caught up.",
            registry=r,
        )
        self.listener_up = Gauge("pixtail_listener_up", "1 while the listener is connected and reading.", registry=r)
        self.listener_seq = Gauge("pixtail_listener_seq", "The last seq written to the topic.", registry=r)
        self.snapshot_rows = Counter("pixtail_snapshot_rows", "Rows read by the snapshot.", registry=r)

        # The worker
        self.consumer_lag = Gauge(
            "pixtail_consumer_lag_records",
            "Records of the topic that the worker has not finished.",
            ["partition"],
            registry=r,
        )
        self.freshness = Histogram(
            "pixtail_freshness_seconds",
            "From the commit in MySQL until the change is searchable (live changes, not the snapshot).",
            buckets=FRESHNESS_BUCKETS,
            registry=r,
        )
        self.stage = Histogram(
            "pixtail_stage_seconds",
            "Time a batch spends in a stage: fetch, decode, encode, apply.",
            ["stage"],
            buckets=STAGE_BUCKETS,
            registry=r,
        )
        self.batch_images = Histogram(
            "pixtail_batch_images", "Pictures per forward pass.", buckets=BATCH_BUCKETS, registry=r
        )
        self.images = Counter(
            "pixtail_images",
            "Rows by what became of them: " + ", ".join(OUTCOMES) + ".",
            ["outcome"],
            registry=r,
        )
        self.bytes_fetched = Counter("pixtail_bytes_fetched", "Bytes of pictures fetched.", registry=r)
        self.dlq_open = Gauge("pixtail_dlq_open", "Pictures that fail now, by reason.", ["reason"], registry=r)
        self.dlq = Counter("pixtail_dlq", "Dead letters written since the start, by reason.", ["reason"], registry=r)

        # The store
        self.store = Histogram(
            "pixtail_store_seconds", "Time of a store operation.", ["operation"], buckets=STAGE_BUCKETS, registry=r
        )
        self.store_errors = Counter(
            "pixtail_store_errors", "Failed store operations, by kind of error.", ["kind"], registry=r
        )
        self.points = Gauge("pixtail_points", "Points in the index.", registry=r)
        self.drift = Gauge(
            "pixtail_drift",
            "Differences that the last verify found and left: missing, orphan, stale, model, payload.",
            ["kind"],
            registry=r,
        )

        # The API
        self.search = Histogram(
            "pixtail_search_seconds",
            "Time of a search, by kind: text, image.",
            ["kind"],
            buckets=STAGE_BUCKETS,
            registry=r,
        )
        self.model_info = Gauge(
            "pixtail_model_info",
            "1, with the model that encodes here.",
            ["name", "fingerprint", "dimension"],
            registry=r,
        )

        self._series_from_the_start()

    def _series_from_the_start(self) -> None:
        """A labelled series that does not exist yet makes `rate()` and alerts blind to its first event."""
        for op in "cudrt":
            self.events.labels(op)
        for outcome in OUTCOMES:
            self.images.labels(outcome)
        for stage in ("fetch", "decode", "encode", "apply"):
            self.stage.labels(stage)
        for kind in ("text", "image"):
            self.search.labels(kind)
        for operation in ("versions", "apply", "search", "get", "count"):
            self.store.labels(operation)
        for reason in Reason:
            self.dlq.labels(reason.value)
            self.dlq_open.labels(reason.value)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The body and content type for a scrape: OpenMetrics if the scraper asks for it, else Prometheus text."""
        if "application/openmetrics-text" in accept:
            return generate_openmetrics(self.registry), CONTENT_TYPE  # type: ignore[no-untyped-call]
        return generate_latest(self.registry), "text/plain; version=0.0.4; charset=utf-8"
