"""GTID sets, tagged ones too: what they hold, how the server writes them, and how they are sent to it."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import positions
from ingest.gtid import GtidSet
from ingest.mysql import Server
from ingest.position import Position
from pixtail.core.errors import SourceError

A = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
B = "4e11fa47-71ca-11e1-9e33-c80aa9429562"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ""),
        (f"{A}:1", f"{A}:1"),
        (f" {A.upper()}:1-5:7 ,\n{B}:1", f"{A}:1-5:7,{B}:1"),
        (f"{A}:4-5:1-3:6", f"{A}:1-6"),
        (f"{A}:blue:1-2", f"{A}:blue:1-2"),
        (f"{A}:1-2:red:4:6:BLUE:1", f"{A}:1-2:blue:1:red:4:6"),
        (f"{B}:red:1,{A}:_x9:2:1-2,{B}:3", f"{A}:_x9:1-2,{B}:3:red:1"),
        (f"{A}:blue:2,{A}:1,{A}:blue:1", f"{A}:1:blue:1-2"),
    ],
)
def test_a_set_is_read_and_written_as_the_server_does(text: str, wanted: str) -> None:
    assert str(GtidSet(text)) == wanted
    assert str(GtidSet(wanted)) == wanted


@pytest.mark.parametrize(
    "text", [f"{A}:x-y", f"{A}:1-", f"{A}:1-2-3", f"{A}::1", f"{A}:bl ue:1", f"{A}:-1", f"{A}:grün:1"]
)
def test_a_text_that_is_no_set_is_refused(text: str) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        GtidSet(text)


@pytest.mark.parametrize("gtid", [f"{A}:", A, f"{A}:blue"])
def test_a_gtid_without_its_number_is_refused(gtid: str) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        GtidSet().add(gtid)


@given(st.lists(st.tuples(st.sampled_from([A, f"{A}:blue", f"{A}:red", B, A.upper()]), st.integers(1, 30))))
def test_gtids_in_any_order_make_the_set_of_them_all(gtids: list[tuple[str, int]]) -> None:
    executed, wanted = GtidSet(), GtidSet(",".join(f"{source}:{number}" for source, number in gtids))
    for source, number in gtids:
        executed.add(f"{source}:{number}")
    assert str(executed) == str(wanted)
    pieces = {source.lower(): {n for s, n in gtids if s.lower() == source.lower()} for source, _ in gtids}
    assert members(executed) == pieces


def members(executed: GtidSet) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for part in filter(None, str(executed).split(",")):
        uuid, *pieces = part.split(":")
        source = uuid
        for piece in pieces:
            if not piece[0].isdigit():
                source = f"{uuid}:{piece}"
                continue
            first, _, last = piece.partition("-")
            found.setdefault(source, set()).update(range(int(first), int(last or first) + 1))
    return found


def u64(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(8, "little") for number in numbers)


def test_a_set_without_tags_is_sent_as_every_server_reads_it() -> None:
    uuid = bytes.fromhex(A.replace("-", ""))
    assert GtidSet().encoded() == u64(0)
    assert GtidSet(f"{A}:1-5:8").encoded() == u64(1) + uuid + u64(2, 1, 6, 8, 9)


def test_a_set_with_tags_is_sent_in_the_newer_form() -> None:
    uuid = bytes.fromhex(A.replace("-", ""))
    wanted = uuid + b"\0" + u64(1, 1, 6) + uuid + b"\x08blue" + u64(1, 7, 8)
    assert GtidSet(f"{A}:1-5:blue:7").encoded() == b"\1" + (2).to_bytes(6, "little") + b"\1" + wanted


NUMBERS = st.sets(st.tuples(st.sampled_from([A, B, f"{A}:blue"]), st.integers(1, 12)))


def as_set(numbers: set[tuple[str, int]]) -> GtidSet:
    found = GtidSet()
    for source, number in numbers:
        found.add(f"{source}:{number}")
    return found


@given(NUMBERS, NUMBERS)
def test_a_set_covers_another_if_it_holds_all_of_it(one: set[tuple[str, int]], other: set[tuple[str, int]]) -> None:
    assert as_set(one).covers(as_set(other)) == (one >= other)
    assert as_set(one | other).covers(as_set(other))


FLAVOURS: list[tuple[Literal["mysql", "mariadb"], str | None, str | None, bool]] = [
    ("mysql", f"{A}:1-5", f"{A}:1-5", True),
    ("mysql", f"{A}:1-5:7,{B}:1", f"{A}:2-4", True),
    ("mysql", f"{A}:1-5", f"{A}:1-6", False),
    ("mysql", f"{A}:1-5", "", True),
    ("mysql", "", f"{A}:1", False),
    ("mariadb", "0-1-10,1-1-3", "0-2-10", True),
    ("mariadb", "0-1-9,1-1-3", "0-1-10", False),
    ("mariadb", "0-1-10", "0-1-10,7-1-1", False),
    ("mariadb", "0-1-10", "", True),
    ("mysql", None, None, False),
]


@pytest.mark.parametrize(("flavour", "saved", "wanted", "passed"), FLAVOURS)
def test_gtids_tell_whether_a_position_is_passed_and_places_only_without_them(
    flavour: Literal["mysql", "mariadb"], saved: str | None, wanted: str | None, passed: bool
) -> None:
    """The places say the opposite throughout: they may be another server's."""
    here, there = ("binlog.000002", "binlog.000001") if passed else ("binlog.000001", "binlog.000002")
    behind = (there, here) if saved is not None else (here, there)
    server = Server(flavour, "8.0.40", "", {})
    assert positions.passes(Position(saved, behind[0], 4), Position(wanted, behind[1], 4), server) == passed
