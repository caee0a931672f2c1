"""Services stop together, and no thread's death goes unnoticed."""

from __future__ import annotations

import pytest

from pixtail.core.lifecycle import Stop, run_services


class Waits:
    name = "waits"

    def __init__(self) -> None:
        self.drained = False

    def run(self, stop: Stop) -> None:
        assert stop.wait(10), "nobody told this service to stop"
        self.drained = True

    def ready(self) -> bool:
        return True


class Fails:
    name = "fails"

    def run(self, stop: Stop) -> None:
        raise ValueError("out of luck")

    def ready(self) -> bool:
        return False


class Returns:
    name = "returns"

    def run(self, stop: Stop) -> None:
        return

    def ready(self) -> bool:
        return True


def test_a_service_that_fails_stops_its_siblings_and_its_error_is_raised() -> None:
    sibling = Waits()
    with pytest.raises(ValueError, match="out of luck"):
        run_services([sibling, Fails()], Stop())
    assert sibling.drained


def test_a_service_that_returns_stops_its_siblings() -> None:
    sibling = Waits()
    run_services([sibling, Returns()], Stop())
    assert sibling.drained


def test_stop_wakes_those_who_wait() -> None:
    stop = Stop()
    assert not stop
    assert not stop.wait(0)
    stop.set()
    assert stop
    assert stop.wait(60)


def test_a_stop_that_is_implied_comes_with_the_other_or_alone() -> None:
    whole = Stop()
    part, other = whole.imply(Stop()), whole.imply(Stop())
    part.set()
    assert (bool(whole), bool(part), bool(other)) == (False, True, False)
    whole.set()
    assert other
    assert whole.imply(Stop()), "it is too late for a new one"
