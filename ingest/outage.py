"""Living through a server's absence: one line when it begins, one when it ends, pauses that grow and differ."""

from __future__ import annotations

import random
from collections.abc import Callable

import structlog

from pixtail.core.errors import ServerUnreachable
from pixtail.core.lifecycle import Stop

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0


def pause_s(attempt: int, chance: float) -> float:
    """Full jitter: anything up to a bound that doubles with each attempt. `chance` is in [0, 1)."""
    bound = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * float(1 << min(attempt, 16)))
    return bound * (0.1 + 0.9 * chance)


class Outage:
    """One service's trouble. For one thread."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._attempts = 0
        self._log = structlog.get_logger()

    def endure(self, error: ServerUnreachable, stop: Stop) -> None:
        """Call it for each failed attempt: it pauses, or returns at once when it is time to stop."""
        if not self._attempts:
            self._log.warning("server is away, trying again", problem=error.problem, remedy=error.remedy)
        pause = pause_s(self._attempts, self._chance())
        self._attempts += 1
        stop.wait(pause)

    def over(self) -> None:
        """Call it when the work goes on."""
        if self._attempts:
            self._log.info("server is back", attempts=self._attempts)
        self._attempts = 0
