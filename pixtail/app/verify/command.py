"""`verify`: in this process, or in the one that holds the embedded store open."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from pixtail.app import wiring
from pixtail.app.asking import have_done
from pixtail.app.jobs import Show
from pixtail.app.progress import RowProgress
from pixtail.app.verify.options import Options
from pixtail.core.errors import StoreBusy
from pixtail.core.lifecycle import Stop
from pixtail.core.settings import Settings

API = "/api/v1/verify"
SHOWN = 20


def verify(settings: Settings, options: Options, console: Console) -> dict[str, Any]:
    """The report, as `Report.as_json` has it.

    Raises `ServerUnreachable`, `SettingError`, `ModelError`; `StoreBusy` if the embedded store is open in a process that serves no API;
    `PixtailError` if a verification is running already, or fails in that other process; whoever stops this command does not stop it there.
    """
    with RowProgress(console) as shown:
        try:
            return _here(settings, options, shown.show)
        except StoreBusy as busy:
            if busy.api is None:
                raise
            return have_done(settings, busy.api, API, asdict(options), shown.show, Stop())


def _here(settings: Settings, options: Options, show: Show) -> dict[str, Any]:
    with wiring.needs("all"):
        from pixtail.app.verify.running import verified
        from sink.collection import fingerprint_of
    with wiring.opened_index(settings) as index:
        current = index.current() or ""
        model = fingerprint_of(current) or wiring.embedder(settings).fingerprint  # a plain collection does not tell
        return verified(settings, index.store(current), current, model, options, show, Stop()).as_json()


def print_report(report: dict[str, Any], console: Console) -> None:
    for line in _lines(report):
        console.print(line, highlight=False, markup=False)
    if report["differences"]:
        table = Table("id", "kind")
        for found in report["differences"][:SHOWN]:
            table.add_row(str(found["id"]), found["kind"])
        console.print(table)


def _lines(report: dict[str, Any]) -> list[str]:
    drift = {kind: number for kind, number in report["drift"].items() if number}
    told = ", ".join(f"{number:,} {kind}" for kind, number in drift.items()) or "nothing"
    others = {
        "whose picture fails (pixtail dlq list)": report["failed"],
        "points of another program, left alone": report["foreign"],
        "changed whenever they were looked at": report["changing"],
    }
    return [
        f"{report['rows']:,} rows and {report['points']:,} points compared in {report['took_s']:g} s: {told} differs",
        *([f"{report['repaired']:,} repaired"] if report["repaired"] else []),
        *(f"{number:,} {what}" for what, number in others.items() if number),
        *report["notes"],
    ]
