"""The packets of the stream, and the pauses of an outage."""

from __future__ import annotations

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from ingest.outage import LONGEST_PAUSE_S, Outage, pause_s
from ingest.packets import LONGEST, PacketSplitter
from pixtail.core.errors import DatabaseUnreachable
from pixtail.core.lifecycle import Stop


@given(st.lists(st.integers(0, 40), max_size=8), st.lists(st.integers(1, 60), max_size=20))
def test_packets_come_out_whole_however_the_stream_is_cut(sizes: list[int], cuts: list[int]) -> None:
    payloads = [bytes([n]) * size for n, size in enumerate(sizes)]
    stream = b"".join(len(p).to_bytes(3, "little") + bytes([n]) + p for n, p in enumerate(payloads))
    splitter, found = PacketSplitter(), []
    for cut in cuts:
        found += splitter.feed(stream[:cut])
        stream = stream[cut:]
    found += splitter.feed(stream)
    assert found == payloads


@pytest.mark.parametrize("rest", [0, 5])
def test_a_payload_longer_than_a_packet_is_put_together(rest: int) -> None:
    full, end = b"x" * LONGEST, b"y" * rest
    stream = b"\xff\xff\xff\0" + full + len(end).to_bytes(3, "little") + b"\1" + end + b"\1\0\0\2z"
    splitter = PacketSplitter()
    half = len(stream) // 2
    assert splitter.feed(stream[:half]) == []
    assert splitter.feed(stream[half:]) == [full + end, b"z"]


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
