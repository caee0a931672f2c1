"""What the server's catalogue says of the listened table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ingest.mysql import Connection, Server, query
from ingest.rows import TableColumn


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it is now; `key` is its primary key, in order; `rows` is the server's guess."""

    database: str
    name: str
    columns: tuple[TableColumn, ...]
    key: tuple[str, ...]
    rows: int = 0

    def column(self, name: str) -> TableColumn | None:
        return next((column for column in self.columns if column.name == name), None)

    @property
    def unsigned(self) -> dict[str, bool]:
        return {column.name: column.unsigned for column in self.columns}

    @property
    def json(self) -> frozenset[str]:
        return frozenset(column.name for column in self.columns if column.json)


def describe(connection: Connection, server: Server, database: str, name: str) -> Table | None:
    """The table, or None if there is none (or we may not see it). Raises PyMySQL's errors: call it within `translated`."""
    found = query(connection, _COLUMNS, (database, name))
    if not found:
        return None
    json = _json_columns(connection, server, database, name, (row[0] for row in found))
    return Table(
        database=database,
        name=name,
        columns=tuple(_column(json, *row) for row in found),
        key=tuple(row[0] for row in query(connection, _KEY, (database, name))),
        rows=int(query(connection, _ROWS, (database, name))[0][0] or 0),
    )


def _column(json: set[str], name: str, data_type: str, column_type: str) -> TableColumn:
    kind = data_type.lower()
    return TableColumn(name, kind, kind == "json" or name in json, "unsigned" in column_type.lower())


def charsets(connection: Connection, server: Server) -> Mapping[int, str]:
    """Collation id → character set. MariaDB's newer collations serve several character sets; each pair's id is in another view."""
    view = "COLLATION_CHARACTER_SET_APPLICABILITY" if _has_shared_collations(server) else "COLLATIONS"
    rows = query(connection, f"SELECT ID, CHARACTER_SET_NAME FROM information_schema.{view}")  # noqa: S608 - constants
    return {int(number): str(charset) for number, charset in rows if number is not None}


def _has_shared_collations(server: Server) -> bool:
    version = tuple(int(part) for part in server.version.split("-")[0].split("."))
    return server.flavour == "mariadb" and version >= (10, 10, 1)


def _json_columns(connection: Connection, server: Server, database: str, name: str, columns: Iterable[str]) -> set[str]:
    """MariaDB's JSON is LONGTEXT with this constraint."""
    if server.flavour == "mysql":
        return set()
    clauses = {str(row[0]) for row in query(connection, _CHECKS, (database, name))}
    return {column for column in columns if f"json_valid(`{column}`)" in clauses}


_COLUMNS = (
    "SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE FROM information_schema.COLUMNS"
    " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s ORDER BY ORDINAL_POSITION"
)
_KEY = (
    "SELECT COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE"
    " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s AND CONSTRAINT_NAME = 'PRIMARY' ORDER BY ORDINAL_POSITION"
)
_ROWS = "SELECT TABLE_ROWS FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s"
_CHECKS = (
    "SELECT CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = %s AND TABLE_NAME = %s"
)
