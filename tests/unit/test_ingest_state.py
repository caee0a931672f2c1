"""Positions, GTIDs and seqs: what the listener remembers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.gtid import DomainPositions, GtidSet
from ingest.position import Position, Snapshot, State, Unfinished, from_json, to_json
from ingest.sequence import Sequence
from pixtail.core.errors import SettingError

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
OTHER = "4e11fa47-71ca-11e1-9e33-c80aa9429562"


def draw(sequence: Sequence, now_ms: int) -> int:
    sequence.last = sequence.begin(now_ms) + 1
    return sequence.last


def test_seq_is_the_clocks_while_the_clock_is_ahead() -> None:
    assert draw(Sequence(5), 1000) == 1000 << 10


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=50), st.integers(0, 1 << 40))
def test_seq_strictly_increases_whatever_the_clock_does(times: list[int], last: int) -> None:
    sequence = Sequence(last)
    drawn = [draw(sequence, now_ms) for now_ms in times]
    assert all(a < b for a, b in zip([last, *drawn], drawn, strict=False))


def test_seq_fits_into_a_double_for_the_next_two_hundred_years() -> None:
    year_2226_ms = 8_080_000_000_000
    assert draw(Sequence(), year_2226_ms) < 1 << 53


@pytest.mark.parametrize(
    "state",
    [
        State(Position(f"{UUID}:1-5", "binlog.000001", 4), 7),
        State(Position(None, "binlog.000001", 4), 7, Snapshot()),
        State(Position("", "binlog.000001", 4), 7, Snapshot("it's", 3)),
        State(Position(None, "binlog.000001", 4), 7, Snapshot(b"\x00\xff", 3)),
        State(Position("0-1-2", "binlog.000001", 4), 1 << 52, Snapshot(2**64 - 1, 3), Unfinished("0-1-3", 9)),
    ],
)
def test_a_state_survives_its_json(state: State) -> None:
    assert from_json(to_json(state)) == state


@pytest.mark.parametrize("body", [{}, {"position": {"file": "x"}, "seq": 1, "snapshot": None, "unfinished": None}])
def test_a_foreign_state_is_refused(body: dict[str, object]) -> None:
    with pytest.raises(SettingError, match=r"kafka\.prefix"):
        from_json(body)


def test_a_gtid_set_grows_and_joins_its_intervals() -> None:
    executed = GtidSet(f"{UUID}:1-3:7")
    for gtid in (f"{UUID}:4", f"{UUID}:6", f"{OTHER}:1"):
        executed.add(gtid)
    assert str(executed) == f"{UUID}:1-4:6-7,{OTHER}:1"
    executed.add(f"{UUID}:5")
    assert str(executed) == f"{UUID}:1-7,{OTHER}:1"


@given(st.sets(st.integers(1, 40)), st.randoms())
def test_a_gtid_set_holds_exactly_what_was_added_in_any_order(numbers: set[int], random: object) -> None:
    executed = GtidSet()
    for number in sorted(numbers, key=lambda _: random.random()):  # type: ignore[attr-defined]
        executed.add(f"{UUID}:{number}")
    text = str(executed)
    assert str(GtidSet(text)) == text
    bounds = [part.split("-") for part in text.removeprefix(UUID).strip(":").split(":") if part]
    assert {n for part in bounds for n in range(int(part[0]), int(part[-1]) + 1)} == numbers


def test_a_gtid_set_reads_what_the_server_prints() -> None:
    assert str(GtidSet(f"{UUID.upper()}:1-3:5,\n{OTHER}:7")) == f"{UUID}:1-3:5,{OTHER}:7"
    assert str(GtidSet("")) == ""


def test_mariadbs_position_keeps_the_last_gtid_of_each_domain() -> None:
    position = DomainPositions("0-1-5,2-1-9")
    position.add("0-3-6")
    position.add("1-1-1")
    assert str(position) == "0-3-6,1-1-1,2-1-9"
