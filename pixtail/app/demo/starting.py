"""The demo's start: servers, pictures, rows before and while the pipeline runs, with progress."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pixtail.app.demo.client import ApiClient
from pixtail.app.demo.database import Database
from pixtail.app.demo.samples import Sample, make_samples
from pixtail.app.demo.stack import Stack

ROWS_BEFORE, ROWS_WHILE = 120, 120
ROWS = ROWS_BEFORE + ROWS_WHILE
LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds from the command's start."""

    servers: float
    first_searchable: float
    all_searchable: float


class Start:
    """Brings a stack up until every row of it is searchable. Used once."""

    def __init__(self, stack: Stack, console: Console) -> None:
        self._stack = stack
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=console)
        self._servers = self._progress.add_task("starting database and Kafka", total=1)
        self._rows = self._progress.add_task("drawing pictures, inserting rows", total=ROWS)
        self._searchable = self._progress.add_task("searchable", total=ROWS)
        self._began = time.monotonic()
        self._first_s = 0.0

    def run(self) -> Timings:
        """Raises `PixtailError` when something does not come up."""
        samples = make_samples(self._stack.pictures, ROWS)
        with self._progress:
            first, servers_s = self._draw_while_servers_start(samples)
            with Database(self._stack.places.address) as database:
                database.create()
                database.insert(first)
                self._stack.start_pipeline()
                self._insert_while_it_works(database, samples)
        return Timings(servers_s, self._first_s, time.monotonic() - self._began)

    def _draw_while_servers_start(self, samples: Iterator[Sample]) -> tuple[list[Sample], float]:
        with ThreadPoolExecutor(1) as pool:
            starting = pool.submit(self._stack.start_servers)
            first = []
            for sample in islice(samples, ROWS_BEFORE):
                first.append(sample)
                self._progress.advance(self._rows)
            starting.result()
        self._progress.update(self._servers, description="database and Kafka are up", completed=1)
        return first, time.monotonic() - self._began

    def _insert_while_it_works(self, database: Database, samples: Iterator[Sample]) -> None:
        """Row by row, as the upload app would."""
        with ApiClient(self._stack.places.api) as api:
            self._stack.wait(api.is_ready, LIMIT_S, "the pipeline to be ready")
            for sample in samples:
                database.insert_one(sample)
                self._progress.advance(self._rows)
                self._points(api)
            self._stack.wait(lambda: self._points(api) >= ROWS, LIMIT_S, f"{ROWS} points")

    def _points(self, api: ApiClient) -> int:
        points = api.points()
        self._progress.update(self._searchable, completed=points)
        if points and not self._first_s:
            self._first_s = time.monotonic() - self._began
        return points
