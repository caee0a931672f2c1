"""Pauses while a server is away: bounded, different, and logged once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from pixtail.core.backoff import Backoff, Stopping, pause_s
from pixtail.core.errors import BusUnreachable, SettingError
from pixtail.core.lifecycle import Stop

AWAY = BusUnreachable("Kafka at k:9092 does not answer", "Start it")


class Impatient(Stop):
    """Does not wait, and notes how long it should have."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout_s: float) -> bool:
        self.waits.append(timeout_s)
        return bool(self)


def failing(times: int) -> Callable[[], str]:
    left = [AWAY] * times

    def attempt() -> str:
        if left:
            raise left.pop()
        return "done"

    return attempt


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True), st.floats(0.01, 1), st.floats(1, 100))
def test_a_pause_is_never_nothing_and_never_beyond_the_longest(
    failures: int, chance: float, first_s: float, longest_s: float
) -> None:
    assert 0 < pause_s(failures, chance, first_s=first_s, longest_s=longest_s) <= longest_s


def test_the_bound_doubles_up_to_the_longest() -> None:
    stop, waiting = Impatient(), Backoff("Kafka", first_s=1, longest_s=5, chance=lambda: 1.0)
    assert waiting.call(failing(5), stop) == "done"
    assert stop.waits == pytest.approx([1, 2, 4, 5, 5])


def test_two_clients_of_one_server_wait_differently() -> None:
    first, second = Impatient(), Impatient()
    for stop in (first, second):
        Backoff("Kafka").call(failing(5), stop)
    assert first.waits != second.waits


def test_a_wait_is_logged_once_and_its_end_once() -> None:
    waiting = Backoff("Kafka")
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            assert waiting.call(failing(3), Impatient()) == "done"
            waiting.recovered()
    began = {"event": "server is away, trying again", "log_level": "warning", "server": "Kafka"}
    said = {"problem": AWAY.problem, "remedy": AWAY.remedy}
    ended = {"event": "server is back", "log_level": "info", "server": "Kafka", "attempts": 3}
    assert logs == [began | said, ended] * 2


def test_the_wish_to_stop_ends_the_wait() -> None:
    stop = Impatient()
    stop.set()
    waiting = Backoff("Kafka")
    with pytest.raises(Stopping):
        waiting.call(failing(1), stop)
    assert waiting.waiting


def test_what_no_wait_mends_is_raised_at_once() -> None:
    def attempt() -> None:
        raise SettingError("wrong")

    waiting = Backoff("Kafka")
    with pytest.raises(SettingError):
        waiting.call(attempt, Impatient())
    assert not waiting.waiting


def test_it_goes_on_growing_without_an_overflow() -> None:
    assert pause_s(10**9, 0.5) == pytest.approx(5.5)
