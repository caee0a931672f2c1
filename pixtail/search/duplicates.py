"""Pictures that stand in the index more than once: the same bytes, or nearly the same vector."""

from __future__ import annotations

import sqlite3
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import orjson

from pixtail.core.errors import PixtailError
from pixtail.core.points import PointId, StoredPoint
from pixtail.search.nearness import Between, Member, groups, near_pairs

if TYPE_CHECKING:
    from pixtail.core.points import Vectors


@dataclass(frozen=True, slots=True)
class Copies:
    """Rows whose pictures are the same file, byte by byte, in the order of the index."""

    sha256: str
    ids: list[PointId]


@dataclass(frozen=True, slots=True)
class Alike:
    """A picture of a group: its best cosine with another picture of the group, and which one that is."""

    id: PointId
    score: float
    nearest: PointId


@dataclass(frozen=True, slots=True)
class Duplicates:
    """`exact` and `near` are the first groups of `exact_groups` and `near_groups`: the largest, and the most alike.

    Of the copies of one file only the first takes part in `near`. The groups of `near` hang together by pairs of at least `min_score`, of
    which there are `near_pairs`: not every picture of a group is near to every other.
    """

    points: int
    min_score: float | None
    exact_groups: int
    near_groups: int
    near_pairs: int
    exact: list[Copies]
    near: list[list[Alike]]


def find_duplicates(
    points: Iterable[StoredPoint],
    min_score: float | None,
    limit: int,
    between: Between = lambda _done, _of: None,
) -> Duplicates:
    """Looks at every point once, then compares. `min_score` None: only exact duplicates, and the points need no vectors.

    Ids, hashes and vectors wait in temporary files; memory is that of the files' pages, a quarter of the vectors, and the pairs found.
    Raises `UsageError` when there are millions of pairs, `PixtailError` when the disk of the temporary files is full.
    """
    with _readable_errors(), closing(_Rows()) as rows, tempfile.TemporaryFile() as file:
        compared = array("q")
        dimension = 0
        for point in points:
            new = rows.add(point)
            if new and min_score is not None and point.vector is not None:
                vector = _unit(point.vector)
                dimension = len(vector)
                file.write(vector.tobytes())
                compared.append(rows.count)
        pairs = near_pairs(_mapped(file, dimension), min_score or 0, between=between) if compared else None
        near = groups(pairs) if pairs else []
        return Duplicates(
            points=rows.count,
            min_score=min_score,
            exact_groups=rows.groups(),
            near_groups=len(near),
            near_pairs=len(pairs.left) if pairs else 0,
            exact=rows.copies(limit),
            near=[[rows.alike(member, compared) for member in members] for members in near[:limit]],
        )


class _Rows:
    """Every row's number (from 1), id and hash, in a temporary file of SQLite's. For one thread."""

    def __init__(self) -> None:
        self.count = 0
        self._db = sqlite3.connect("")  # a file without a name, gone when it is closed
        self._db.execute("CREATE TABLE row (number INTEGER PRIMARY KEY, id TEXT, sha256 BLOB)")
        self._db.execute("CREATE INDEX by_sha256 ON row (sha256)")

    def close(self) -> None:
        self._db.close()

    def add(self, point: StoredPoint) -> bool:
        """True unless a row with the same picture has been added before. Pictures without a hash are all different."""
        sha256 = _hash(point)
        known = sha256 and self._db.execute("SELECT 1 FROM row WHERE sha256 = ?", (sha256,)).fetchone()
        self.count += 1
        self._db.execute("INSERT INTO row VALUES (?, ?, ?)", (self.count, orjson.dumps(point.id), sha256))
        return not known

    def groups(self) -> int:
        found = "SELECT sha256 FROM row WHERE sha256 NOT NULL GROUP BY sha256 HAVING count(*) > 1"
        (count,) = self._db.execute(f"SELECT count(*) FROM ({found})").fetchone()  # noqa: S608
        return int(count)

    def copies(self, limit: int) -> list[Copies]:
        """Most copies first."""
        largest = self._db.execute(
            "SELECT sha256 FROM row WHERE sha256 NOT NULL GROUP BY sha256 HAVING count(*) > 1 "
            "ORDER BY count(*) DESC, min(number) LIMIT ?",
            (limit,),
        ).fetchall()
        return [Copies(sha256.hex(), self._ids("sha256 = ? ORDER BY number", sha256)) for (sha256,) in largest]

    def alike(self, member: Member, compared: array[int]) -> Alike:
        own, nearest = (self._ids("number = ?", compared[row])[0] for row in (member.row, member.nearest))
        return Alike(own, round(member.score, 6), nearest)

    def _ids(self, condition: str, value: Any) -> list[PointId]:
        found = self._db.execute(f"SELECT id FROM row WHERE {condition}", (value,))  # noqa: S608
        return [orjson.loads(text) for (text,) in found]


def _hash(point: StoredPoint) -> bytes | None:
    try:
        return bytes.fromhex(point.sync.facts.sha256) or None if point.sync else None
    except ValueError:
        return None


def _unit(vector: Any) -> Any:
    values = np.asarray(vector, np.float32)
    length = float(np.linalg.norm(values))
    return values / np.float32(length) if length else values


def _mapped(file: IO[bytes], dimension: int) -> Vectors:
    file.flush()
    return np.memmap(file, np.float32, "r").reshape(-1, dimension)


@contextmanager
def _readable_errors() -> Iterator[None]:
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        raise PixtailError(
            f"the temporary files in {tempfile.gettempdir()} cannot be written: {error}",
            "Free some space there, or name another folder in TMPDIR",
        ) from error
