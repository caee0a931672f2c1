"""The `demo` command: start everything, show progress, say what to try next, keep running."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict

import orjson
from rich.console import Console
from rich.table import Table

from encoder.tiny_clip.captions import Subject
from pixtail.app.demo.check import Checks, Result
from pixtail.app.demo.client import ApiClient
from pixtail.app.demo.database import Database
from pixtail.app.demo.samples import make_sample
from pixtail.app.demo.stack import DatabaseKind, Stack
from pixtail.app.demo.starting import ROWS, Start, Timings

TO_TRY = 800_001


def demo(database: DatabaseKind, for_s: float | None, check: bool, as_json: bool) -> int:
    """Runs the demo; returns the exit status: 1 if a check failed."""
    console = Console(stderr=as_json)
    for number in (signal.SIGINT, signal.SIGTERM):  # both unwind, which ends every process
        signal.signal(number, signal.default_int_handler)
    with Stack(database) as stack:
        try:
            timings = Start(stack, console).run()
            if check:
                return _check(stack, timings, console, as_json)
            _say_what_to_try(stack, timings, console)
            _keep_running(stack, for_s)
        except KeyboardInterrupt:
            if check:
                raise
        console.print("Stopping …")
        return 0


def _check(stack: Stack, timings: Timings, console: Console, as_json: bool) -> int:
    with Database(stack.places.address) as db, ApiClient(stack.places.api) as api:
        db.use()
        checks = Checks(stack, db, api, ROWS)
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
    table.add_row(f"start → all {ROWS} searchable", f"{timings.all_searchable:.1f} s")
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
    sample = make_sample(stack.pictures, Subject("bus", "purple", "snow"), TO_TRY)
    address = places.address
    program = (
        "pixtail" if shutil.which("pixtail") else sys.argv[0]
    )  # what can be pasted: .venv/bin need not be on the path
    console.print(
        f"\n[bold green]{ROWS} pictures are searchable[/] after {timings.all_searchable:.0f} s.\n"
        f"\n[bold]Look[/]      {places.api}   (the console; the API is described at {places.api}/docs)"
        f"\n[bold]Search[/]    {program} search 'red bus in the city' --config {places.config}"
        f"\n          {program} search 白色公交车 --config {places.config}"
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
        f"[bold]Inspect[/]   {program} status --config {places.config}"
        f"\n          {program} doctor --config {places.config}"
        f"\n[bold]Log[/]       {places.log}\n\nCtrl-C stops everything and removes it.",
        soft_wrap=True,
        highlight=False,
    )


def _keep_running(stack: Stack, for_s: float | None) -> None:
    deadline = None if for_s is None else time.monotonic() + for_s
    while deadline is None or time.monotonic() < deadline:
        stack.require_pipeline()
        time.sleep(0.2)
