"""Verifications inside a process that holds the store open: on a schedule, and when a command asks for one through the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from pixtail.app.following import Following
from pixtail.app.jobs import Job, Show
from pixtail.app.verify.options import Options
from pixtail.app.verify.report import Report
from pixtail.app.wiring import needs
from pixtail.core.lifecycle import Stop
from pixtail.core.metrics import Metrics
from pixtail.core.settings import Settings

_log = structlog.get_logger()


def verify_job(settings: Settings, following: Following, metrics: Metrics, every_s: float | None = None) -> Job:
    """Verifies the generation that is followed; what was found is shown in the metrics too. By itself it repairs nothing."""

    def do(options: Mapping[str, Any], show: Show, stop: Stop) -> Mapping[str, Any]:
        with needs("all"):  # `serve` alone comes without what reads MySQL
            from pixtail.app.verify.running import verified
        now = following.current
        report = verified(settings, now.store, now.name, now.model.fingerprint, Options(**options), show, stop)
        publish(report, metrics)
        return report.as_json()

    return Job("verify", do, every_s)


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
