"""The `demo` command: start everything, show progress, say what to try next, keep running."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from encoder.tiny_clip.captions import Subject
from pixtail.app.demo.check import Checks, Result
from pixtail.app.demo.client import ApiClient
from pixtail.app.demo.database import Database
from pixtail.app.demo.samples import Sample, make_sample, make_samples
from pixtail.app.demo.stack import DatabaseKind, Stack

ROWS_BEFORE, ROWS_WHILE = 160, 80
START_LIMIT_S = 120.0
TO_TRY = 800_001


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds from the command's start."""

    servers: float
    first_searchable: float
    all_searchable: float


def demo(database: DatabaseKind, for_s: float | None, check: bool, as_json: bool) -> int:
    """Runs the demo; returns the exit status: 1 if a check failed."""
    console = Console(stderr=as_json)
    for number in (signal.SIGINT, signal.SIGTERM):  # both unwind, which ends every process
        signal.signal(number, signal.default_int_handler)
    with Stack(database) as stack:
        try:
            timings = _start(stack, console)
            if check:
                return _check(stack, timings, console, as_json)
            _say_what_to_try(stack, timings, console)
            _keep_running(stack, for_s)
        except KeyboardInterrupt:
            if check:
                raise
        console.print("Stopping …")
        return 0


def _start(stack: Stack, console: Console) -> Timings:
    """Servers, pictures, rows before and while the pipeline runs. Returns when all of them are searchable."""
    began = time.monotonic()
    total = ROWS_BEFORE + ROWS_WHILE
    with _progress(console) as progress:
        servers = progress.add_task("starting database and Kafka", total=None)
        places = stack.start_servers()
        progress.update(servers, description="database and Kafka are up", total=1, completed=1)
        servers_s = time.monotonic() - began

        rows = progress.add_task("drawing pictures, inserting rows", total=total)
        searchable = progress.add_task("starting the pipeline", total=total)
        with Database(places.address) as db:
            db.create()
            samples = make_samples(places.pictures, total)
            db.insert(progress.track((next(samples) for _ in range(ROWS_BEFORE)), task_id=rows, total=total))
            stack.start_pipeline()
            first_s = _insert_while_it_starts(stack, db, samples, progress, rows, searchable, began)
        with ApiClient(places.api) as api:
            stack.wait(lambda: _shown(progress, searchable, api) >= total, START_LIMIT_S, f"{total} points")
    return Timings(servers_s, first_s, time.monotonic() - began)


def _insert_while_it_starts(
    stack: Stack,
    db: Database,
    samples: Iterator[Sample],
    progress: Progress,
    rows: TaskID,
    searchable: TaskID,
    began: float,
) -> float:
    """Inserts the remaining rows one by one, as the app would; returns when the first picture was searchable."""
    with ApiClient(stack.places.api) as api:
        stack.wait(api.is_ready, START_LIMIT_S, "the pipeline to be ready")
        progress.update(searchable, description="searchable")
        first_s = 0.0
        for sample in samples:
            db.insert_one(sample)
            progress.advance(rows)
            if not first_s and _shown(progress, searchable, api):
                first_s = time.monotonic() - began
        if not first_s:
            stack.wait(lambda: _shown(progress, searchable, api) > 0, START_LIMIT_S, "the first point")
            first_s = time.monotonic() - began
    return first_s


def _shown(progress: Progress, task: TaskID, api: ApiClient) -> int:
    points = api.points()
    progress.update(task, completed=points)
    return points


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield progress


def _check(stack: Stack, timings: Timings, console: Console, as_json: bool) -> int:
    with Database(stack.places.address) as db, ApiClient(stack.places.api) as api:
        db.use()
        checks = Checks(stack, db, api, ROWS_BEFORE + ROWS_WHILE)
        results = _tell(checks.run(), console)
    console.print(_report(checks, timings))
    if as_json:
        sys.stdout.write(_as_json(results, checks, timings))
    return 0 if all(result.ok for result in results) else 1


def _tell(running: Iterator[Result], console: Console) -> list[Result]:
    results = []
    for result in running:
        results.append(result)
        mark = "[green]✓[/]" if result.ok else "[red]✗[/]"
        console.print(f"{mark} {result.name}: ", end="")
        console.print(result.detail, markup=False, highlight=False)
    return results


def _report(checks: Checks, timings: Timings) -> Table:
    table = Table("measured", "time")
    table.add_row("start → database and Kafka up", f"{timings.servers:.1f} s")
    table.add_row("start → first picture searchable", f"{timings.first_searchable:.1f} s")
    table.add_row(f"start → all {ROWS_BEFORE + ROWS_WHILE} searchable", f"{timings.all_searchable:.1f} s")
    if checks.freshness:
        for name, seconds in (("p50", checks.freshness.p50_s), ("p99", checks.freshness.p99_s)):
            table.add_row(f"commit → searchable, {name}", f"{seconds * 1000:.0f} ms")
    return table


def _as_json(results: list[Result], checks: Checks, timings: Timings) -> str:
    report = {
        "ok": all(result.ok for result in results),
        "checks": [asdict(result) for result in results],
        "timings_s": asdict(timings),
        "freshness": asdict(checks.freshness) if checks.freshness else None,
    }
    return orjson.dumps(report, option=orjson.OPT_INDENT_2).decode() + "\n"


def _say_what_to_try(stack: Stack, timings: Timings, console: Console) -> None:
    places = stack.places
    sample = make_sample(places.pictures, Subject("bus", "purple", "snow"), TO_TRY)
    address = places.address
    console.print(
        f"\n[bold green]{ROWS_BEFORE + ROWS_WHILE} pictures are searchable[/] after {timings.all_searchable:.0f} s.\n"
        f"\n[bold]Look[/]      {places.api}   (the console; the API is described at {places.api}/docs)"
        f"\n[bold]Search[/]    pixtail search 'red bus in the city' --config {places.config}"
        f"\n          pixtail search 白色公交车 --config {places.config}"
        f"\n[bold]Change[/]    mysql --protocol=tcp --host={address.host} --port={address.port} --user={address.user} {address.database}"
        "\n          and paste, then search again:",
        soft_wrap=True,
        highlight=False,
    )
    for statement in (
        # text to paste, not a query of ours
        f"INSERT INTO images (title, category, file_path) VALUES ('my bus', 'bus', '{sample.file_path}');",  # noqa: S608
        "UPDATE images SET title = 'renamed' WHERE id = 1;",
        "DELETE FROM images WHERE id = 2;",
    ):
        console.print(f"            {statement}", soft_wrap=True, highlight=False, markup=False)
    console.print(
        f"[bold]Inspect[/]   pixtail status --config {places.config}"
        f"\n          pixtail doctor --config {places.config}"
        f"\n[bold]Log[/]       {places.log}\n\nCtrl-C stops everything and removes it.",
        soft_wrap=True,
        highlight=False,
    )


def _keep_running(stack: Stack, for_s: float | None) -> None:
    deadline = None if for_s is None else time.monotonic() + for_s
    while deadline is None or time.monotonic() < deadline:
        stack.require_pipeline()
        time.sleep(0.2)
