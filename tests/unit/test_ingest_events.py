"""The table of event types is whole, and says the same as the documentation; small events' contents, as real servers wrote them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import events
from ingest.events import Handling

DOCS = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
# The numbers in `enum Log_event_type` of MySQL 9.7 (with those that 5.x had) and of MariaDB 12.3.
MYSQL = set(range(43))
MARIADB = set(range(39)) | set(range(160, 173))
# Of MySQL 9.7.4: `uuid:blue:1`.
TAGGED = bytes.fromhex(
    "02720000000262b5023902d29503710222c503a902a204f1030000000204040608626c756508000a040c7fe0c59469c760061051051283120b"
)


def varlen(number: int) -> bytes:
    """As mysql::serialization writes a number: the size is told by the ones at the low end."""
    for size in range(1, 9):
        if number < 1 << 7 * size:
            return (number << size | (1 << size - 1) - 1).to_bytes(size, "little")
    return b"\xff" + number.to_bytes(8, "little")


@pytest.mark.parametrize("number", [*range(46), *range(160, 176)])
def test_each_event_type_of_the_servers_has_one_handling_and_any_other_none(number: int) -> None:
    classes = [events.KNOWN, events.HARMLESS, events.UNDECODABLE, events.UNDECODABLE_ROWS]
    assert sum(number in found for found in classes) == (number in MYSQL | MARIADB)
    assert (number in events.TYPES) == (number in MYSQL | MARIADB)


def test_the_table_agrees_with_what_the_code_acts_upon() -> None:
    assert set(events.TYPES) == MYSQL | MARIADB
    decoded = {number for number, line in events.TYPES.items() if line.handling is Handling.DECODED}
    assert decoded == set(events.KNOWN)
    names = {number: line.name for number, line in events.TYPES.items()}
    assert {kind.value: kind.name for kind in events.EventType} == {
        number: names[number].replace("GTID (MariaDB)", "MARIADB_GTID") for number in decoded
    }
    assert all(line.why for line in events.TYPES.values())


def test_the_documentation_has_the_same_table() -> None:
    wanted = [f"| {number} | {line.name} | {line.handling} | {line.why} |" for number, line in events.TYPES.items()]
    found = [line for line in DOCS.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert sorted(found) == sorted(wanted)


def test_a_tagged_gtid_of_a_real_server_is_read() -> None:
    gtid, commit_ms = events.tagged_gtid(TAGGED)
    assert gtid == "31ad8e69-e59c-11f1-aa51-02fc00000001:blue:1"
    assert commit_ms == 1_795_259_446_380


def tagged(tag: str, number: int, commit_us: int, must_know: int = 0) -> bytes:
    values = [
        varlen(0),
        b"".join(varlen(byte) for byte in range(240, 256)),
        varlen(number << 1),
        varlen(len(tag)) + tag.encode(),
        varlen(7 << 1),
        varlen(8 << 1),
        varlen(commit_us),
        varlen(340),  # and one of those that nobody reads here
    ]
    fields = b"".join(varlen(i) + value for i, value in enumerate([*values[:7]]))
    fields += varlen(8) + values[7]
    return varlen(1) + varlen(len(fields) + 4) + varlen(must_know) + fields


@given(
    tag=st.from_regex(r"[a-z_][a-z0-9_]{0,31}", fullmatch=True) | st.just(""),
    number=st.integers(1, 2**63 - 2),
    commit_us=st.integers(0, 2**55 - 1) | st.integers(2**60, 2**64 - 1),
)
def test_a_tagged_gtid_is_read_whatever_its_numbers(tag: str, number: int, commit_us: int) -> None:
    uuid = "f0f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff"
    wanted = f"{uuid}:{tag}:{number}" if tag else f"{uuid}:{number}"
    assert events.tagged_gtid(tagged(tag, number, commit_us)) == (wanted, commit_us // 1000)


@pytest.mark.parametrize("size", range(48))
def test_a_torn_tagged_gtid_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=r"torn|it has the field"):
        events.tagged_gtid(TAGGED[:size])


def test_a_tagged_gtid_that_needs_a_newer_reader_is_refused() -> None:
    assert events.tagged_gtid(tagged("blue", 1, 0, must_know=11))
    with pytest.raises(ValueError, match="field 12 to be understood"):
        events.tagged_gtid(tagged("blue", 1, 0, must_know=12))
    with pytest.raises(ValueError, match="it has the field 0 where 1 should be"):
        events.tagged_gtid(varlen(1) + varlen(9) + varlen(0) + bytes(9))
