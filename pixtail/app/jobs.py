"""Long work inside a process that holds the store open: on a schedule, and when a command asks for it through the API."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import structlog

from pixtail.core.backoff import Stopping
from pixtail.core.errors import PixtailError, UsageError
from pixtail.core.lifecycle import Stop

POLL_S = 0.2
FIRST_AFTER_S = 600.0  # of the start: a process that is started anew every day comes to its schedule as well

Show: TypeAlias = Callable[[str, int, int], None]
"""What is being done, how many are done, about how many there are (0: unknown)."""
Do: TypeAlias = Callable[[Mapping[str, Any], Show, Stop], Mapping[str, Any]]
"""The work by its options; returns its report. `Stop` may come from the process or from whoever asked."""


class Job:
    """A `Service`, and the API's `Job`: one kind of work, done once at a time. With `every_s` also by itself, then without options."""

    def __init__(self, name: str, do: Do, every_s: float | None = None) -> None:
        self.name = name
        self._do = do
        self._every_s = every_s
        self._lock = threading.Lock()
        self._asked: Mapping[str, Any] | None = None
        self._until = Stop()
        self._state: dict[str, Any] = _state(0)

    def begin(self, options: Mapping[str, Any]) -> int | None:
        with self._lock:
            if self._state["running"]:
                return None
            number: int = self._state["number"] + 1
            self._state, self._until, self._asked = _state(number, running=True), Stop(), options
            return number

    def state(self) -> Mapping[str, Any]:
        with self._lock:
            return dict(self._state)

    def stop(self) -> None:
        self._until.set()

    def ready(self) -> bool:
        return True  # nothing waits for it

    def run(self, stop: Stop) -> None:
        """Until `stop`. Work that fails says why, in its state and in the log; what is under way is dropped at the end."""
        next_s = time.monotonic() + min(self._every_s or 0.0, FIRST_AFTER_S)
        while not stop.wait(POLL_S):
            if self._every_s is not None and time.monotonic() >= next_s:
                next_s = time.monotonic() + self._every_s
                self.begin({})
            if self._asked is not None:
                stop.imply(self._until)
                self._work(self._asked)

    def _work(self, options: Mapping[str, Any]) -> None:
        try:
            report = self._do(options, self._show, self._until)
        except Stopping:
            self._end(problem="it was stopped")
        except PixtailError as error:
            structlog.get_logger().warning("a job failed", job=self.name, problem=error.problem, remedy=error.remedy)
            self._end(problem=error.problem, remedy=error.remedy, refused=isinstance(error, UsageError))
        else:
            self._end(report=report)

    def _show(self, doing: str, done: int, about: int) -> None:
        with self._lock:
            self._state |= {"doing": doing, "done": done, "about": about}

    def _end(self, **outcome: Any) -> None:
        with self._lock:
            self._asked = None
            self._state |= {"running": False, **outcome}


def _state(number: int, *, running: bool = False) -> dict[str, Any]:
    nothing = {"doing": "", "done": 0, "about": 0, "report": None, "problem": None, "remedy": "", "refused": False}
    return {"number": number, "running": running, **nothing}
