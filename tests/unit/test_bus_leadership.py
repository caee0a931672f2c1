"""Which member of the group leads."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from kafka import TopicPartition

from pixtail.bus.leadership import _Choice

PLACE = TopicPartition("pixtail.state", 0)


def member(name: str, chosen_in: int) -> Any:
    return SimpleNamespace(member_id=name, metadata=SimpleNamespace(user_data=b"%d" % chosen_in))


def chosen(*members: Any) -> list[str]:
    assigned = _Choice(PLACE).assign(None, members)
    assert assigned.keys() == {one.member_id for one in members}
    return [name for name, assignment in assigned.items() if assignment.partitions() == [PLACE]]


def test_whoever_leads_goes_on_whatever_the_names_and_the_order() -> None:
    for leader in ("a", "b", "c"):
        members = [member(name, 4 if name == leader else 0) for name in ("c", "a", "b")]
        assert chosen(*members) == chosen(*reversed(members)) == [leader]


def test_one_that_led_long_ago_and_was_frozen_does_not_come_back() -> None:
    assert chosen(member("frozen", 3), member("leads", 5)) == ["leads"]


def test_without_a_leader_exactly_one_is_chosen() -> None:
    assert len(chosen(member("a", 0), member("b", 0))) == 1


def test_a_member_says_when_it_was_last_chosen() -> None:
    choice = _Choice(PLACE)
    mine = choice.assign(None, [member("a", 0)])["a"]
    assert choice.metadata(["pixtail.state"]).user_data == b"0"
    choice.on_assignment(mine, 12)
    assert choice.metadata(["pixtail.state"]).user_data == b"12"
    choice.forget()
    assert choice.metadata(["pixtail.state"]).user_data == b"0"
