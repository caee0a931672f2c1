"""Verifications inside `run`: what they are given, and where their report goes."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pixtail.app.following import Following
from pixtail.app.verify import running
from pixtail.app.verify.command import print_report
from pixtail.app.verify.options import Options
from pixtail.app.verify.report import Difference, Report
from pixtail.app.verify.service import publish, verify_job
from pixtail.core.lifecycle import Stop
from pixtail.core.metrics import Metrics
from pixtail.core.settings import Settings
from sink.verify import Verdict

REQUEST = {"repair": True, "chunk_rows": 5, "wait_s": 1.0}


def drifted() -> Report:
    report = Report(rows=3, points=2)
    report.note_left([Difference(1, Verdict.MISSING, (1,), 0), Difference(2, Verdict.STALE, (2,), 5)])
    return report


def drift(metrics: Metrics) -> dict[str, float]:
    (family,) = (family for family in metrics.registry.collect() if family.name == "pixtail_drift")
    return {sample.labels["kind"]: sample.value for sample in family.samples}


def test_it_compares_the_generation_that_is_followed_and_shows_what_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def work(_settings: Any, store: Any, generation: str, model: str, options: Options, *_: Any) -> Report:
        asked.append((store, generation, model, options))
        return drifted()

    monkeypatch.setattr(running, "verified", work)
    now = SimpleNamespace(store="the store", name="f00d-2", model=SimpleNamespace(fingerprint="f00d"))
    metrics = Metrics()
    job = verify_job(Settings(), cast(Following, SimpleNamespace(current=now)), metrics)
    assert job._do(REQUEST, lambda *_: None, Stop()) == drifted().as_json()
    job._do({}, lambda *_: None, Stop())
    assert asked == [
        ("the store", "f00d-2", "f00d", Options(repair=True, chunk_rows=5, wait_s=1.0)),
        ("the store", "f00d-2", "f00d", Options(repair=False)),
    ]
    assert drift(metrics) == {"missing": 1, "orphan": 0, "stale": 1, "model": 0, "payload": 0}


def test_what_may_be_on_its_way_is_no_drift_for_the_metrics() -> None:
    metrics, report = Metrics(), drifted()
    publish(drifted(), metrics)
    report.note_unsettled("no worker runs")
    report.drift = Counter({Verdict.MISSING: 50})
    publish(report, metrics)
    assert drift(metrics)["missing"] == 1


def test_there_is_no_series_before_the_first_verification() -> None:
    assert drift(Metrics()) == {}


def test_a_report_is_printed_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    report = drifted()
    report.failed, report.foreign, report.changing, report.repaired = 1, 2, 3, 1
    report.note_left([Difference(2, Verdict.STALE, (2,), 5)])
    report.note_unsettled("no worker runs")
    print_report(report.as_json(), Console(width=120))
    out = capsys.readouterr().out
    assert "3 rows and 2 points compared in 0 s: 1 stale differs" in out
    for line in ("1 repaired", "1 whose picture fails", "2 points of another program", "no worker runs"):
        assert line in out
    print_report(Report(rows=1, points=1).as_json(), Console(width=120))
    assert "nothing differs" in capsys.readouterr().out
