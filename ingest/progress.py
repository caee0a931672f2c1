"""How far a snapshot is. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """`rows` done of `about` (0: unknown), at `rows_per_s`; `left_s` seconds to go, None while nobody can know."""

    rows: int
    about: int
    rows_per_s: float
    left_s: float | None

    @property
    def share(self) -> float | None:
        """0 … 1. The estimate may be too low: never more than all of it."""
        return min(self.rows / self.about, 1.0) if self.about else None


def progress(rows: int, about: int, seconds: float, rows_before: int = 0) -> Progress:
    """After `seconds` of work that began at `rows_before`: what an earlier life did says nothing about the speed of this one."""
    rate = (rows - rows_before) / seconds if seconds > 0 else 0.0
    left_s = max(about - rows, 0) / rate if about and rate > 0 else None
    return Progress(rows, about, rate, left_s)
