"""Can this table be followed? Everything that would otherwise show up as a lost row, looked at before the first one is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pymysql.err import MySQLError

from ingest import mysql, tables, watermark
from ingest.mysql import quoted
from ingest.rows import KEY_TYPES, TEXTS
from ingest.sequence import now_ms
from ingest.server_checks import SERVER
from ingest.subject import Advice, Probe, Subject, attempt
from ingest.tables import Table
from pixtail.core.checks import Check, skipped
from pixtail.core.errors import SettingError, SourceError
from pixtail.core.settings import Lookup, Settings

_UNREADABLE = {
    "uuid",
    "inet4",
    "inet6",
}  # MariaDB: the binlog holds their bytes in an order of its own, and calls them BINARY
_VALUES_KEPT = ("RESTRICT", "NO ACTION")
_SAMPLE_ROWS = 100
_SAMPLE_PICTURES = 5


@dataclass(frozen=True, slots=True)
class Examination:
    """Every check's result, in order. `row_bytes`: the largest of some rows, None if none was looked at. `pictures`: what the picture
    column says in some of the newest rows."""

    server: Sequence[Check]
    table: Sequence[Check]
    row_bytes: int | None = None
    pictures: Sequence[str] = ()

    @property
    def checks(self) -> list[Check]:
        return [*self.server, *self.table]


def examine(settings: Settings, clock_ms: Callable[[], int] = now_ms) -> Examination:
    """Looks at everything; what could not be looked at since an earlier check failed counts as failed."""
    subject = Subject(settings, clock_ms)
    try:
        results = _look(subject)
    finally:
        subject.close()
    return Examination(results[: len(SERVER)], results[len(SERVER) :], subject.row_bytes, subject.pictures)


def _look(subject: Subject) -> list[Check]:
    results: list[Check] = []
    for probe in PROBES:
        results.append(attempt(probe, subject))
        if not results[-1].ok and probe.name in _GATES:
            rest = [other.name for other in PROBES[len(results) :]]
            return [*results, *skipped(rest, f"{probe.name} failed")]
    return results


def require(settings: Settings) -> None:
    """Raises the first failure: `DatabaseUnreachable` (try again), or `SettingError` and its `SourceError` (somebody must act)."""
    subject = Subject(settings)
    try:
        for probe in PROBES:
            if probe.essential:
                with mysql.translated(settings.mysql.address):
                    probe.look(subject)
    finally:
        subject.close()


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
        raise SettingError(f"there is no table {database}.{name}", _table_remedy(subject))
    subject.table = found
    true_database, true_name, kind = subject.query(_NAMES, (database, name))[0]
    if (true_database, true_name) != (database, name):
        raise SettingError(
            f"the server calls the table {true_database}.{true_name}, and so does its binlog, not {database}.{name}",
            f"{_set(subject, 'name', true_name)} and the database of mysql.url to {true_database}",
        )
    if kind == "VIEW":
        raise SettingError(
            f"{database}.{name} is a view, which the binlog does not know",
            f"Name the table it reads: {_place(subject, 'name')}",
        )
    return f"{len(found.columns)} columns, about {found.rows} rows"


def _table_remedy(subject: Subject) -> str:
    names = [str(row[0]) for row in subject.query(_TABLES, (subject.settings.mysql.address.database,))]
    known = f"; the database has {', '.join(names)}" if names else ""
    return f"Make it, or correct {_place(subject, 'name')} or the database in mysql.url{known}"


def _place(subject: Subject, field: str) -> str:
    """Where the settings say it."""
    if not subject.settings.table.is_lookup:
        return f"table.{field}"
    return f"{'table' if field == 'name' else field} in the [[table.lookups]] of {subject.settings.table.name}"


def _set(subject: Subject, field: str, *values: str) -> str:
    """In TOML."""
    names = ", ".join(f'"{value}"' for value in values)
    return f"Set {_place(subject, field)} = {names if len(values) == 1 else f'[{names}]'}"


def _engine(subject: Subject) -> str | Advice:
    engine = str(subject.query(_ENGINE, (subject.table.database, subject.table.name))[0][0])
    if engine == "InnoDB":
        return engine
    return Advice(
        f"{subject.name} is kept by {engine}, not InnoDB: its rows have no transactions, and a snapshot may see them half-way",
        f"ALTER TABLE {subject.name} ENGINE = InnoDB;",
    )


def _primary_key(subject: Subject) -> str:
    wanted, table = subject.settings.table.key_columns, subject.table
    if table.key != wanted:
        found = f"the primary key ({', '.join(table.key)})" if table.key else "no primary key"
        raise SettingError(f"{subject.name} has {found}, not ({', '.join(wanted)})", _key_remedy(subject))
    columns = [column for column in table.columns if column.name in wanted]
    if bad := [column for column in columns if column.data_type not in KEY_TYPES]:
        raise SourceError(
            f"the primary key of {subject.name} has the column {bad[0].name} of type {bad[0].data_type}",
            f"Known are {', '.join(sorted(KEY_TYPES))}",
        )
    types = {column.name: column.data_type for column in columns}
    return ", ".join(f"{name} ({types[name]})" for name in wanted)


def _key_remedy(subject: Subject) -> str:
    """The key that the table has, in TOML; a table without one needs one, of the columns that the setting names if they are there."""
    wanted, table = subject.settings.table.key_columns, subject.table
    if table.key:
        return _set(subject, "key", *table.key)
    if len(wanted) == 1 and table.column(wanted[0]) is None:
        column = f"{quoted(wanted[0])} BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY"
        return f"ALTER TABLE {subject.name} ADD COLUMN {column};"
    return f"ALTER TABLE {subject.name} ADD PRIMARY KEY ({', '.join(map(quoted, wanted))});"


def _picture(subject: Subject) -> str:
    if subject.settings.table.is_lookup:
        return "none, and none is needed"
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


def _named_columns(subject: Subject) -> str:
    """A column that `table.payload` or `table.only` names and that is not there makes every row a dead letter."""
    table = subject.settings.table
    for setting, names in (("payload", table.payload), ("only", tuple(table.only))):
        missing = [name for name in names if subject.table.column(name) is None]
        if missing:
            raise SettingError(
                f"table.{setting} names {missing[0]}, which {subject.name} does not have", _known(subject.table)
            )
    return "those that the settings name are there"


def _lookups(subject: Subject) -> str | Advice:
    """A column that is not there is NULL in every point, and so is a name whose key never fits."""
    table = subject.settings.table
    if name := table.clash(table.payload or [column.name for column in subject.table.columns]):
        raise SettingError(
            f"table.lookups take {name}, which is a column of {subject.name} too", "Give it another name"
        )
    for lookup in table.lookups:
        if misfit := _misfit(subject, lookup):
            return misfit
    return f"{len(table.lookups)}, whose columns are there" if table.lookups else "none"


def _misfit(subject: Subject, lookup: Lookup) -> Advice | None:
    """A lookup's table that is not there at all is its own listener's business."""
    assert subject.connection is not None
    other = tables.describe(subject.connection, subject.server, subject.table.database, lookup.table)
    column = subject.table.column(lookup.column)
    if column is None:
        raise SettingError(
            f"table.lookups name {lookup.column}, which {subject.name} does not have", _known(subject.table)
        )
    if other is None:
        return None
    for name in lookup.take:
        if other.column(name) is None:
            raise SettingError(f"table.lookups take {name}, which {lookup.table} does not have", _known(other))
    key = other.column(lookup.key)
    if key is None or (key.data_type in TEXTS) == (column.data_type in TEXTS):
        return None
    return Advice(
        f"{lookup.column} is {column.data_type}, and {lookup.key} of {lookup.table} is {key.data_type}: the two are never equal here",
        f"ALTER TABLE {subject.name} MODIFY {quoted(column.name)} {key.data_type.upper()};",
    )


def _known(table: Table) -> str:
    return f"Its columns: {', '.join(column.name for column in table.columns)}"


def _history(subject: Subject) -> str:
    """The rows that a system-versioned table keeps of the past come as inserts of the same key, and its deletes as updates."""
    arguments = (subject.settings.mysql.address.database, subject.settings.table.name)
    if ("SYSTEM VERSIONED",) in subject.query(_TABLE_TYPE, arguments):
        raise SourceError(
            f"{subject.name} is system-versioned, and its past rows look like present ones in the binlog",
            f"ALTER TABLE {subject.name} DROP SYSTEM VERSIONING;",
        )
    return "none is kept"


def _old_times(subject: Subject) -> str:
    """The TABLE_MAP does not say how many digits a time of MariaDB 5.3 has."""
    arguments = (subject.settings.mysql.address.database, subject.settings.table.name)
    if found := subject.query(_OLD_TIMES, arguments):
        raise SourceError(
            f"column {found[0][0]} has the temporal format of MariaDB 5.3, whose digits the binlog does not name",
            f"ALTER TABLE {subject.name} FORCE;",
        )
    return "all of today's format"


_TABLE_TYPE = "SELECT TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s"
_OLD_TIMES = (
    "SELECT COLUMN_NAME FROM information_schema.COLUMNS"
    " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s AND COLUMN_TYPE LIKE '%%mariadb-5.3%%'"
)


def _foreign_keys(subject: Subject) -> str:
    """What a foreign key changes by itself, InnoDB changes alone, and the binlog has no event of it. From MySQL 9.6 on the server does it,
    and logs it: https://dev.mysql.com/doc/refman/9.7/en/replication-features-foreign-keys.html."""
    if subject.variable("innodb_native_foreign_keys") == "OFF":
        return "the server logs what they change"
    arguments = (subject.settings.mysql.address.database, subject.settings.table.name)
    for name, on_delete, on_update in subject.query(_FOREIGN_KEYS, arguments):
        if on_delete not in _VALUES_KEPT or on_update not in _VALUES_KEPT:
            raise SourceError(
                f"the foreign key {name} changes rows of {subject.name} (ON DELETE {on_delete}, ON UPDATE {on_update}),"
                " and the binlog does not say so",
                _restricted(subject, str(name)),
            )
    return "none that changes rows"


