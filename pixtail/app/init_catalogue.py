"""What a database holds: its tables, their keys, and a few values of their text columns."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from ingest import mysql
from ingest.mysql import Connection, quoted
from pixtail.app.init_proposal import TEXT_TYPES, Column, TableFacts

MOST_TABLES = 300
SAMPLE_ROWS = 30
_SAMPLE_CHARACTERS = 1000


def read_tables(connection: Connection, database: str) -> list[TableFacts]:
    """The base tables that the account may see, with samples. Raises PyMySQL's errors: call it within `mysql.translated`."""
    found = mysql.query(connection, _TABLES, (database, MOST_TABLES))
    columns, keys, references = (
        _columns(connection, database),
        _keys(connection, database),
        _references(connection, database),
    )
    tables = [
        TableFacts(str(name), tuple(columns[name]), tuple(keys[name]), int(rows or 0), references[name])
        for name, rows in found
    ]
    return [_sampled(connection, database, table) for table in tables]


def _columns(connection: Connection, database: str) -> dict[str, list[Column]]:
    found: dict[str, list[Column]] = defaultdict(list)
    for table, name, data_type, nullable in mysql.query(connection, _COLUMNS, (database,)):
        found[table].append(Column(str(name), str(data_type).lower(), nullable == "YES"))
    return found


def _keys(connection: Connection, database: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for table, column in mysql.query(connection, _KEYS, (database,)):
        found[table].append(str(column))
    return found


def _references(connection: Connection, database: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for table, column, other in mysql.query(connection, _REFERENCES, (database, database)):
        found[table][str(column)] = str(other)
    return found


def _sampled(connection: Connection, database: str, table: TableFacts) -> TableFacts:
    """The newest rows by key: they look like what is to come."""
    texts = [column for column in table.columns if column.data_type in TEXT_TYPES]
    if not texts:
        return table
    values = ", ".join(f"LEFT({quoted(column.name)}, {_SAMPLE_CHARACTERS})" for column in texts)
    order = f" ORDER BY {', '.join(f'{quoted(name)} DESC' for name in table.key)}" if table.key else ""
    source = quoted(database, table.name)
    rows = mysql.query(connection, f"SELECT {values} FROM {source}{order} LIMIT {SAMPLE_ROWS}")  # noqa: S608 - quoted identifiers
    samples = {
        column.name: tuple(str(row[number]) for row in rows if row[number] not in (None, ""))
        for number, column in enumerate(texts)
    }
    columns = tuple(replace(column, samples=samples.get(column.name, ())) for column in table.columns)
    return replace(table, columns=columns, rows=max(table.rows, len(rows)))


_TABLES = (
    "SELECT TABLE_NAME, TABLE_ROWS FROM information_schema.TABLES"
    " WHERE TABLE_SCHEMA = %s AND TABLE_TYPE = 'BASE TABLE' ORDER BY TABLE_NAME LIMIT %s"
)
_COLUMNS = (
    "SELECT TABLE_NAME, COLUMN_NAME, DATA_TYPE, IS_NULLABLE FROM information_schema.COLUMNS"
    " WHERE TABLE_SCHEMA = %s ORDER BY TABLE_NAME, ORDINAL_POSITION"
)
_KEYS = (
    "SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE"
    " WHERE TABLE_SCHEMA = %s AND CONSTRAINT_NAME = 'PRIMARY' ORDER BY TABLE_NAME, ORDINAL_POSITION"
)
_REFERENCES = (
    "SELECT TABLE_NAME, COLUMN_NAME, REFERENCED_TABLE_NAME FROM information_schema.KEY_COLUMN_USAGE"
    " WHERE TABLE_SCHEMA = %s AND REFERENCED_TABLE_SCHEMA = %s"
)
