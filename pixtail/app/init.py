"""`init`: from a database's address to a settings file, and to what is still to be done."""

from __future__ import annotations

import re
import secrets
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from pydantic import SecretStr
from rich.console import Console
from rich.prompt import IntPrompt, Prompt

from pixtail.app.init_file import Place, refuse_existing, render, write
from pixtail.app.init_proposal import (
    Candidate,
    Proposal,
    Shape,
    TableFacts,
    candidates,
    close,
    propose,
    shape_of,
    shortened,
    urlsplit_or_none,
)
from pixtail.app.wiring import needs
from pixtail.core.checks import Check
from pixtail.core.errors import SettingError, UsageError
from pixtail.core.settings import Mysql, MysqlAddress, Settings, parse_mysql_url

with needs("listen"):
    from ingest import mysql, preflight
    from ingest.managed import Hosting, account_name
    from ingest.mysql import quoted
    from ingest.subject import Subject
    from pixtail.app.init_catalogue import read_tables

# Where an application that was deployed here may keep what it was sent, seen from its own folder.
_FOLDERS = (
    "",
    "uploads",
    "public",
    "static",
    "media",
    "storage",
    "images",
    "data",
    "public/uploads",
    "storage/app/public",
)
_GRANTS = ("grant REPLICATION SLAVE", "grant REPLICATION CLIENT", "grant SELECT")
_SHOWN = 10
_ACCESS_DENIED = 1045


@dataclass(frozen=True, slots=True)
class Wishes:
    """The command line. `pictures` is a folder or an address; `account`: the user to make, whose address goes into the file."""

    url: str
    output: Path
    force: bool = False
    table: str | None = None
    column: str | None = None
    pictures: str | None = None
    bootstrap: str = "localhost:9092"
    account: str | None = None
    url_in_file: bool = True


