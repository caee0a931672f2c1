"""Can this table be followed? Everything that would otherwise show up as a lost row, looked at before the first one is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from pymysql.err import MySQLError

from ingest import mysql, tables
from ingest.mysql import Connection, Server, query, quoted
from ingest.rows import KEY_TYPES, TEXTS
from ingest.tables import Table
from pixtail.core.checks import Check, attempt, skipped
from pixtail.core.errors import SettingError, SourceError
from pixtail.core.settings import Settings

_UNREADABLE = {
    "uuid",
    "inet4",
    "inet6",
}  # MariaDB: the binlog holds their bytes in an order of its own, and calls them BINARY
_VALUES_KEPT = ("RESTRICT", "NO ACTION")


@dataclass(slots=True)
class Subject:
    """What the checks look at. `server` is there once the connection was checked, `table` once the table was."""

    settings: Settings
    connection: Connection | None = None
    server: Server = field(default_factory=lambda: Server("mysql", "", "", {}))
    table: Table = field(default_factory=lambda: Table("", "", (), ()))

    def query(self, statement: str, arguments: tuple[object, ...] = ()) -> list[mysql.Row]:
        """Raises PyMySQL's errors."""
        assert self.connection is not None
        return query(self.connection, statement, arguments)

    @property
    def name(self) -> str:
        """The table's name for a statement."""
        return quoted(self.settings.mysql.address.database, self.settings.table.name)

    def close(self) -> None:
        if self.connection is not None:
            mysql.close(self.connection)


def checks(settings: Settings) -> list[Check]:
    """Every check's result, in order; what could not be looked at since an earlier check failed counts as failed."""
    subject = Subject(settings)
    results: list[Check] = []
    try:
        for name, look in CHECKS:
            results.append(attempt(name, _bound(look, subject)))
            if not results[-1].ok and name in _GATES:
                rest = [other for other, _ in CHECKS[len(results) :]]
                return [*results, *skipped(rest, f"{name} failed")]
    finally:
        subject.close()
    return results


def require(settings: Settings) -> None:
    """Raises the first failure: `DatabaseUnreachable` (try again), or `SettingError` and its `SourceError` (somebody must act)."""
    subject = Subject(settings)
    try:
        for _, look in CHECKS:
            _bound(look, subject)()
    finally:
        subject.close()


def _bound(look: Callable[[Subject], str], subject: Subject) -> Callable[[], str]:
    def run() -> str:
        with mysql.translated(subject.settings.mysql.address):
            return look(subject)

    return run


def _connection(subject: Subject) -> str:
    subject.connection = mysql.connect(subject.settings.mysql.address, database=None)
    subject.server = mysql.look(subject.connection, subject.settings.mysql)
    return f"{subject.server} at {subject.settings.mysql.address}"


def _binlog(subject: Subject) -> str:
    if subject.server.variable("log_bin") not in ("ON", "1"):
        raise SourceError(
            f"{subject.server} writes no binlog",
            "Put log_bin = binlog and server_id = 1 under [mysqld] in my.cnf, and restart it",
        )
    return "it writes one"


def _variable(name: str, wanted: str) -> Callable[[Subject], str]:
    def look(subject: Subject) -> str:
        found = subject.server.variable(name)
        if not found:
            raise SourceError(f"{subject.server} does not know {name}", "Use MySQL 8.0.1, MariaDB 10.5, or newer")
        if found != wanted:
            raise SourceError(f"{name} is {found}", _set(name, wanted))
        return found

    return look


def _decodable(subject: Subject) -> str:
    """Event types that would stop the listener, and that a setting avoids."""
    for name, refused, wanted in (
        ("binlog_transaction_compression", "ON", "OFF"),
        ("log_bin_compress", "ON", "OFF"),
        ("binlog_row_value_options", "PARTIAL_JSON", "''"),
    ):
        if subject.server.variable(name) == refused:
            raise SourceError(f"{name} is {refused}, and such events cannot be decoded", _set(name, wanted))
    return "no compressed or partial events"


def _set(name: str, value: str) -> str:
    return f"SET GLOBAL {name} = {value}; and put {name} = {value} under [mysqld] in my.cnf; sessions that are open keep the old value"


def _grant_replication_slave(subject: Subject) -> str:
    try:
        granted = _may_replicate(subject)
    except MySQLError as error:
        if mysql.number_of(error) not in mysql.FORBIDDEN:
            raise
        granted = False
    if not granted:
        raise SettingError(
            f"{subject.server.account} may not read the binlog",
            f"GRANT REPLICATION SLAVE ON *.* TO {subject.server.account};",
        )
    return "granted"


def _may_replicate(subject: Subject) -> bool:
    """MySQL asks for the same privilege when binlog events are shown. MariaDB does not, but its SHOW GRANTS looks into roles."""
    if subject.server.flavour == "mysql":
        subject.query("SHOW BINLOG EVENTS LIMIT 1")
        return True
    lines = (re.match(r"GRANT (.+?) ON \*\.\* TO", str(row[0])) for row in subject.query("SHOW GRANTS"))
    return any({"ALL PRIVILEGES", "REPLICATION SLAVE"} & set(line[1].split(", ")) for line in lines if line)


