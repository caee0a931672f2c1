"""`reindex` and `rollback`: in this process, or in the one that holds the embedded store open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from pixtail.app.asking import ask_index, credentials, have_done
from pixtail.app.following import name_elsewhere
from pixtail.app.progress import RowProgress
from pixtail.app.reindex.planning import Options
from pixtail.app.wiring import needs, opened_index
from pixtail.core.errors import StoreBusy, UsageError
from pixtail.core.lifecycle import Stop, stop_on_signals
from pixtail.core.settings import Settings

API = "/api/v1/reindex"


def reindex(settings: Settings, options: Options, console: Console) -> dict[str, Any]:
    """The outcome, see `Outcome`. Ctrl-C or SIGTERM pauses it: the same command goes on.

    Raises as `Reindex.run`; `StoreBusy` if the embedded store is open in a process that serves no API.
    """
    stop = Stop()
    stop_on_signals(stop)
    with RowProgress(console) as shown:
        try:
            return _here(settings, options, shown, stop)
        except StoreBusy as busy:
            if busy.api is None:
                raise
            return have_done(settings, busy.api, API, for_another(settings, options), shown.show, stop)


def for_another(settings: Settings, options: Options) -> dict[str, Any]:
    """What the other process is asked for: its settings may be those of before model.name was changed, and its folder another one."""
    return asdict(options) | {"model": name_elsewhere(options.model or settings.model.name)}


def _here(settings: Settings, options: Options, shown: RowProgress, stop: Stop) -> dict[str, Any]:
    with needs("all"):
        from encoder.pictures import Pictures
        from pixtail.app.reindex.service import reindexed
    with opened_index(settings) as index, closing(Pictures(settings.pictures)) as pictures:
        return reindexed(settings, index, pictures, options, shown.show, stop)


def rollback(settings: Settings) -> dict[str, Any]:
    """Which collection is searched from now on, and which was. Raises `UsageError`, `StoreUnreachable`."""
    with needs("all"):
        from pixtail.app.reindex.service import rollback as roll_back
    return ask_index(settings, roll_back, ("POST", "/api/v1/rollback", {"headers": credentials(settings)}), dict)


def require_writable(file: Path) -> None:
    """Said before a move of days, and not after. What stands in the file stays until then."""
    with _readable_errors(file):
        file.open("ab").close()


def write_failures(outcome: Mapping[str, Any], file: Path) -> None:
    with _readable_errors(file):
        file.write_bytes(orjson.dumps(outcome["failures"], option=orjson.OPT_INDENT_2))


@contextmanager
def _readable_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}", "Name another file") from None


def print_outcome(outcome: Mapping[str, Any], options: Options, console: Console) -> None:
    for line in _lines(outcome, options):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def print_plan(outcome: Mapping[str, Any], console: Console) -> None:
    points = f"which has {outcome['points']:,} points now"
    text = f"{outcome['records']:,} records of the topic would be read into {outcome['generation']}, {points}"
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _lines(outcome: Mapping[str, Any], options: Options) -> list[str]:
    failed = len(outcome["failures"])
    return [
        f"{outcome['generation']}: {outcome['points']:,} points after {outcome['seconds']:,.0f} s",
        *(
            [f"{outcome['completed']:,} rows were no longer in the topic, and came from MySQL"]
            if outcome["completed"]
            else []
        ),
        *([f"{failed:,} pictures fail (pixtail dlq list)"] if failed else []),
        *(f"Not swapped: {problem}" for problem in outcome["objections"] if not outcome["swapped"]),
        _end(outcome, options),
    ]


def _end(outcome: Mapping[str, Any], options: Options) -> str:
    if outcome["swapped"]:
        back = f" {outcome['former']} is kept: `pixtail rollback` goes back to it." if outcome["former"] else ""
        return f"It is searched from now on.{back}"
    if options.only_missing and outcome["finished"]:
        return "It lacks nothing that the topic can give."
    left_out = [word for word, given in (("--force", options.force), ("--limit", options.limit)) if given]
    without = f" without {' and '.join(left_out)}" if left_out else ""
    if outcome["objections"]:
        return f"Mend that and run it again{without}, which goes on from here; or swap all the same with --accept."
    limit = "The limit is reached. " if options.limit and outcome["points"] >= options.limit else ""
    return f"{limit}Nothing was swapped. Run it again{without}, and it goes on from here."
