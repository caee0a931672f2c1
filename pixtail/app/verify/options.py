"""How to verify, and how to show it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

Show: TypeAlias = Callable[[str, int, int], None]
"""What is being done, how many are done, about how many there are (0: unknown)."""


@dataclass(frozen=True, slots=True)
class Options:
    """`chunk_rows`: rows read at a time. `wait_s`: the longest wait for the pipeline."""

    repair: bool = False
    chunk_rows: int = 4000
    wait_s: float = 300.0
