"""Tombstones go when the whole group has passed the place where the topic ended a day after them."""

from __future__ import annotations

import pytest

from encoder.forgetting import EVERY_S, KEEP_S, Forgetting
from pixtail.core.errors import StoreUnreachable
from pixtail.core.points import Delete, Gone
from sink.memory import MemoryStore

START_S = 2_000_000_000.0


class Topic:
    """Of two partitions, one of them empty."""

    end, done = 10, 4

    def ends(self) -> dict[int, int]:
        return {0: self.end, 1: 0}

    def committed(self) -> dict[int, int]:
        return {0: self.done}


class Given:
    def __init__(self) -> None:
        self.now_s = START_S
        self.topic = Topic()
        self.store = MemoryStore()
        self.store.prepare(8, "f00d")
        self.old, self.young = (int((START_S - age) * 1000) << 10 for age in (KEEP_S + 1, KEEP_S - 1))
        self.store.apply([Delete(1, self.old), Delete(2, self.young)])
        self.forgetting = Forgetting(self.store, [self.topic], lambda: self.now_s)

    def later(self) -> dict[object, object]:
        self.now_s += EVERY_S
        self.forgetting.tick()
        return dict(self.store.versions([1, 2]))


@pytest.fixture
def given() -> Given:
    made = Given()
    made.forgetting.tick()
    return made


def test_they_stay_while_somebody_is_behind(given: Given) -> None:
    for _ in range(3):
        assert given.later() == {1: Gone(given.old), 2: Gone(given.young)}


def test_they_go_once_everybody_has_passed_though_the_topic_grows(given: Given) -> None:
    given.topic.end = 1000
    given.topic.done = 10
    assert given.later() == {2: Gone(given.young)}
    assert given.later() == {2: Gone(given.young)}, "the next place is the one where the topic ended then"


def test_a_store_that_is_away_is_asked_another_time(given: Given) -> None:
    given.topic.done = 10
    given.store.fail_with, given.store.fail_in = StoreUnreachable("away"), {"forget"}
    assert 1 in given.later()
    given.store.fail_with = None
    assert 1 not in given.later()
