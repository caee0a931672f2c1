"""Waiting for a server that is away: without end, without noise, without losing the wish to stop."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

import structlog

from pixtail.core.errors import PixtailError, ServerUnreachable
from pixtail.core.lifecycle import Stop

T = TypeVar("T")

FIRST_S = 0.1
LONGEST_S = 10.0


class Stopping(Exception):
    """The wish to stop came while waiting: what is in hand is dropped, uncommitted, and comes again."""


def pause_s(failures: int, chance: float, *, first_s: float = FIRST_S, longest_s: float = LONGEST_S) -> float:
    """How long to wait after so many failures in a row: doubling up to `longest_s`, with a jitter of half (`chance` 0 … 1)."""
    full = min(longest_s, first_s * 2.0 ** min(failures - 1, 30))
    return full * (0.5 + 0.5 * chance)


class Patience:
    """The waits for one thing (`what`), which say at info level when they begin and when they are over. For one thread."""

    def __init__(self, what: str, *, first_s: float = FIRST_S, longest_s: float = LONGEST_S) -> None:
        self._what = what
        self._first_s = first_s
        self._longest_s = longest_s
        self._failures = 0

    @property
    def waiting(self) -> bool:
        return self._failures > 0

    def call(self, attempt: Callable[[], T], stop: Stop) -> T:
        """The result of `attempt`, made again for as long as it raises `ServerUnreachable`. Raises `Stopping`, and any other error."""
        while True:
            try:
                result = attempt()
            except ServerUnreachable as error:
                self.failed(error, stop)
            else:
                self.recovered()
                return result

    def failed(self, error: PixtailError, stop: Stop) -> None:
        """Waits a while. Raises `Stopping` when it is time to stop."""
        self._failures += 1
        if self._failures == 1:
            structlog.get_logger().warning("holding", waits_for=self._what, problem=str(error))
        pause = pause_s(self._failures, random.random(), first_s=self._first_s, longest_s=self._longest_s)
        if stop.wait(pause):
            raise Stopping

    def recovered(self) -> None:
        if self._failures:
            structlog.get_logger().info("going on", waited_for=self._what, failures=self._failures)
        self._failures = 0
