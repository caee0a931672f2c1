"""Whatever happens between topic and index, in the end the index shows the table: over random histories, on each store.

PIXTAIL_HISTORIES says how many for each store.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pixtail.core.ports import VectorStore
from tests.support.histories import KEYS, MOVES, Move, differences, play
from tests.support.stores import EdgeHarness, Harness, MemoryHarness, local_qdrant, prepared

FOR_EVER = 1 << 52
ASKED = int(os.environ.get("PIXTAIL_HISTORIES", "0"))
fresh = itertools.count(1_000_000, KEYS)
moves = st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 11), st.integers(0, 11)), min_size=10, max_size=60)


# The picture changes to b and back: who saw the first a must not take its vector for the last one's, when b comes in between.
A_TO_B_TO_A: list[Move] = [
    ("write", 0, 0),
    *[("poll", 0, 0), ("step", 0, 0), ("step", 0, 0), ("step", 0, 0)],
    *[("write", 0, 2), ("read", 0, 0), ("write", 0, 1)],
    *[("poll", 0, 6), ("step", 0, 0)],
    *[("poll", 0, 8), ("step", 0, 2), ("step", 0, 2)],
]


def many(usual: int) -> settings:
    return settings(
        max_examples=ASKED or usual,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        database=None,
    )


@pytest.fixture
def edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    """Nobody pulls the plug here: what the disk has is tested elsewhere."""
    monkeypatch.setattr("sink.edge_files.sync_file", lambda _path: None)
    harness = EdgeHarness(tmp_path / "store")
    yield prepared(harness)
    harness.close()


@pytest.fixture
def qdrant() -> Iterator[Harness]:
    harness = local_qdrant()
    yield prepared(harness)
    harness.close()


def check(store: VectorStore, done: list[Move]) -> None:
    """Each history has rows of its own, so that one store serves all of them; but a TRUNCATE would be one of all tables."""
    store.forget(FOR_EVER)
    assert differences(store, play(store, done, next(fresh))) == []


@many(3000)
@given(done=moves)
@example(done=A_TO_B_TO_A)
def test_in_memory(done: list[Move]) -> None:
    check(prepared(MemoryHarness()).store, done)


@many(300)
@given(done=moves)
@example(done=A_TO_B_TO_A)
def test_embedded(edge: Harness, done: list[Move]) -> None:
    check(edge.store, done)


@many(100)
@given(done=moves)
@example(done=A_TO_B_TO_A)
def test_on_qdrant(qdrant: Harness, done: list[Move]) -> None:
    check(qdrant.store, done)
