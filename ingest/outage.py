"""`pixtail.core.backoff` under the listener's former names."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from random import random

from pixtail.core.backoff import LONGEST_S as LONGEST_PAUSE_S
from pixtail.core.backoff import Backoff, Stopping, pause_s
from pixtail.core.errors import ServerUnreachable
from pixtail.core.lifecycle import Stop

__all__ = ["LONGEST_PAUSE_S", "Outage", "pause_s"]


class Outage:
    """A `Backoff` that returns, instead of raising, when it is time to stop. For one thread."""

    def __init__(self, chance: Callable[[], float] = random) -> None:
        self._backoff = Backoff("MySQL or Kafka", chance=chance)

    def endure(self, error: ServerUnreachable, stop: Stop) -> None:
        with suppress(Stopping):
            self._backoff.failed(error, stop)

    def over(self) -> None:
        self._backoff.recovered()
