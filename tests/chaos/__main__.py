"""`python -m tests.chaos`: kills listener, broker and database at random under a random workload, and compares the topic with the truth."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pixtail.core.logs import configure
from tests.chaos.harness import DATABASES, Report, Run, Wish, spread

SAY_S = 10.0

console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def main() -> int:
    """0: nothing lost, repeated or out of order; 1: something was, and the folder stays."""
    chosen = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that nothing is left behind
    configure(level="error")
    folder = Path(tempfile.mkdtemp(prefix="pixtail-chaos-"))
    console.print(f"seed {chosen.seed}, folder {folder}")
    wish = Wish(chosen.database, chosen.kills, chosen.rows, chosen.seed)
    report = Run(wish, folder, progress()).run()
    show(report)
    if report.ok and not chosen.keep:
        shutil.rmtree(folder)
    else:
        console.print(f"everything is in {folder}")
    return 0 if report.ok else 1


def progress() -> Callable[[str], None]:
    """Says a line now and then."""
    said_at = 0.0

    def say(text: str) -> None:
        nonlocal said_at
        if time.monotonic() - said_at > SAY_S:
            said_at = time.monotonic()
            console.print(text)

    return say


def show(report: Report) -> None:
    table = Table("what", "kills", "recovered", "p50 s", "max s")
    for kind, count in report.kills.most_common():
        found = spread(report.recoveries[kind]) if report.recoveries.get(kind) else {}
        table.add_row(kind, str(count), *(f"{found[name]:g}" if found else "" for name in ("count", "p50", "max")))
    console.print(table)
    for text in (*report.broken, *report.findings.shown):
        console.print(text)
    sys.stdout.write(json.dumps(report.as_json()) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=1_000_000, help="row changes, about")
    parser.add_argument("--seed", type=int, default=1, help="decides what is written and killed, not how they meet")
    parser.add_argument("--database", choices=sorted(DATABASES), default="mysql")
    parser.add_argument("--keep", action="store_true", help="the folder stays after success, too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