class Asker(Protocol):
    """Somebody at a terminal. Without one the best guess is taken, and the alternatives are listed."""

    def choose(self, question: str, choices: Sequence[str]) -> int: ...

    def text(self, question: str, default: str) -> str: ...

    def password(self, question: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was found and written, and what is still to do. `statements` are for an administrator of the database."""

    file: Path
    server: str
    proposal: Proposal
    place: Place
    alternatives: Sequence[str]
    statements: Sequence[str]
    administers: bool
    to_mend: Sequence[Check]
    next: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "file": str(self.file)}


def init(wishes: Wishes, asker: Asker | None) -> Outcome:
    """Looks, writes the file, and says what is left.

    Raises `UsageError` (address, file), `DatabaseUnreachable`, `SettingError` (password, database, no table or column that fits).
    """
    refuse_existing(wishes.output, force=wishes.force)
    wishes = _with_password(wishes, asker)
    address = _address(wishes.url)
    with _connected(address) as subject, mysql.translated(address):
        assert subject.connection is not None
        tables = read_tables(subject.connection, address.database)
        administers = wishes.account is None and _administers(subject)
    found = _candidates(tables, wishes, address)
    chosen = _chosen(found, asker)
    place, proposal = _place(chosen, wishes, asker), propose(chosen, tables)
    url, made = _account(wishes, subject.hosting)
    write(wishes.output, render(url if wishes.url_in_file else None, proposal, place, wishes.bootstrap))
    failed = [check for check in _checks(_settings(wishes)) if not check.ok and check.made]
    account = account_name(wishes.account, "%") if wishes.account else subject.server.account
    followed = dict.fromkeys([proposal.table, *(lookup.table for lookup in proposal.lookups)])
    grants = subject.hosting.grants(account, address.database, followed, gtid=subject.server.gtid)
    lacks_grants = any(check.name in _GRANTS for check in failed)
    return Outcome(
        file=wishes.output,
        server=str(subject.server),
        proposal=proposal,
        place=place,
        alternatives=[str(other) for other in found if other is not chosen][:_SHOWN],
        statements=[*made, *grants] if wishes.account or lacks_grants else [],
        administers=administers,
        to_mend=[check for check in failed if check.name not in _GRANTS],
        next=_next(wishes, url),
    )


def _checks(settings: Settings) -> list[Check]:
    """Of the server, the table, and the tables that are looked up."""
    return [
        *preflight.examine(settings).checks,
        *(check for one in settings.of_lookups for check in preflight.examine(one).table),
    ]


def _administers(subject: Subject) -> bool:
    """May the account make others? Then it may do far more than it needs here."""
    return any(
        re.match(r"GRANT (.*\b(CREATE USER|SUPER)\b|ALL PRIVILEGES).* ON \*\.\*", str(row[0]))
        for row in subject.query("SHOW GRANTS")
    )


# The connection


def _address(url: str) -> MysqlAddress:
    try:
        return parse_mysql_url(url)
    except ValueError as error:
        raise UsageError(f"the address of the database cannot be used: {error}") from None


def _with_password(wishes: Wishes, asker: Asker | None) -> Wishes:
    """An address without a password may be meant so, or may spare the shell's history the password."""
    address = _address(wishes.url)
    if address.password or asker is None:
        return wishes
    try:
        mysql.connect(address).close()
    except SettingError as error:
        if mysql.number_of(error.__cause__ or error) != _ACCESS_DENIED:
            raise
        password = asker.password(f"Password of {address.user} at {address.host}")
        return replace(wishes, url=_url(wishes.url, address.user, password))
    return wishes


def _url(url: str, user: str, password: str) -> str:
    """The same address for another account."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{rest.rpartition('@')[2]}"


@contextmanager
def _connected(address: MysqlAddress) -> Iterator[Subject]:
    """To the very database: a wrong one is said before anything else is looked at."""
    mysql.connect(address).close()
    subject = Subject(Settings(mysql={"url": _plain(address)}))
    try:
        with mysql.translated(address):
            subject.connect()
        yield subject
    finally:
        subject.close()


def _plain(address: MysqlAddress) -> str:
    options = "&".join(f"{name}={quote(value, safe='/')}" for name, value in address.options.items())
    user, password, database = (quote(part, safe="") for part in (address.user, address.password, address.database))
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"mysql://{user}:{password}@{host}:{address.port}/{database}" + (f"?{options}" if options else "")


# The table


def _candidates(tables: Sequence[TableFacts], wishes: Wishes, address: MysqlAddress) -> list[Candidate]:
    if not tables:
        raise SettingError(
            f"the database {address.database} has no tables that {address.user} may see", _empty_remedy(address)
        )
    if wishes.table or wishes.column:
        return _wished(tables, wishes, address)
    found = candidates(tables)
    if not found:
        names = ", ".join(table.name for table in tables[:_SHOWN])
        raise SettingError(
            f"no column of {address.database} looks like the path or URL of a picture (its tables: {names})",
            "Name it: pixtail init … --table TABLE --column COLUMN",
        )
    return found


def _empty_remedy(address: MysqlAddress) -> str:
    return f"Name another database in the address, or GRANT SELECT ON {quoted(address.database)}.* to the account"


def _wished(tables: Sequence[TableFacts], wishes: Wishes, address: MysqlAddress) -> list[Candidate]:
    """What was named is taken, whatever it looks like, as long as it is there."""
    fitting = [table for table in tables if wishes.table in (None, table.name)]
    if not fitting:
        names = ", ".join(table.name for table in tables[:_SHOWN])
        raise SettingError(f"{address.database} has no table {wishes.table}", f"Its tables: {names}")
    if wishes.column is None and (found := candidates(fitting)):
        return found
    columns = [Candidate(table, one, 1) for table in fitting for one in table.columns if one.is_text]
    found = [one for one in columns if wishes.column in (None, one.column.name)]
    if not found:
        names = ", ".join(one.column.name for one in columns) or "none"
        raise SettingError(
            f"{wishes.table or address.database} has no text column {wishes.column or ''}".rstrip(),
            f"Its text columns: {names}",
        )
    return found


def _chosen(found: Sequence[Candidate], asker: Asker | None) -> Candidate:
    likely = close(found)
    number = 0
    if asker is not None and len(likely) > 1:
        number = asker.choose("Which column holds the pictures?", [str(choice) for choice in likely])
    chosen = likely[number]
    if not chosen.table.key:
        name = quoted(chosen.table.name)
        raise SettingError(
            f"the table {chosen.table.name} has no primary key",
            f"ALTER TABLE {name} ADD PRIMARY KEY (…); or ALTER TABLE {name} ADD COLUMN id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY;",
        )
    return chosen


# The pictures


def _place(chosen: Candidate, wishes: Wishes, asker: Asker | None) -> Place:
    samples = chosen.column.samples
    shape = shape_of(samples)
    if wishes.pictures:
        return _named_place(wishes.pictures)
    if shape.kind == "address":
        return _addresses(shape)
    folder = _folder(shape, samples)
    if folder is not None:
        return Place({"root": str(folder)})
    if asker is None:
        return _unknown_place(shape)
    example = f" ({shortened(samples[0])})" if samples else ""
    return _named_place(asker.text(f"Folder or address that the paths start from{example}", shape.folder or "."))


def _named_place(place: str) -> Place:
    address = urlsplit_or_none(place)
    if address is None:
        return Place({"root": str(Path(place).expanduser().resolve())})
    if address.scheme not in ("http", "https"):
        raise UsageError(
            f"{address.scheme}:// is no place that pictures are read from", "Name a folder, http:// or https://"
        )
    return Place({"base_url": place})


def _addresses(shape: Shape) -> Place:
    note = f"The pictures are addresses of {', '.join(shape.hosts[:5])}; allow_hosts = [...] would refuse all others."
    return Place({"allow_private": True} if shape.private else {}, note)


def _folder(shape: Shape, samples: Sequence[str]) -> Path | None:
    """The folder here below which one of the pictures lies."""
    if shape.kind == "absolute":
        return Path(shape.folder) if any(Path(value).is_file() for value in samples) else None
    here = Path.cwd()
    folders = [here / name for name in _FOLDERS]
    return next((folder for folder in folders if any((folder / value).is_file() for value in samples)), None)


def _unknown_place(shape: Shape) -> Place:
    if shape.kind == "object":
        return Place(
            {}, "TO DO: bucket addresses are not read yet; serve the bucket by https, and store those addresses."
        )
    note = "TO DO: no picture was found on this machine. root: the folder that the paths start from; or base_url: the address."
    return Place({"root": shape.folder or "."}, note)


# The account


def _account(wishes: Wishes, hosting: Hosting) -> tuple[str, list[str]]:
    """The address for the file, and the statement that makes its account, if a new one is wished."""
    if wishes.account is None:
        return wishes.url, []
    password = secrets.token_urlsafe(18)
    return _url(wishes.url, wishes.account, password), [hosting.account(wishes.account, password)]


def _settings(wishes: Wishes) -> Settings:
    """The file's settings for the account that we came with. The environment outranks them here as it will later, but for that."""
    values = tomllib.loads(wishes.output.read_text())
    return Settings(**values).model_copy(update={"mysql": Mysql(url=SecretStr(wishes.url))})


def _next(wishes: Wishes, url: str) -> list[str]:
    option = "" if wishes.output == Path("pixtail.toml") else f" --config {wishes.output}"
    exported = [] if wishes.url_in_file else [f"export PIXTAIL_MYSQL__URL='{url}'"]
    return [*exported, f"pixtail doctor{option}", f"pixtail run{option}"]


# What is printed


class Terminal:
    """An `Asker` with rich's prompts."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def choose(self, question: str, choices: Sequence[str]) -> int:
        for number, choice in enumerate(choices, start=1):
            self._console.print(f"  {number}  {choice}", markup=False, highlight=False)
        numbers = [str(number) for number in range(1, len(choices) + 1)]
        return IntPrompt.ask(question, console=self._console, choices=numbers, default=1) - 1

    def text(self, question: str, default: str) -> str:
        return Prompt.ask(question, console=self._console, default=default)

    def password(self, question: str) -> str:
        return Prompt.ask(question, console=self._console, password=True)


def at_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def print_outcome(found: Outcome, console: Console) -> None:
    console.print(f"[green]✓[/] {found.file} is written, readable by you alone", highlight=False)
    for title, lines in _sections(found):
        if lines:
            console.print(title, highlight=False)
        for line in lines:
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _sections(found: Outcome) -> Iterator[tuple[str, list[str]]]:
    yield "", [f"{label:<10}{text}" for label, text in _facts(found)]
    yield "\n[bold]It might also be[/] (--table, --column)", list(found.alternatives)
    yield "\n[bold]An administrator of the database has to run[/]", list(found.statements)
    mending = [line for check in found.to_mend for line in (f"{check.name}: {check.detail}", f"  → {check.remedy}")]
    yield "\n[bold red]Has to be mended[/]", mending
    hint = "This account may do more than it needs here. --account pixtail --force prints the statements for one that may not."
    yield "\n[bold]Consider[/]", [hint] if found.administers else []
    yield "\n[bold]Then[/]", list(found.next)


def _facts(found: Outcome) -> Iterator[tuple[str, str]]:
    yield "server", found.server
    yield "table", f"{found.proposal.table}, key {', '.join(found.proposal.key)}"
    yield "pictures", f"column {found.proposal.picture}"
    for name, value in found.place.settings.items():
        yield "", f"{name} = {value}"
    if found.place.note:
        yield "", found.place.note
    for lookup in found.proposal.lookups:
        yield "lookup", f"{lookup.column} → {lookup.table} ({', '.join(lookup.take.values())})"
    if found.proposal.left_out:
        yield "left out", ", ".join(found.proposal.left_out)
