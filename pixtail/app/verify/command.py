"""`verify`: in this process, or in the one that holds the embedded store open."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.table import Table

from pixtail.app import wiring
from pixtail.app.asking import call
from pixtail.app.progress import RowProgress
from pixtail.app.verify.options import Options, Show
from pixtail.core.errors import PixtailError, StoreBusy
from pixtail.core.lifecycle import Stop
from pixtail.core.settings import Settings

API = "/api/v1/verify"
POLL_S = 0.3
SHOWN = 20


def verify(settings: Settings, options: Options, console: Console) -> dict[str, Any]:
    """The report, as `Report.as_json` has it.

    Raises `ServerUnreachable`, `SettingError`, `ModelError`; `StoreBusy` if the embedded store is open in a process that serves no API;
    `PixtailError` if a verification is running already, or fails in that other process.
    """
    with RowProgress(console) as shown:
        try:
            return _here(settings, options, shown.show)
        except StoreBusy as busy:
            if busy.api is None:
                raise
            return _there(busy.api, settings, options, shown.show)


def _here(settings: Settings, options: Options, show: Show) -> dict[str, Any]:
    with wiring.needs("all"):
        from pixtail.app.verify.running import verified
        from sink.collection import fingerprint_of
    with wiring.opened_index(settings) as index:
        current = index.current() or ""
        model = fingerprint_of(current) or wiring.embedder(settings).fingerprint  # a plain collection does not tell
        return verified(settings, index.store(current), current, model, options, show, Stop()).as_json()


def _there(api: str, settings: Settings, options: Options, show: Show) -> dict[str, Any]:
    """Whoever stops this command does not stop the verification."""
    token = settings.api.token
    headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
    body = {"repair": options.repair, "chunk_rows": options.chunk_rows, "wait_s": options.wait_s}
    state = call(api, ("POST", API, {"json": body, "headers": headers}))
    number = state["number"]
    while state["running"] and state["number"] == number:
        show(state["doing"] or "Beginning", state["done"], state["about"])
        time.sleep(POLL_S)
        state = call(api, ("GET", API, {}))
    if state["report"] is None or state["number"] != number:
        raise PixtailError(
            f"the verification at {api} has no result: {state['problem'] or 'another one came after it'}"
        )
    report: dict[str, Any] = state["report"]
    return report


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
