"""Telling a broken picture from a broken network: pure."""

from __future__ import annotations

from collections import deque

WINDOW = 40
ENOUGH = 20


class Outage:
    """True while more than half of the last pictures could not be had for a reason that passes by itself.

    Then the fault lies with the network or the picture server, and dead letters for every picture would only hide it.
    """

    def __init__(self) -> None:
        self._recent: deque[bool] = deque(maxlen=WINDOW)

    def record(self, transient_failure: bool) -> None:
        self._recent.append(transient_failure)

    def __bool__(self) -> bool:
        return len(self._recent) >= ENOUGH and sum(self._recent) * 2 > len(self._recent)
