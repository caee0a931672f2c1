"""What the checks of the database look at, and what one of them is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from pymysql.err import MySQLError

from ingest import mysql
from ingest.managed import Hosting, Platform, recognise
from ingest.mysql import Connection, Server, query, quoted
from ingest.sequence import now_ms
from ingest.tables import Table
from pixtail.core.checks import Check
from pixtail.core.errors import PixtailError
from pixtail.core.settings import Settings

_SYNTAX_ERROR = 1064


@dataclass(slots=True)
class Subject:
    """`server`, `variables` and `hosting` are there once it was connected, `table` once the table was found. `close` it."""

    settings: Settings
    clock_ms: Callable[[], int] = now_ms
    connection: Connection | None = None
    server: Server = field(default_factory=lambda: Server("mysql", "", "", {}))
    variables: Mapping[str, str] = field(default_factory=dict)
    hosting: Hosting = field(default_factory=lambda: Hosting(Platform.OWN, "mysql"))
    table: Table = field(default_factory=lambda: Table("", "", (), ()))
    row_bytes: int | None = None
    pictures: Sequence[str] = ()

    def connect(self) -> None:
        """Raises `DatabaseUnreachable`, `SettingError`; PyMySQL's errors once it is connected."""
        address = self.settings.mysql.address
        self.connection = mysql.connect(address, database=None)
        self.server = mysql.look(self.connection, self.settings.mysql)
        self.variables = {str(name).lower(): str(value) for name, value in self.query("SHOW GLOBAL VARIABLES")}
        platform = recognise(address.host, self.server.version, self.variables)
        self.hosting = Hosting(platform, self.server.flavour)

    def variable(self, name: str) -> str:
        """A global variable in capitals; empty if the server does not know it."""
        return self.variables.get(name, "").upper()

    def query(self, statement: str, arguments: tuple[object, ...] = ()) -> list[mysql.Row]:
        """Raises PyMySQL's errors."""
        assert self.connection is not None
        return query(self.connection, statement, arguments)

    def query_either(self, new: str, old: str) -> list[mysql.Row]:
        """MySQL 8.4 took away the statements with "master" and "slave" in them; older servers and MariaDB do not know the new ones."""
        try:
            return self.query(new)
        except MySQLError as error:
            if mysql.number_of(error) != _SYNTAX_ERROR:
                raise
            return self.query(old)

    def query_if_allowed(self, new: str, old: str = "") -> list[mysql.Row] | None:
        """None if the account may not ask."""
        try:
            return self.query_either(new, old or new)
        except MySQLError as error:
            if mysql.number_of(error) not in mysql.FORBIDDEN:
                raise
            return None

    @property
    def name(self) -> str:
        """The table's name for a statement."""
        return quoted(self.settings.mysql.address.database, self.settings.table.name)

    def close(self) -> None:
        if self.connection is not None:
            mysql.close(self.connection)


@dataclass(frozen=True, slots=True)
class Advice:
    """It works, but could be better: a warning. The remedy is as ready to be pasted as a failure's."""

    found: str
    remedy: str


Look: TypeAlias = Callable[[Subject], str | Advice]
"""Returns what it found; raises the `PixtailError` of a failed check, or PyMySQL's errors."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A check that can be made. Without an `essential` one rows would be lost: the listener does not start."""

    name: str
    look: Look
    essential: bool = False


def attempt(probe: Probe, subject: Subject) -> Check:
    """The result. A warning is `ok` and has a remedy all the same."""
    try:
        with mysql.translated(subject.settings.mysql.address):
            found = probe.look(subject)
    except PixtailError as error:
        return Check(probe.name, False, error.problem, error.remedy, error.exit_status)
    if isinstance(found, Advice):
        return Check(probe.name, True, found.found, found.remedy)
    return Check(probe.name, True, found)
