"""The command line: parses, calls, prints. What a command does stands in the module of its name."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer
from rich.console import Console
from typer.core import TyperGroup

from pixtail.core import logs
from pixtail.core.errors import PixtailError, UsageError
from pixtail.core.settings import load


class Program(TyperGroup):
    """Every error of ours ends in one line and its exit status, whatever the command."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except PixtailError as error:
            sys.stderr.write(f"pixtail: {error}\n")
            ctx.exit(error.exit_status)


app = typer.Typer(
    cls=Program,
    help="Keeps an image search index true to a MySQL table.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
dlq = typer.Typer(help="The pictures that fail now.", no_args_is_help=True)
app.add_typer(dlq, name="dlq")

Config = Annotated[Path | None, typer.Option("--config", "-c", help="Settings file (default: pixtail.toml here).")]
WithParent = Annotated[bool, typer.Option("--with-parent", hidden=True, help="Stop when standard input ends.")]
OnLostPosition = Annotated[
    Literal["stop", "snapshot"],
    typer.Option(help="When the server has purged what was not read yet: stop, or read the table anew."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        _out(f"pixtail {version('pixtail')}")
        raise typer.Exit


@app.callback()
def main_options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    log_level: Annotated[Literal["debug", "info", "warning", "error"], typer.Option(help="How much to log.")] = "info",
) -> None:
    logs.configure(level=log_level)


@app.command()
def run(on_lost_position: OnLostPosition = "stop", config: Config = None, with_parent: WithParent = False) -> None:
    """Listener, worker and API on one machine."""
    from pixtail.app import services

    services.run(load(config), config, with_parent, on_lost_position)


@app.command()
def listen(on_lost_position: OnLostPosition = "stop", config: Config = None, with_parent: WithParent = False) -> None:
    """The binlog listener: MySQL to Kafka."""
    from pixtail.app import services

    services.listen(load(config), with_parent, on_lost_position)


@app.command()
def encode(config: Config = None) -> None:
    """The worker: Kafka to vectors to the store."""
    from pixtail.app import services

    services.encode(load(config))


@app.command()
def serve(config: Config = None) -> None:
    """The search API and the console."""
    from pixtail.app import services

    services.serve(load(config))


@app.command()
def status(config: Config = None, as_json: Json = False) -> None:
    """Position, lag, points, dead letters, model."""
    from pixtail.app.status import print_status, read_status

    found = read_status(load(config))
    _json(found) if as_json else print_status(found, Console())


@app.command()
def backfill(
    limit: Annotated[int | None, typer.Option(min=0, help="Most rows.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=100_000, help="Rows read at a time.")] = 4000,
    ids: Annotated[
        list[str] | None, typer.Option("--id", help="Only this row; may be repeated. A key of several columns: 7,blue.")
    ] = None,
    ids_file: Annotated[
        Path | None, typer.Option(help="Only these rows: a file with an id on each line, or -.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Only rows with this value, or null; may be repeated."),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin at the first row, and forget what is paused.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the rows.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Sends existing rows again, by the running listener. Ctrl-C pauses; the same command goes on."""
    from pixtail.app import backfill as command

    settings = load(config)
    chosen = command.selection(settings.table.key_columns, where or [], ids or [], ids_file, limit)
    if dry_run:
        outcome = command.Outcome(0, command.count(settings, chosen), done=False)
    else:
        outcome = command.run(settings, chosen, batch_size, restart, Console(stderr=True))
    if as_json:
        _json(outcome.as_json())
    else:
        _out(f"{outcome.about:,} rows would be sent" if dry_run else f"{outcome.rows:,} of {outcome.about:,} rows sent")
    raise typer.Exit(0 if outcome.done or dry_run else 1)


@app.command()
def search(
    text: Annotated[str | None, typer.Argument(help="What to look for, in words.")] = None,
    image: Annotated[Path | None, typer.Option("--image", "-i", help="A picture file to look for instead.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="Most results.")] = 10,
    min_score: Annotated[float | None, typer.Option(min=-1, max=1, help="Only results at least this similar.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """The nearest pictures of a text or a picture."""
    from pixtail.app import searching

    if (text is None) == (image is None):
        raise UsageError("search needs a text or --image FILE, and not both")
    hits = searching.search(load(config), text, image, limit, min_score)
    _json({"hits": hits}) if as_json else searching.print_hits(hits, Console())


@app.command()
def snapshot(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The tar to write.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Writes the embedded store into one file, while it is in use too."""
    from pixtail.app import snapshots

    made = snapshots.snapshot(load(config), file, force=force)
    _json(made) if as_json else _out(f"{made['points']:,} points, {made['bytes'] / 1e6:,.0f} MB")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A snapshot.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the index that is there.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Puts a snapshot of the embedded store back."""
    from pixtail.app import snapshots

    found = snapshots.restore(load(config), file, force=force)
    _json(found) if as_json else _out(f"{found['points']:,} points as of {found['at']}")


@app.command()
def similar(
    image: Annotated[str, typer.Argument(metavar="ID", help="The row's key; of several columns with commas: 7,blue.")],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="Most results.")] = 10,
    min_score: Annotated[float | None, typer.Option(min=-1, max=1, help="Only results at least this similar.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """The pictures that look most like the one of a row."""
    from pixtail.app import searching

    hits = searching.similar(load(config), image, limit, min_score)
    _json({"hits": hits}) if as_json else searching.print_hits(hits, Console())


@app.command()
def duplicates(
    min_score: Annotated[float, typer.Option(min=0.01, max=1, help="Least cosine similarity of two near ones.")] = 0.97,
    exact: Annotated[bool, typer.Option("--exact", help="Only copies of the same file.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most groups of either kind.")] = 100,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Pictures that stand in the index more than once: the same file, or nearly the same picture."""
    from pixtail.app.duplicates import duplicates as find
    from pixtail.app.duplicates import print_duplicates

    found = find(load(config), None if exact else min_score, limit, Console(stderr=True))
    _json(found) if as_json else print_duplicates(found, Console())


@app.command()
def export(
    form: Annotated[
        Literal["jsonl", "npy", "parquet"],
        typer.Option("--format", "-f", help="JSON lines, a NumPy array with JSON lines beside it, or Parquet."),
    ] = "jsonl",
    vectors: Annotated[bool, typer.Option("--vectors/--no-vectors", help="Vectors too, or the rest alone.")] = True,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write; - is standard output.")] = Path(
        "-"
    ),
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Only images with this value, or null; may be repeated."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files.")] = False,
    config: Config = None,
) -> None:
    """Columns, bookkeeping and vectors of the index, in the order of ids."""
    from pixtail.app.export import STDOUT
    from pixtail.app.export import export as run_export

    console = Console(stderr=True)
    count = run_export(load(config), form, output, where or [], console, vectors=vectors, force=force)
    if output != STDOUT:
        _out(f"{count:,} images written to {output}")


@app.command()
def stats(
    by: Annotated[list[str] | None, typer.Option(help="Count the values of this column; may be repeated.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """What the index consists of: points, formats, sizes, models, values of columns."""
    from pixtail.app.stats import print_stats, read_stats

    found = read_stats(load(config), by or [])
    _json(found) if as_json else print_stats(found, Console())


@app.command()
def init(
    url: Annotated[
        str,
        typer.Argument(
            metavar="MYSQL_URL", envvar="PIXTAIL_MYSQL__URL", help="mysql://user:password@host:3306/database"
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("pixtail.toml"),
    table: Annotated[str | None, typer.Option(help="The table to follow.")] = None,
    column: Annotated[str | None, typer.Option(help="Its column with the picture's path or URL.")] = None,
    pictures: Annotated[str | None, typer.Option(help="Folder or http address that relative paths start from.")] = None,
    kafka: Annotated[str, typer.Option(help="Kafka's host:port, several with commas.")] = "localhost:9092",
    account: Annotated[
        str | None, typer.Option(help="Print the statements that make this account, and use it.")
    ] = None,
    url_in_file: Annotated[
        bool, typer.Option("--url-in-file/--url-in-env", help="Where the address with its password goes.")
    ] = True,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take the best guess.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: Json = False,
) -> None:
    """Looks at a database, writes the settings file, and says what is still to be done."""
    from pixtail.app.init import Terminal, Wishes, at_terminal, print_outcome
    from pixtail.app.init import init as run_init

    console = Console()
    asker = Terminal(console) if at_terminal() and not yes and not as_json else None
    wishes = Wishes(url, output, force, table, column, pictures, kafka, account, url_in_file)
    outcome = run_init(wishes, asker)
    _json(outcome.to_json()) if as_json else print_outcome(outcome, console)


@app.command()
def doctor(config: Config = None, as_json: Json = False) -> None:
    """Checks everything before it starts; each failed check says what mends it."""
    from pixtail.app.doctor import Printer, examine, summary

    console = Console()
    printer, found = Printer(console), []
    for finding in examine(load(config)):
        found.append(finding)
        if not as_json:
            printer.show(finding)
    well = all(finding.check.ok for finding in found)
    if as_json:
        _json({"ok": well, "checks": [finding.to_json() for finding in found]})
    else:
        console.print(f"\n{summary([finding.check for finding in found])}", highlight=False)
    if not well:
        raise typer.Exit(1)


@app.command()
def verify(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what differs, and verify it again.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, max=100_000, help="Rows read at a time.")] = 4000,
    wait_s: Annotated[float, typer.Option("--wait", min=0, help="Longest wait for the pipeline, in seconds.")] = 300,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Is the index right? Compares every row with its point, while everything runs."""
    from pixtail.app.verify.command import print_report
    from pixtail.app.verify.command import verify as run_verify
    from pixtail.app.verify.options import Options

    report = run_verify(load(config), Options(repair, batch_size, wait_s), Console(stderr=True))
    _json(report) if as_json else print_report(report, Console())
    raise typer.Exit(0 if report["ok"] else 1)


@app.command()
def reindex(
    model: Annotated[str | None, typer.Option(help="The new model, if not that of the settings.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after about so many points, and do not swap.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, max=4096, help="Pictures encoded at a time.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, max=256, help="Pictures fetched at a time.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Begin anew, whatever is there.")] = False,
    only_missing: Annotated[
        bool, typer.Option("--only-missing", help="Fill the holes of the collection that is searched.")
    ] = False,
    accept: Annotated[bool, typer.Option("--accept", help="Swap whatever speaks against it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    failures: Annotated[Path | None, typer.Option(help="Write the pictures that fail to this JSON file.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Moves the index to another model: replays the topic into a new collection, compares, and swaps the alias."""
    from pixtail.app.reindex import command
    from pixtail.app.reindex.planning import Options

    options = Options(model, limit, batch, concurrency, force, only_missing, accept, dry_run)
    report_to = None if dry_run else failures
    if report_to is not None:
        command.require_writable(report_to)
    outcome = command.reindex(load(config), options, Console(stderr=True))
    if report_to is not None:
        command.write_failures(outcome, report_to)
    if as_json:
        _json(outcome)
    elif dry_run:
        command.print_plan(outcome, Console())
    else:
        command.print_outcome(outcome, options, Console())
    if not dry_run and (outcome["objections"] or not (outcome["finished"] or limit)):
        raise typer.Exit(1)


@app.command()
def rollback(config: Config = None, as_json: Json = False) -> None:
    """Searches the collection before the last reindex again. Once more, and it goes back."""
    from pixtail.app.reindex import command

    outcome = command.rollback(load(config))
    _json(outcome) if as_json else _out(f"{outcome['generation']} is searched from now on, and was {outcome['former']}")


@dlq.command("list")
def dlq_list(config: Config = None, as_json: Json = False) -> None:
    """The pictures that fail now, with the reason."""
    from pixtail.app.status import print_dead_letters, read_dead_letters

    letters = read_dead_letters(load(config))
    _json({"dead_letters": letters}) if as_json else print_dead_letters(letters, Console())


@app.command()
def demo(
    database: Annotated[Literal["auto", "mysql", "mariadb"], typer.Option(help="Which server to start.")] = "auto",
    for_s: Annotated[float | None, typer.Option("--for", min=0, help="Stop after so many seconds.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Try every promise, print a report, exit 0 or 1.")] = False,
    as_json: Json = False,
) -> None:
    """Private servers, sample pictures, everything running."""
    from pixtail.app.wiring import needs

    with needs("all"):
        from pixtail.app.demo.command import demo as run_demo
    raise typer.Exit(run_demo(database, for_s, check, as_json))


def _json(value: Any) -> None:
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


def _out(text: str) -> None:
    sys.stdout.write(text + "\n")


def main() -> None:
    app(prog_name="pixtail")
