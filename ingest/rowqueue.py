"""What lies between the reader's thread and the listener's: parts of transactions, in order, bounded by rows and bytes."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Closed(Exception):
    """The other side has gone."""


class RowQueue(Generic[T]):
    """One thread puts, one gets. A single item larger than the bounds passes when the queue is empty."""

    def __init__(self, max_rows: int, max_bytes: int) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._items: deque[tuple[T, int, int]] = deque()
        self._rows = self._bytes = 0
        self._failure: BaseException | None = None
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T, rows: int = 0, size_bytes: int = 0) -> None:
        """Waits while the queue is full. Raises `Closed` once nobody will get it."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_room(rows, size_bytes))
            if self._closed:
                raise Closed
            self._items.append((item, rows, size_bytes))
            self._rows += rows
            self._bytes += size_bytes
            self._changed.notify_all()

    def _has_room(self, rows: int, size_bytes: int) -> bool:
        """Items without rows count as one: the positions of other tables' transactions must not pile up either."""
        if not self._items:
            return True
        return (
            self._rows + rows <= self._max_rows
            and self._bytes + size_bytes <= self._max_bytes
            and len(self._items) < 2 * self._max_rows
        )

    def get(self, timeout_s: float) -> T | None:
        """The next item; None if none came in time. Raises what the putting side failed with, behind the items it put before."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._items or self._failure, timeout_s):
                return None
            if not self._items:
                assert self._failure is not None
                raise self._failure
            item, rows, size_bytes = self._items.popleft()
            self._rows -= rows
            self._bytes -= size_bytes
            self._changed.notify_all()
            return item

    def __len__(self) -> int:
        return len(self._items)

    def fail(self, error: BaseException) -> None:
        """From the putting side: nothing more will come."""
        with self._changed:
            self._failure = error
            self._changed.notify_all()

    def close(self) -> None:
        """From the getting side: nothing more is wanted."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
