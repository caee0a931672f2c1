"""How to verify."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """`chunk_rows`: rows read at a time. `wait_s`: the longest wait for the pipeline."""

    repair: bool = False
    chunk_rows: int = 4000
    wait_s: float = 300.0
