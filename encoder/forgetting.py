"""When tombstones may go: once nobody can still hold a change that is older."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import structlog

from pixtail.core.errors import StoreUnreachable
from pixtail.core.ports import VectorStore

EVERY_S = 600.0
# A worker that was frozen for longer than this and wakes up may bring back what was deleted meanwhile; clocks differ by less.
KEEP_S = 24 * 3600.0

Offsets = Mapping[int, int]


class Progress(Protocol):
    """How far the topic is, and how far a whole consumer group: next offsets by partition."""

    def ends(self) -> Offsets: ...
    def committed(self) -> Offsets: ...


class Forgetting:
    """Looks where the topic ends; when all groups have passed that place, drops the tombstones that were a day old by then. For one thread.

    A seq is a time (`ms << 10`), if it is the listener's.
    """

    def __init__(self, store: VectorStore, groups: Sequence[Progress], now_s: Callable[[], float] = time.time) -> None:
        self._store = store
        self._groups = groups
        self._now_s = now_s
        self._looked_s = 0.0
        self._ends: Offsets = {}
        self._since_s = 0.0  # when the topic ended at `_ends`

    def tick(self) -> None:
        """To be called again and again. Raises `BusUnreachable`; a store that is away is asked another time."""
        now_s = self._now_s()
        if now_s - self._looked_s < EVERY_S:
            return
        self._looked_s = now_s
        if self._ends and self._passed():
            with suppress(StoreUnreachable):
                self._store.forget(int((self._since_s - KEEP_S) * 1000) << 10)
                structlog.get_logger().debug("old tombstones are forgotten", before_s=self._since_s - KEEP_S)
            self._ends = {}
        if not self._ends:
            self._ends, self._since_s = self._groups[0].ends(), now_s

    def _passed(self) -> bool:
        return all(
            committed.get(partition, 0) >= end
            for committed in (group.committed() for group in self._groups)
            for partition, end in self._ends.items()
        )