def _grant_replication_client(subject: Subject) -> str:
    try:
        subject.query("SHOW BINARY LOGS")
    except MySQLError as error:
        if mysql.number_of(error) not in mysql.FORBIDDEN:
            raise
        privilege = "REPLICATION CLIENT" if subject.server.flavour == "mysql" else "BINLOG MONITOR"
        raise SettingError(
            f"{subject.server.account} may not ask where the binlog stands",
            f"GRANT {privilege} ON *.* TO {subject.server.account};",
        ) from error
    return "granted"


def _grant_select(subject: Subject) -> str:
    try:
        subject.query(f"SELECT 1 FROM {subject.name} LIMIT 0")  # noqa: S608 - a quoted identifier
    except MySQLError as error:
        if mysql.number_of(error) in mysql.ABSENT:  # the next check's business
            return "nothing to read yet"
        if mysql.number_of(error) not in mysql.FORBIDDEN:
            raise
        raise SettingError(
            f"{subject.server.account} may not read {subject.name}",
            f"GRANT SELECT ON {subject.name} TO {subject.server.account};",
        ) from error
    return "granted"


def _table(subject: Subject) -> str:
    assert subject.connection is not None
    database, name = subject.settings.mysql.address.database, subject.settings.table.name
    found = tables.describe(subject.connection, subject.server, database, name)
    if found is None:
        raise SettingError(f"there is no table {database}.{name}", "Correct table.name or the database in mysql.url")
    subject.table = found
    return f"{len(found.columns)} columns, about {found.rows} rows"


def _primary_key(subject: Subject) -> str:
    key, table = subject.settings.table.key, subject.table
    if table.key != (key,):
        found = f"the primary key ({', '.join(table.key)})" if table.key else "no primary key"
        raise SettingError(f"{subject.name} has {found}, not ({key})", _key_remedy(subject))
    column = table.column(key)
    if column is None or column.data_type not in KEY_TYPES:
        kind = column.data_type if column else "unknown"
        raise SourceError(
            f"{subject.name} has a primary key of type {kind}", f"Known are {', '.join(sorted(KEY_TYPES))}"
        )
    return f"{key} ({column.data_type})"


def _key_remedy(subject: Subject) -> str:
    key, table = subject.settings.table.key, subject.table
    if len(table.key) == 1:
        return f'Set table.key = "{table.key[0]}"'
    change = "DROP PRIMARY KEY, " if table.key else ""
    if table.column(key) is None:
        return (
            f"ALTER TABLE {subject.name} {change}ADD COLUMN {quoted(key)} BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY;"
        )
    return f"ALTER TABLE {subject.name} {change}ADD PRIMARY KEY ({quoted(key)});"


def _picture(subject: Subject) -> str:
    name = subject.settings.table.picture
    column = subject.table.column(name)
    texts = [other.name for other in subject.table.columns if other.data_type in TEXTS and not other.json]
    remedy = f"Set table.picture to one of {', '.join(texts)}" if texts else "Add a text column for the picture's path"
    if column is None:
        raise SettingError(f"{subject.name} has no column {name}", remedy)
    if column.data_type not in TEXTS:
        raise SettingError(f"the picture column {name} is no text but {column.data_type}", remedy)
    return f"{name} ({column.data_type})"


def _columns(subject: Subject) -> str:
    bad = [column for column in subject.table.columns if column.data_type in _UNREADABLE]
    if bad:
        change = f"ALTER TABLE {subject.name} MODIFY {quoted(bad[0].name)} VARCHAR(39);"
        raise SourceError(
            f"column {bad[0].name} has the type {bad[0].data_type}, which the binlog does not name", change
        )
    return "all types are known"


def _foreign_keys(subject: Subject) -> str:
    """What a foreign key changes by itself, the engine changes alone: the binlog has no event of it."""
    arguments = (subject.settings.mysql.address.database, subject.settings.table.name)
    for name, on_delete, on_update in subject.query(_FOREIGN_KEYS, arguments):
        if on_delete not in _VALUES_KEPT or on_update not in _VALUES_KEPT:
            raise SourceError(
                f"the foreign key {name} changes rows of {subject.name} (ON DELETE {on_delete}, ON UPDATE {on_update}),"
                " and the binlog does not say so",
                "Make it ON DELETE RESTRICT ON UPDATE RESTRICT",
            )
    return "none that changes rows"


_FOREIGN_KEYS = (
    "SELECT CONSTRAINT_NAME, DELETE_RULE, UPDATE_RULE FROM information_schema.REFERENTIAL_CONSTRAINTS"
    " WHERE CONSTRAINT_SCHEMA = %s AND TABLE_NAME = %s"
)

CHECKS: list[tuple[str, Callable[[Subject], str]]] = [
    ("connection", _connection),
    ("binlog", _binlog),
    ("binlog_format", _variable("binlog_format", "ROW")),
    ("binlog_row_image", _variable("binlog_row_image", "FULL")),
    ("binlog_row_metadata", _variable("binlog_row_metadata", "FULL")),
    ("binlog events", _decodable),
    ("grant REPLICATION SLAVE", _grant_replication_slave),
    ("grant REPLICATION CLIENT", _grant_replication_client),
    ("grant SELECT", _grant_select),
    ("table", _table),
    ("primary key", _primary_key),
    ("picture column", _picture),
    ("column types", _columns),
    ("foreign keys", _foreign_keys),
]
_GATES = {"connection", "binlog", "table"}
