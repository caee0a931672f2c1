"""The packets of the stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.packets import LONGEST, PacketSplitter


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
