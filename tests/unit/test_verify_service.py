"""Verifications inside `run`: on a schedule, on request, one at a time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from pixtail.app.verify import running, service
from pixtail.app.verify.command import print_report
from pixtail.app.verify.report import Difference, Report
from pixtail.app.verify.service import VerifyService, publish
from pixtail.app.wiring import Station
from pixtail.core.backoff import Stopping
from pixtail.core.errors import DatabaseUnreachable
from pixtail.core.lifecycle import Stop
from pixtail.core.metrics import Metrics
from sink.verify import Verdict

REQUEST = {"repair": True, "chunk_rows": 5, "wait_s": 1.0}


def drifted() -> Report:
    report = Report(rows=3, points=2)
    report.note_found([Difference(1, Verdict.MISSING, (1,), 0), Difference(2, Verdict.STALE, (2,), 5)])
    return report


def drift(metrics: Metrics) -> dict[str, float]:
    (family,) = (family for family in metrics.registry.collect() if family.name == "pixtail_drift")
    return {sample.labels["kind"]: sample.value for sample in family.samples}


def until(done: Callable[[], Any], limit_s: float = 10) -> None:
    deadline = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def served(every_s: float | None = None) -> Iterator[VerifyService]:
    parts = SimpleNamespace(settings=None, store=None, model=SimpleNamespace(fingerprint="f00d"), metrics=Metrics())
    verify, stop = VerifyService(cast(Station, parts), every_s), Stop()
    thread = threading.Thread(target=verify.run, args=(stop,))
    thread.start()
    try:
        yield verify
    finally:
        stop.set()
        thread.join(10)
        assert not thread.is_alive()


def verifying(monkeypatch: pytest.MonkeyPatch, work: Callable[..., Report]) -> None:
    monkeypatch.setattr(service, "POLL_S", 0.01)
    monkeypatch.setattr(running, "verified", work)


def test_a_request_is_done_and_its_report_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def work(_settings: Any, _store: Any, model: str, options: Any, show: Any, _stop: Stop) -> Report:
        asked.append((model, options.repair, options.chunk_rows, options.wait_s))
        show("Comparing", 1, 3)
        return drifted()

    verifying(monkeypatch, work)
    with served() as verify:
        assert (verify.state()["number"], verify.state()["running"]) == (0, False)
        assert verify.begin(**REQUEST) == 1
        until(lambda: not verify.state()["running"])
        state = verify.state()
    assert asked == [("f00d", True, 5, 1.0)]
    assert (state["doing"], state["done"], state["about"]) == ("Comparing", 1, 3)
    assert state["report"] == drifted().as_json()
    assert drift(verify._parts.metrics) == {"missing": 1, "orphan": 0, "stale": 1, "model": 0, "payload": 0}


def test_only_one_runs_at_a_time_and_it_ends_with_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()

    def work(*arguments: Any) -> Report:
        begun.set()
        assert arguments[-1].wait(10)
        raise Stopping

    verifying(monkeypatch, work)
    with served() as verify:
        assert verify.begin(**REQUEST) == 1
        assert begun.wait(10)
        assert verify.begin(**REQUEST) is None
    assert verify.state()["problem"] == "the process is stopping"


def test_what_fails_says_why_and_the_next_one_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes: list[Any] = [DatabaseUnreachable("MySQL does not answer", "Start it"), Report()]

    def work(*_: Any) -> Report:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return cast(Report, outcome)

    verifying(monkeypatch, work)
    with served() as verify, capture_logs() as logs:
        verify.begin(**REQUEST)
        until(lambda: verify.state()["problem"])
        assert verify.state()["problem"] == "MySQL does not answer. Start it"
        assert verify.begin(**REQUEST) == 2
        until(lambda: verify.state()["report"])
        assert verify.state()["problem"] is None
    assert [(entry["log_level"], entry["event"]) for entry in logs] == [
        ("warning", "could not verify"),
        ("info", "verified: the index is right"),
    ]


def test_it_verifies_by_itself_again_and_again_and_repairs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    repairs = []

    def work(*arguments: Any) -> Report:
        repairs.append(arguments[3].repair)
        return Report()

    verifying(monkeypatch, work)
    with served(every_s=0.02):
        until(lambda: len(repairs) >= 3)
    assert set(repairs) == {False}


def test_without_a_schedule_it_waits_to_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    verifying(monkeypatch, lambda *_: called.append(1) or Report())
    monkeypatch.setattr(service, "FIRST_AFTER_S", 0)
    with served() as verify:
        verify.begin(**REQUEST)
        until(lambda: verify.state()["report"])
    assert called == [1]


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
    report.failed, report.foreign, report.changing = 1, 2, 3
    report.note_left([Difference(2, Verdict.STALE, (2,), 5)])
    report.note_unsettled("no worker runs")
    print_report(report.as_json(), Console(width=120))
    out = capsys.readouterr().out
    assert "3 rows and 2 points compared in 0 s: 1 stale differs" in out
    for line in ("1 repaired", "1 whose picture fails", "2 points of another program", "no worker runs"):
        assert line in out
    print_report(Report(rows=1, points=1).as_json(), Console(width=120))
    assert "nothing differs" in capsys.readouterr().out