def _restricted(subject: Subject, name: str) -> str:
    """Two statements: MySQL does not take one that drops a constraint and adds another of its name."""
    rows = subject.query(_KEY_COLUMNS, (subject.settings.mysql.address.database, subject.settings.table.name, name))
    columns, others = (", ".join(quoted(row[number]) for row in rows) for number in (0, 3))
    return (
        f"ALTER TABLE {subject.name} DROP FOREIGN KEY {quoted(name)}; ALTER TABLE {subject.name} ADD CONSTRAINT {quoted(name)}"
        f" FOREIGN KEY ({columns}) REFERENCES {quoted(rows[0][1], rows[0][2])} ({others}) ON DELETE RESTRICT ON UPDATE RESTRICT;"
    )


def _snapshot(subject: Subject) -> str:
    """Only MySQL without GTIDs asks for anything, and there it is tried."""
    assert subject.connection is not None
    if not subject.server.gtid and subject.variable("binlog_order_commits") == "OFF":
        raise SourceError(
            "binlog_order_commits is OFF, and without GTIDs a snapshot needs it",
            subject.hosting.set("binlog_order_commits", "ON"),
        )
    return watermark.confirm(subject.connection, subject.server, subject.table.database, subject.table.name)


def _row_size(subject: Subject) -> str:
    """The newest rows by key: what is read and written next looks like them."""
    names = [quoted(column.name) for column in subject.table.columns]
    picture = "NULL" if subject.settings.table.is_lookup else quoted(subject.settings.table.picture)
    order = ", ".join(f"{quoted(name)} DESC" for name in subject.table.key) or "NULL"
    newest = f"SELECT {', '.join(names)} FROM {subject.name} ORDER BY {order} LIMIT {_SAMPLE_ROWS}"  # noqa: S608 - quoted identifiers
    total = " + ".join(f"COALESCE(OCTET_LENGTH({name}), 0)" for name in names)
    rows = subject.query(f"SELECT {total}, {picture} FROM ({newest}) newest")  # noqa: S608
    if not rows:
        return "no rows yet"
    subject.row_bytes = max(int(row[0]) for row in rows)
    subject.pictures = [row[1] for row in rows if isinstance(row[1], str) and row[1]][:_SAMPLE_PICTURES]
    return f"up to {subject.row_bytes} bytes in the newest {len(rows)} rows"


