"""Which of many vectors lie near each other: exactly, in blocks, without ever holding all scores. Pure.

Most pairs are far apart, and a few dimensions are enough to see it. All vectors are turned so that the first dimensions hold most of them.
The scalar product of two vectors is that of their first parts and that of their rests, and the latter is at most the product of the rests'
lengths (Cauchy-Schwarz). So each vector is cut after a quarter of its dimensions and gets its rest's length as one more: the scalar
product of two such vectors is never below the true score, and costs a quarter. Only pairs that pass are looked at in full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from pixtail.core.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pixtail.core.points import Vectors

ROWS, COLUMNS = 1024, 2048  # a block of scores has 8 MiB
SAMPLE = 8192
MOST_PAIRS = 1_000_000
ROUNDING = 1e-5
"""More than what single precision loses in sums of some thousand terms that add up to 1."""
FEW = 64
"""If more than one pair of so many passes the cheap look, the block is multiplied in full."""

Between: TypeAlias = Callable[[int, int], None]
"""Called after each block, with the number of blocks done and of all."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """`left[k] < right[k]` are rows whose vectors have the cosine `score[k]`. In no particular order."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    score: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Member:
    """A row of a group: its best score with another one, and which one that is."""

    row: int
    score: float
    nearest: int


def near_pairs(
    vectors: Vectors, min_score: float, *, most: int = MOST_PAIRS, between: Between = lambda _done, _of: None
) -> Pairs:
    """All pairs of rows with a cosine of at least `min_score`; of those within 1e-5 of it, some.

    `vectors`: shape (n, dimension), float32, each of unit length; may be mapped from a file. Besides it takes a quarter of its size, and
    16 MiB. Raises `UsageError` when there are more than `most` pairs.
    """
    min_score = min(min_score, 1 - ROUNDING)  # the product of a vector with itself need not be 1 to the last digit
    bounds = _bounding(vectors)
    blocks = [(i, j) for i in range(0, len(vectors), ROWS) for j in range(i, len(vectors), COLUMNS)]
    found, pairs = [Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))], 0
    for done, (i, j) in enumerate(blocks, 1):
        block = _block(vectors, bounds, i, j, min_score)
        found.append(block)
        pairs += len(block.left)
        if pairs > most:
            raise UsageError(
                f"more than {most:,} pairs of pictures are alike by {min_score:g} or more",
                "That says little about any of them: ask for a higher least score",
            )
        between(done, len(blocks))
    return Pairs(*(np.concatenate([getattr(part, name) for part in found]) for name in ("left", "right", "score")))


def groups(pairs: Pairs) -> list[list[Member]]:
    """The rows that hang together by pairs, however long the chain between them; best scores first, within each group too."""
    parent: dict[int, int] = {}
    best: dict[int, Member] = {}
    for left, right, score in zip(pairs.left.tolist(), pairs.right.tolist(), pairs.score.tolist(), strict=True):
        for row, other in ((left, right), (right, left)):
            if row not in best or (-score, other) < (-best[row].score, best[row].nearest):
                best[row] = Member(row, score, other)
        first, second = sorted((_root(parent, left), _root(parent, right)))
        parent[second] = first
    together: dict[int, list[Member]] = {}
    for row, member in best.items():
        together.setdefault(_root(parent, row), []).append(member)
    in_order = [sorted(members, key=lambda member: (-member.score, member.row)) for members in together.values()]
    return sorted(in_order, key=lambda members: (-members[0].score, members[0].row))


def _root(parent: dict[int, int], row: int) -> int:
    while (above := parent.setdefault(row, row)) != row:
        parent[row] = parent[above]  # halves the way for those who come after
        row = above
    return row


def _bounding(vectors: Vectors) -> Vectors:
    """The cut vectors: the scalar product of two of them is at least that of the two whole ones, but for `ROUNDING`."""
    kept = max(1, vectors.shape[1] // 4)
    axes = _main_axes(vectors, kept)
    bounds = np.empty((len(vectors), kept + 1), np.float32)
    for rows in _slices(len(vectors), COLUMNS):
        np.matmul(vectors[rows], axes, out=bounds[rows, :kept])
        first = np.einsum("ij,ij->i", bounds[rows, :kept], bounds[rows, :kept])
        bounds[rows, kept] = np.sqrt(np.maximum(1 - first, 0) + ROUNDING)
    return bounds


def _main_axes(vectors: Vectors, kept: int) -> Vectors:
    """Orthonormal columns, shape (dimension, kept): the directions in which a sample of the vectors is longest."""
    sample = vectors[:: max(1, len(vectors) // SAMPLE)].astype(np.float64)
    _, axes = np.linalg.eigh(sample.T @ sample)  # the longest come last
    return axes[:, -kept:].astype(np.float32)


def _block(vectors: Vectors, bounds: Vectors, i: int, j: int, min_score: float) -> Pairs:
    """The pairs of the rows from `i` on with those from `j` on: of each pair only the one way round."""
    rows, columns = slice(i, i + ROWS), slice(j, j + COLUMNS)
    left, right = _above(bounds[rows] @ bounds[columns].T, i, j, min_score - ROUNDING)
    if len(left) > ROWS * COLUMNS // FEW:
        scores = vectors[rows] @ vectors[columns].T
        left, right = _above(scores, i, j, min_score)
        return Pairs(left, right, scores[left - i, right - j])
    score = np.empty(len(left), np.float32)
    for part in _slices(len(left), COLUMNS):
        score[part] = np.einsum("ij,ij->i", vectors[left[part]], vectors[right[part]])
    near = score >= min_score
    return Pairs(left[near], right[near], score[near])


def _above(scores: Vectors, i: int, j: int, least: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    left, right = np.divmod(np.flatnonzero(scores >= least), scores.shape[1])
    left, right = left + i, right + j
    once = left < right
    return left[once], right[once]


def _slices(length: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, length, step))
