"""A row on its way through the worker, and what becomes of it."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pixtail.bus.consumer import Consumed
from pixtail.core.changes import Change, Op, Tombstone
from pixtail.core.errors import PictureError
from pixtail.core.metrics import Metrics
from pixtail.core.points import PointId

Outcome: TypeAlias = Literal["encoded", "payload_only", "unchanged", "deleted", "no_picture", "not_wanted", "stale"]
"""What became of a row: the label `outcome` of `pixtail_images_total`, `failed` apart."""

CHANGED = ("encoded", "payload_only", "deleted", "no_picture", "not_wanted")
LIVE_OPS = (Op.CREATE, Op.UPDATE, Op.DELETE)  # a snapshot's row may be years old: it has no freshness


@dataclass(frozen=True, slots=True)
class Row:
    """The newest version of a row in a window. `key` is the record's key as it came, by which dead letters are filed."""

    id: PointId
    key: bytes
    entry: Change | Tombstone
    received: Consumed

    @property
    def seq(self) -> int:
        return self.entry.seq


@dataclass(frozen=True, slots=True)
class Done:
    row: Row
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Failed:
    row: Row
    error: PictureError


class Results:
    """What became of the rows of a window so far. Counts and times each as it is done, for that is when it can be searched."""

    def __init__(self, metrics: Metrics) -> None:
        self.done: list[Done] = []
        self.failed: list[Failed] = []
        self.pictures = 0  # that had to be fetched
        self._metrics = metrics

    def finish(self, row: Row, outcome: Outcome) -> None:
        self.done.append(Done(row, outcome))
        self._metrics.images.labels(outcome).inc()
        source = row.entry.source if isinstance(row.entry, Change) and row.entry.op in LIVE_OPS else None
        if source is not None and source.ts_ms and outcome in CHANGED:
            self._metrics.freshness.observe(max(0.0, time.time() - source.ts_ms / 1000))

    def fail(self, row: Row, error: PictureError) -> None:
        self.failed.append(Failed(row, error))

    def supersede(self, ids: Collection[PointId]) -> None:
        """Failures of these points do not count: the index already shows a newer version."""
        for row in [f.row for f in self.failed if f.row.id in ids]:
            self.finish(row, "stale")
        self.failed = [f for f in self.failed if f.row.id not in ids]

    def transient(self) -> list[Failed]:
        """The failures that may pass by themselves."""
        return [f for f in self.failed if f.error.reason.transient]

    def take_transient(self) -> list[Row]:
        """Removes these failures, and returns their rows for another try."""
        rows = [f.row for f in self.transient()]
        self.failed = [f for f in self.failed if not f.error.reason.transient]
        return rows
