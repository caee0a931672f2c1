"""Near pairs against brute force, and how they become groups."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixtail.core.errors import UsageError
from pixtail.search import nearness
from pixtail.search.nearness import Member, Pairs, groups, near_pairs

Array = np.ndarray[Any, np.dtype[Any]]
TIE = 1e-4  # scores so near the threshold may go either way


def clouds(seed: int, rows: int, dimension: int, spread: float) -> Array:
    """Unit vectors around a few centres: with a small spread many are near each other, with a large one hardly any."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(4, dimension))
    vectors = centres[random.integers(4, size=rows)] + spread * random.normal(size=(rows, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def brute_force(vectors: Array) -> dict[tuple[int, int], float]:
    exact = vectors.astype(np.float64)
    scores = exact @ exact.T
    return {(i, j): float(scores[i, j]) for i, j in combinations(range(len(vectors)), 2)}


def as_dict(pairs: Pairs) -> dict[tuple[int, int], float]:
    found = {(int(i), int(j)): float(s) for i, j, s in zip(pairs.left, pairs.right, pairs.score, strict=True)}
    assert len(found) == len(pairs.left), "a pair came twice"
    return found


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearness, "ROWS", 8)
    monkeypatch.setattr(nearness, "COLUMNS", 16)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("few", [1, 64, 1000], ids=["never in full", "sometimes", "nearly always"])
def test_no_pair_above_the_threshold_is_missed_and_none_below_is_named(
    few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearness, "FEW", few)

    @given(
        st.integers(0, 1 << 30),
        st.integers(1, 50),
        st.integers(1, 24),
        st.floats(0, 3),
        st.floats(0.05, 1, exclude_max=True),
    )
    def against_brute_force(seed: int, rows: int, dimension: int, spread: float, min_score: float) -> None:
        vectors = clouds(seed, rows, dimension, spread)
        expected, found = brute_force(vectors), as_dict(near_pairs(vectors, min_score))
        assert {pair for pair, score in expected.items() if score > min_score + TIE} <= found.keys()
        assert all(expected[pair] == pytest.approx(score, abs=TIE) for pair, score in found.items())
        assert all(score >= min_score for score in found.values())

    against_brute_force()


def test_pairs_across_blocks_of_the_real_size_are_found() -> None:
    vectors = clouds(1, nearness.COLUMNS + nearness.ROWS + 100, 64, 100)
    planted = [(0, 5), (3, nearness.ROWS + 7), (nearness.ROWS - 1, nearness.ROWS), (17, len(vectors) - 1)]
    for left, right in planted:
        vectors[right] = vectors[left]
    assert set(as_dict(near_pairs(vectors, 0.97))) == set(planted)


def test_vectors_that_are_the_same_are_found_by_the_highest_least_score() -> None:
    vectors = clouds(1, 30, 512, 0.0)
    same = {(i, j) for i, j in combinations(range(30), 2) if np.array_equal(vectors[i], vectors[j])}
    assert len(same) > 30
    assert set(as_dict(near_pairs(vectors, 1.0))) == same


def test_too_many_pairs_are_refused_with_the_remedy() -> None:
    with pytest.raises(UsageError, match=r"more than 100 pairs .* 0\.5 or more\. .* higher least score"):
        near_pairs(clouds(1, 40, 8, 0.0), 0.5, most=100)


def test_each_block_is_reported(monkeypatch: pytest.MonkeyPatch, small_blocks: None) -> None:
    seen: list[tuple[int, int]] = []
    near_pairs(clouds(1, 20, 8, 1.0), 0.9, between=lambda done, of: seen.append((done, of)))
    assert seen == [(n, len(seen)) for n in range(1, len(seen) + 1)]
    assert len(seen) == 4  # rows 0, 8, 16 begin blocks at 0, 16 · 8 · 16


def pairs_of(scores: dict[tuple[int, int], float]) -> Pairs:
    left, right = (np.array([pair[side] for pair in scores], np.int64) for side in (0, 1))
    return Pairs(left, right, np.array(list(scores.values()), np.float32))


def test_rows_that_hang_together_are_one_group_the_best_scored_first() -> None:
    found = groups(pairs_of({(1, 2): 0.5, (2, 3): 0.75, (8, 9): 1.0, (4, 5): 0.5}))
    assert found == [
        [Member(8, 1.0, 9), Member(9, 1.0, 8)],
        [Member(2, 0.75, 3), Member(3, 0.75, 2), Member(1, 0.5, 2)],
        [Member(4, 0.5, 5), Member(5, 0.5, 4)],
    ]


@given(st.dictionaries(st.tuples(st.integers(0, 15), st.integers(16, 30)), st.sampled_from([0.5, 0.75, 1.0])))
def test_groups_are_the_connected_parts_whatever_the_order(scores: dict[tuple[int, int], float]) -> None:
    found = groups(pairs_of(scores))
    assert found == groups(pairs_of(dict(reversed(scores.items()))))
    assert {frozenset(member.row for member in group) for group in found} == connected(scores)
    for member in (member for group in found for member in group):
        own = {pair: score for pair, score in scores.items() if member.row in pair}
        assert member.score == max(own.values())
        assert own[tuple(sorted((member.row, member.nearest)))] == member.score  # type: ignore[index]


def connected(pairs: Any) -> set[frozenset[int]]:
    """By brute force: parts are joined until nothing changes."""
    parts: set[frozenset[int]] = set()
    for pair in pairs:
        touching = {part for part in parts if part & set(pair)}
        parts = parts - touching | {frozenset(pair).union(*touching)}
    return parts


@pytest.mark.parametrize("make", [lambda: np.empty((0, 8), np.float32), lambda: clouds(1, 1, 8, 1.0)])
def test_fewer_than_two_vectors_have_no_pairs(make: Callable[[], Array]) -> None:
    assert as_dict(near_pairs(make(), 0.5)) == {}
