"""The queue between the threads, and the pauses of an outage."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from ingest.outage import LONGEST_PAUSE_S, Outage, pause_s
from ingest.rowqueue import Closed, RowQueue
from pixtail.core.errors import DatabaseUnreachable
from pixtail.core.lifecycle import Stop


def blocked_put(queue: RowQueue[str], *, rows: int = 0, size_bytes: int = 0) -> threading.Thread:
    """A thread that puts; it ends when the queue has taken the item or was closed."""

    def put() -> None:
        with suppress(Closed):
            queue.put("late", rows, size_bytes)

    thread = threading.Thread(target=put)
    thread.start()
    return thread


@pytest.mark.parametrize(("rows", "size_bytes"), [(2, 0), (0, 20)])
def test_a_full_queue_makes_the_putter_wait_until_there_is_room(rows: int, size_bytes: int) -> None:
    queue: RowQueue[str] = RowQueue(3, 30)
    queue.put("first", 2, 20)
    thread = blocked_put(queue, rows=rows, size_bytes=size_bytes)
    thread.join(0.05)
    assert thread.is_alive()
    assert queue.get(1) == "first"
    thread.join(1)
    assert queue.get(1) == "late"


def test_an_item_larger_than_the_bounds_passes_an_empty_queue() -> None:
    queue: RowQueue[str] = RowQueue(3, 30)
    queue.put("giant", 100, 1000)
    assert queue.get(0) == "giant"


def test_items_without_rows_are_bounded_too() -> None:
    queue: RowQueue[str] = RowQueue(2, 30)
    for _ in range(4):
        queue.put("commit")
    thread = blocked_put(queue)
    thread.join(0.05)
    assert thread.is_alive()
    queue.close()
    thread.join(1)
    assert not thread.is_alive()


def test_a_failure_comes_behind_the_items_before_it() -> None:
    queue: RowQueue[str] = RowQueue(3, 30)
    queue.put("first")
    queue.fail(DatabaseUnreachable("gone"))
    assert queue.get(0) == "first"
    with pytest.raises(DatabaseUnreachable):
        queue.get(0)


def test_an_empty_queue_answers_none_in_time() -> None:
    queue: RowQueue[str] = RowQueue(3, 30)
    assert queue.get(0.001) is None
    assert len(queue) == 0


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_pauses_are_bounded_and_never_nothing(attempt: int, chance: float) -> None:
    assert 0 < pause_s(attempt, chance) <= LONGEST_PAUSE_S


def test_pauses_grow_and_differ() -> None:
    assert [pause_s(n, 0.999) < pause_s(n + 1, 0.999) for n in range(4)] == [True] * 4
    assert pause_s(3, 0.1) != pause_s(3, 0.9)


def test_an_outage_is_logged_once_and_its_end_once() -> None:
    with structlog.testing.capture_logs() as logs:
        outage, stop = Outage(chance=lambda: 0.0), Stop()
        stop.set()  # pauses return at once
        for _ in range(3):
            outage.endure(DatabaseUnreachable("MySQL is away"), stop)
        outage.over()
        outage.over()
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [
        ("server is away, trying again", "warning"),
        ("server is back", "info"),
    ]
    assert logs[1]["attempts"] == 3
