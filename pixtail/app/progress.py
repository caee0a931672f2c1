"""How far a snapshot or a back-fill is: in words, and as a bar."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

SAY_S = 10.0  # where there is no terminal


def in_words(rows: int, about: int, rows_per_s: float | None, left_s: float | None) -> str:
    """`12,000 of about 50,000 rows, 3,000 a second, 13 s left`, of which what is not known is left out."""
    parts = [f"{rows:,} of about {about:,} rows" if about else f"{rows:,} rows"]
    if rows_per_s:
        parts.append(f"{rows_per_s:,.{1 if rows_per_s < 10 else 0}f} a second")
    if left_s is not None:
        parts.append(f"{_span(left_s)} left")
    return ", ".join(parts)


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


class RowProgress:
    """A bar on a terminal; elsewhere a line from time to time. A context manager, for one thread."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=None, visible=False, numbers="")
        self._what = ""
        self._shown_at = 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def show(self, what: str, rows: int, about: int) -> None:
        """`about` 0: nobody knows. What is being done may change: then the time left is reckoned anew."""
        if what != self._what:
            self._what, self._shown_at = what, 0.0
            self._progress.reset(self._task, description=what, completed=rows, visible=True)
        total = max(rows, about) if about else None
        numbers = in_words(rows, about, self._speed, None)
        self._progress.update(self._task, completed=rows, total=total, numbers=numbers)
        if not self._console.is_terminal and time.monotonic() - self._shown_at > SAY_S:
            self._shown_at = time.monotonic()
            self.say(f"{what}: {in_words(rows, about, self._speed, self._left_s)}")

    @property
    def _speed(self) -> float | None:
        return self._progress.tasks[0].finished_speed or self._progress.tasks[0].speed

    @property
    def _left_s(self) -> float | None:
        return self._progress.tasks[0].time_remaining
