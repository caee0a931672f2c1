"""What the server's catalogue says of the listened table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pymysql.cursors import DictCursor

from ingest.mysql import Connection, Server, query, quoted
from ingest.rows import TableColumn

COUNTED_ROWS = 20_000  # so many rows are counted in a few milliseconds


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
    def order(self) -> str:
        """By what the rows are ordered. While it is the same, the rows behind a key are the same rows; when it changes, a snapshot that is
        under way must begin again."""
        found = (self.column(name) for name in self.key)
        return ", ".join(
            f"{column.name} {column.data_type} {'unsigned' if column.unsigned else column.collation}".strip()
            for column in found
            if column is not None
        )

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


def _column(
    json: set[str], name: str, data_type: str, column_type: str, charset: str | None, collation: str | None
) -> TableColumn:
    kind = data_type.lower()
    is_json, unsigned = kind == "json" or name in json, "unsigned" in column_type.lower()
    return TableColumn(name, kind, is_json, unsigned, charset or "", collation or "")


def about(connection: Connection, table: Table, condition: str) -> int:
    """How many rows fulfil the condition, of which the server must look at few to know; else its guess. Raises PyMySQL's errors."""
    rows_of = f"FROM {quoted(table.database, table.name)} WHERE {condition}"
    with connection.cursor(DictCursor) as cursor:
        cursor.execute(f"EXPLAIN SELECT 1 {rows_of}")
        plan: dict[str, Any] = cursor.fetchone() or {}
    scanned = int(plan.get("rows") or 0)
    if scanned <= COUNTED_ROWS:
        return int(query(connection, f"SELECT COUNT(*) {rows_of}")[0][0])
    return round(scanned * float(plan.get("filtered") or 100) / 100)  # MariaDB does not say how many pass the filter


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
    "SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_SET_NAME, COLLATION_NAME FROM information_schema.COLUMNS"
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
