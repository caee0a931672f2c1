"""Long work in a running process: begun, watched, stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pixtail.app.jobs import Job, Show
from pixtail.core.backoff import Stopping
from pixtail.core.errors import PixtailError, UsageError
from pixtail.core.lifecycle import Stop

DEADLINE_S = 10.0


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@contextmanager
def running(job: Job) -> Iterator[Stop]:
    stop = Stop()
    thread = threading.Thread(target=job.run, args=(stop,))
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join()


def ended(job: Job) -> Mapping[str, Any]:
    until(lambda: not job.state()["running"])
    return job.state()


def test_the_work_gets_its_options_and_leaves_its_report() -> None:
    job = Job("double", lambda options, _show, _stop: {"twice": options["number"] * 2})
    assert job.state()["number"] == 0
    with running(job):
        assert job.begin({"number": 21}) == 1
        assert ended(job)["report"] == {"twice": 42}
        assert job.begin({"number": 4}) == 2
        assert ended(job)["report"] == {"twice": 8}


def test_while_one_is_done_no_other_begins_and_its_progress_can_be_seen() -> None:
    go_on = threading.Event()

    def work(_options: Mapping[str, Any], show: Show, _stop: Stop) -> Mapping[str, Any]:
        show("counting", 3, 9)
        go_on.wait(DEADLINE_S)
        return {}

    job = Job("slow", work)
    with running(job):
        job.begin({})
        until(lambda: job.state()["doing"] == "counting")
        assert job.begin({}) is None
        assert (job.state()["done"], job.state()["about"]) == (3, 9)
        go_on.set()
        assert ended(job)["report"] == {}


def test_who_asked_may_stop_it_and_the_process_may() -> None:
    def work(_options: Mapping[str, Any], _show: Show, stop: Stop) -> Mapping[str, Any]:
        if not stop.wait(DEADLINE_S):
            return {}
        raise Stopping

    job = Job("patient", work)
    with running(job):
        job.begin({})
        job.stop()
        assert ended(job)["problem"] == "it was stopped"
        job.begin({})
    assert job.state()["report"] is None, "the end of the process stops it too"


def test_what_goes_wrong_is_told_and_the_service_goes_on() -> None:
    errors: list[PixtailError] = [PixtailError("no luck", "Try again"), UsageError("nothing to do")]

    def work(_options: Mapping[str, Any], _show: Show, _stop: Stop) -> Mapping[str, Any]:
        raise errors.pop(0)

    job = Job("unlucky", work)
    with running(job):
        job.begin({})
        state = ended(job)
        assert (state["problem"], state["remedy"], state["refused"]) == ("no luck", "Try again", False)
        job.begin({})
        assert ended(job)["refused"]


def test_by_the_clock_it_begins_by_itself() -> None:
    done: list[Mapping[str, Any]] = []

    def work(options: Mapping[str, Any], _show: Show, _stop: Stop) -> Mapping[str, Any]:
        done.append(options)
        return {}

    with running(Job("clock", work, every_s=0.01)):
        until(lambda: len(done) >= 2)
    assert done[0] == {}
