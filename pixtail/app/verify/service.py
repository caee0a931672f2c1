"""Verifications inside a process that holds the store open: on a schedule, and when a command asks for one through the API."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import structlog

from pixtail.app.following import Following
from pixtail.app.verify.options import Options
from pixtail.app.verify.report import Report
from pixtail.app.wiring import needs
from pixtail.core.backoff import Stopping
from pixtail.core.errors import PixtailError
from pixtail.core.lifecycle import Stop
from pixtail.core.metrics import Metrics
from pixtail.core.settings import Settings

POLL_S = 0.2
FIRST_AFTER_S = 600.0  # of the start: a process that is started anew every day is verified as well

_log = structlog.get_logger()


class VerifyService:
    """A `Service`, and the API's `Verification`. Every `every_s` seconds (None: never) it verifies by itself, and repairs nothing then."""

    name = "verify"

    def __init__(
        self, settings: Settings, following: Following, metrics: Metrics, every_s: float | None = None
    ) -> None:
        self._settings = settings
        self._following = following
        self._metrics = metrics
        self._every_s = every_s
        self._lock = threading.Lock()
        self._asked: Options | None = None
        self._state: dict[str, Any] = _state(0)

    def begin(self, *, repair: bool, chunk_rows: int, wait_s: float) -> int | None:
        return self._begin(Options(repair, chunk_rows, wait_s))

    def state(self) -> Mapping[str, Any]:
        with self._lock:
            return dict(self._state)

    def ready(self) -> bool:
        return True  # nothing waits for it

    def run(self, stop: Stop) -> None:
        """Until `stop`. A verification that fails says why, in its state and in the log; one under way is dropped at the end."""
        next_s = time.monotonic() + min(self._every_s or 0.0, FIRST_AFTER_S)
        while not stop.wait(POLL_S):
            if self._every_s is not None and time.monotonic() >= next_s:
                next_s = time.monotonic() + self._every_s
                self._begin(Options())
            if self._asked is not None:
                self._verify(self._asked, stop)

    def _begin(self, options: Options) -> int | None:
        with self._lock:
            if self._state["running"]:
                return None
            number: int = self._state["number"] + 1
            self._state, self._asked = _state(number, running=True), options
            return number

    def _verify(self, options: Options, stop: Stop) -> None:
        try:
            report = self._verified(options, stop)
        except Stopping:
            self._end(problem="the process is stopping")
        except PixtailError as error:
            _log.warning("could not verify", problem=error.problem, remedy=error.remedy)
            self._end(problem=str(error))
        else:
            publish(report, self._metrics)
            self._end(report=report.as_json())

    def _verified(self, options: Options, stop: Stop) -> Report:
        with needs("all"):  # `serve` alone comes without what reads MySQL
            from pixtail.app.verify.running import verified
        now = self._following.current
        return verified(self._settings, now.store, now.name, now.model.fingerprint, options, self._show, stop)

    def _show(self, doing: str, done: int, about: int) -> None:
        with self._lock:
            self._state |= {"doing": doing, "done": done, "about": about}

    def _end(self, **outcome: Any) -> None:
        with self._lock:
            self._asked = None
            self._state |= {"running": False, **outcome}


def _state(number: int, *, running: bool = False) -> dict[str, Any]:
    return {"number": number, "running": running, "doing": "", "done": 0, "about": 0, "report": None, "problem": None}


def publish(report: Report, metrics: Metrics) -> None:
    """In the metrics and the log. What may still be on its way is no drift: the metrics stay as they were."""
    drift = report.by_kind()
    told = {"rows": report.rows, "points": report.points, "took_s": round(report.took_s, 1), **drift}
    if not report.settled:
        _log.warning("verified, but the pipeline stood still", **told, notes=report.notes)
        return
    for kind, number in drift.items():
        metrics.drift.labels(kind).set(number)
    if report.ok:
        _log.info("verified: the index is right", **told)
    else:
        _log.error("verified: table and index differ", **told)
