"""What a verification found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pixtail.core.points import PointId
from sink.verify import DRIFT, KeyValues, Verdict

MOST_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Difference:
    """An id whose row and point do not fit together. `key` is None if only a search of the whole table would tell; `seq`: the version of
    the point, 0 without one."""

    id: PointId
    verdict: Verdict
    key: KeyValues | None
    seq: int


@dataclass(slots=True)
class Report:
    """`drift` counts what is wrong at the end; `beyond` those among them that were too many to be looked at again. `settled` is False if
    the pipeline did not pass the moment of the comparison: what differs may be on its way. `changing`: rows that changed whenever they
    were looked at."""

    rows: int = 0
    points: int = 0
    failed: int = 0
    foreign: int = 0
    changing: int = 0
    repaired: int = 0
    settled: bool = True
    drift: Counter[Verdict] = field(default_factory=Counter)
    beyond: Counter[Verdict] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    differences: Sequence[Difference] = ()
    took_s: float = 0.0
    at: str = ""

    @property
    def ok(self) -> bool:
        return not self.drift.total()

    def note_harmless(self, verdict: Verdict) -> None:
        self.failed += verdict is Verdict.FAILED
        self.foreign += verdict is Verdict.FOREIGN

    def note_unsettled(self, problem: str) -> None:
        self.settled = False
        self.notes.append(f"What differs may still be on its way: {problem}")

    def note_left(self, differences: Sequence[Difference]) -> None:
        self.differences = differences
        self.drift = self.beyond + Counter(difference.verdict for difference in differences)

    def by_kind(self) -> dict[str, int]:
        """`drift`, with those that are 0."""
        return {kind.value: self.drift[kind] for kind in DRIFT}

    def as_json(self) -> dict[str, Any]:
        """The first `MOST_SHOWN` differences are listed."""
        return {
            "ok": self.ok,
            "rows": self.rows,
            "points": self.points,
            "drift": self.by_kind(),
            "repaired": self.repaired,
            "failed": self.failed,
            "foreign": self.foreign,
            "changing": self.changing,
            "settled": self.settled,
            "notes": self.notes,
            "differences": [
                {"id": found.id, "kind": found.verdict.value, "key": found.key}
                for found in self.differences[:MOST_SHOWN]
            ],
            "at": self.at,
            "took_s": round(self.took_s, 1),
        }