_NAMES = "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s"
_TABLES = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_TYPE = 'BASE TABLE' ORDER BY 1 LIMIT 20"
_ENGINE = "SELECT ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s"
_FOREIGN_KEYS = (
    "SELECT CONSTRAINT_NAME, DELETE_RULE, UPDATE_RULE FROM information_schema.REFERENTIAL_CONSTRAINTS"
    " WHERE CONSTRAINT_SCHEMA = %s AND TABLE_NAME = %s"
)
_KEY_COLUMNS = (
    "SELECT COLUMN_NAME, REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME"
    " FROM information_schema.KEY_COLUMN_USAGE WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s AND CONSTRAINT_NAME = %s"
    " ORDER BY ORDINAL_POSITION"
)

TABLE = [
    Probe("grant SELECT", _grant_select, essential=True),
    Probe("table", _table, essential=True),
    Probe("engine", _engine),
    Probe("history", _history, essential=True),
    Probe("primary key", _primary_key, essential=True),
    Probe("picture column", _picture, essential=True),
    Probe("column types", _columns, essential=True),
    Probe("temporal formats", _old_times, essential=True),
    Probe("columns of the settings", _named_columns),
    Probe("lookups", _lookups),
    Probe("foreign keys", _foreign_keys, essential=True),
    Probe("exact snapshots", _snapshot),
    Probe("row size", _row_size),
]
PROBES = [*SERVER, *TABLE]
_GATES = {"connection", "binlog", "grant SELECT", "table", "picture column"}
