"""Whatever happens between the lookups' tables and the index, in the end each point shows the newest names: over random histories.

PIXTAIL_HISTORIES says how many.
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
from tests.support.lookup_histories import MOVES, ROWS, Move, differences, play
from tests.support.stores import EdgeHarness, Harness, MemoryHarness, local_qdrant, prepared

fresh = itertools.count(1_000_000, ROWS)
ASKED = int(os.environ.get("PIXTAIL_HISTORIES", "0"))
moves = st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 11), st.integers(0, 11)), min_size=10, max_size=80)


def check(store: VectorStore, done: list[Move]) -> None:
    """Each history has rows of its own, so that one store serves all of them."""
    assert differences(store, play(store, done, next(fresh))) == []


def many(usual: int) -> settings:
    return settings(
        max_examples=ASKED or usual,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        database=None,
    )


# A worker that lost its partition writes a row with the old name right before the new owner would have, with the new one. Then it dies.
TOO_LATE: list[Move] = [
    *[("name", 0, 0), ("write", 0, 0), ("step", 0, 3), ("step", 0, 2)],
    *[("name", 0, 1), ("rebalance", 1, 0), ("step", 1, 3), ("step", 1, 2)],
    *[("step", 0, 0), ("step", 1, 3), ("step", 1, 3), ("step", 1, 3), ("kill", 0, 0)],
]


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


@pytest.fixture(autouse=True)
def _one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that anything may happen between two writes."""
    monkeypatch.setattr("encoder.lookups.TURN_S", 0.0)


@many(400)
@given(done=moves)
@example(done=TOO_LATE)
def test_in_memory(done: list[Move]) -> None:
    check(prepared(MemoryHarness()).store, done)


@many(100)
@given(done=moves)
@example(done=TOO_LATE)
def test_embedded(edge: Harness, done: list[Move]) -> None:
    check(edge.store, done)


@many(60)
@given(done=moves)
@example(done=TOO_LATE)
def test_on_qdrant(qdrant: Harness, done: list[Move]) -> None:
    check(qdrant.store, done)
