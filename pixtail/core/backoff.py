"""Waiting for a server that is away: without end, without noise, without losing the wish to stop."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

import structlog

from pixtail.core.errors import PixtailError, ServerUnreachable
from pixtail.core.lifecycle import Stop

T = TypeVar("T")

FIRST_S = 0.2
LONGEST_S = 10.0


class Stopping(Exception):
    """The wish to stop came while waiting: what is in hand is dropped, uncommitted, and comes again."""


def pause_s(failures: int, chance: float, *, first_s: float = FIRST_S, longest_s: float = LONGEST_S) -> float:
    """How long to wait after so many failures in a row (from 1 on): anything up to a bound that doubles each time, but never nothing.

    `chance` is in [0, 1). Full jitter: many clients of one server spread out (M. Brooker, "Exponential Backoff And Jitter").
    """
    bound = min(longest_s, first_s * 2.0 ** min(failures - 1, 30))
    return bound * (0.1 + 0.9 * chance)


class Backoff:
    """The waits for what is away: pauses that grow and differ, one line when they begin and one when they are over. For one thread."""

    def __init__(
        self,
        what: str,
        *,
        first_s: float = FIRST_S,
        longest_s: float = LONGEST_S,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._what = what
        self._first_s = first_s
        self._longest_s = longest_s
        self._chance = chance
        self._failures = 0

    @property
    def waiting(self) -> bool:
        """True from the first failure until `recovered`."""
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
        """Call it for each failed attempt: it pauses. Raises `Stopping` when it is time to stop."""
        if not self._failures:
            log = structlog.get_logger().bind(server=self._what)
            log.warning("server is away, trying again", problem=error.problem, remedy=error.remedy)
        self._failures += 1
        if stop.wait(pause_s(self._failures, self._chance(), first_s=self._first_s, longest_s=self._longest_s)):
            raise Stopping

    def recovered(self) -> None:
        """Call it when the work goes on, as often as you like."""
        if self._failures:
            structlog.get_logger().info("server is back", server=self._what, attempts=self._failures)
        self._failures = 0
