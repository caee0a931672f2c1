"""GTID sets, tagged ones too: what they hold, how the server writes them, and how they are sent to it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.gtid import GtidSet
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
