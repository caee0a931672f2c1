"""How services start, stop and die together.

The first SIGTERM or SIGINT drains: `Stop` is set, every service finishes what it holds. The second one, or 20 seconds, ends the process
at once. A service that fails stops its siblings, so that no thread's death goes unnoticed.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Protocol

import structlog

DRAIN_LIMIT_S = 20.0
FORCED_STATUS = 1


class Stop:
    """The wish to stop, shared by all threads of a process. Thread-safe."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._implied: list[Stop] = []

    def set(self) -> None:
        self._event.set()
        for other in self._implied:
            other.set()

    def imply(self, other: Stop) -> Stop:
        """Sets the other one too, now or later: for a part that may have to stop earlier. Returns it."""
        self._implied.append(other)
        if self:
            other.set()
        return other

    def __bool__(self) -> bool:
        return self._event.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Pauses up to `timeout_s`; returns at once, and True, when it is time to stop."""
        return self._event.wait(timeout_s)


class Service(Protocol):
    """A noun of work with one loop."""

    @property
    def name(self) -> str: ...

    def run(self, stop: Stop) -> None:
        """Works until `stop` is set, then finishes what it holds and returns. Raises when it cannot go on."""

    def ready(self) -> bool:
        """True when it does its work now: `/readyz`."""


def drain(stop: Stop, because: str) -> None:
    """Sets `stop`, and ends the process by force if it is still there when the time for draining is over."""
    structlog.get_logger().info("stopping", because=because, limit_s=DRAIN_LIMIT_S)
    stop.set()
    watchdog = threading.Timer(DRAIN_LIMIT_S, os._exit, (FORCED_STATUS,))
    watchdog.daemon = True
    watchdog.start()


def stop_on_signals(stop: Stop) -> None:
    """First SIGTERM or SIGINT: drain. Second: out at once. Must be called in the main thread."""

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop:
            os._exit(FORCED_STATUS)
        drain(stop, signal.Signals(number).name)

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)


def run_services(services: Sequence[Service], stop: Stop) -> None:
    """Runs each service in a thread of its own until all have returned. The first one to fail stops the rest, and its error is raised."""
    failures: list[BaseException] = []

    def work(service: Service) -> None:
        try:
            service.run(stop)
        except BaseException as error:  # noqa: BLE001 - raised again below, in the main thread
            failures.append(error)
        finally:
            stop.set()

    threads = [threading.Thread(target=work, args=(s,), name=s.name) for s in services]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():  # a join without time-out would keep the main thread from seeing signals
            thread.join(0.2)
    if failures:
        raise failures[0]
