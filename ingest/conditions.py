"""Conditions on the rows of a table, as SQL. Pure.

Values become literals that no sql_mode or character set of the connection can change the meaning of. Text is compared by the server alone,
in its column's collation: neither case nor padding nor order is ours to know.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Sequence

from ingest.mysql import quoted
from ingest.position import Cursor, KeyValue
from ingest.rows import BINARIES, INTEGERS, TableColumn
from ingest.selection import NULL, Scalar
from ingest.tables import Table
from pixtail.core.errors import UsageError

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_TIME = re.compile(r"-?[0-9][0-9 :.-]*")
_NUMBERS = INTEGERS | {"year", "bit", "float", "double", "decimal"}
_TIMES = {"date", "datetime", "timestamp", "time"}


def key_value(column: TableColumn, raw: bytes) -> KeyValue:
    """A key column's value as it goes on: from the bytes that SELECT returned."""
    if column.data_type in INTEGERS:
        return int(raw)
    return raw if column.charset or column.data_type in BINARIES else raw.decode("ascii")


def behind(key: Sequence[TableColumn], after: Cursor) -> str:
    """The rows behind a key. For (a, b): a > x OR (a = x AND b > y), of which the optimizer makes ranges of the primary key;
    (a, b) > (x, y) would have it read the index from its start (EXPLAIN of MySQL 8.0 and MariaDB 10.11)."""
    literals = [_literal(column, value) for column, value in zip(key, after, strict=True)]
    alternatives = []
    for i, column in enumerate(key):
        equal = [f"{quoted(key[j].name)} = {literals[j]}" for j in range(i)]
        alternatives.append(_all([*equal, f"{quoted(column.name)} > {literals[i]}"]))
    return _any(alternatives)


def having_keys(key: Sequence[TableColumn], keys: Sequence[Sequence[Scalar]]) -> str:
    """The rows that have one of these keys. Raises `UsageError` for a value that its column cannot have."""
    literals = [_given_key(key, values) for values in keys]
    if len(key) == 1:
        return f"{quoted(key[0].name)} IN ({', '.join(literal for (literal,) in literals)})"
    return _any([_all([f"{quoted(c.name)} = {value}" for c, value in zip(key, row, strict=True)]) for row in literals])


def _given_key(key: Sequence[TableColumn], values: Sequence[Scalar]) -> list[str]:
    if len(values) != len(key):
        names = ", ".join(column.name for column in key)
        raise UsageError(f"an id of {len(values)} values does not fit the key ({names})", "Give one value per column")
    return [_given(column, value) for column, value in zip(key, values, strict=True)]


def having(table: Table, name: str, value: Scalar) -> str:
    """The rows that have this value in a column. Raises `UsageError` for an unknown column or a value that it cannot have."""
    column = table.column(name)
    if column is None:
        names = ", ".join(other.name for other in table.columns)
        raise UsageError(f"{table.database}.{table.name} has no column {name}", f"It has {names}")
    return f"{quoted(name)} IS NULL" if value == NULL else f"{quoted(name)} = {_given(column, value)}"


def _all(conditions: Sequence[str]) -> str:
    return f"({' AND '.join(conditions)})"


def _any(conditions: Sequence[str]) -> str:
    return f"({' OR '.join(conditions)})"


def _literal(column: TableColumn, value: KeyValue) -> str:
    """Of a value that came from the column. A DECIMAL must not be compared as a text, which would make both doubles."""
    if isinstance(value, bytes):
        return _bytes(value, column.charset)
    if isinstance(value, int):
        return str(value)
    return value if column.data_type == "decimal" and _NUMBER.fullmatch(value) else _bytes(value.encode(), "utf8mb4")


def _bytes(data: bytes, charset: str) -> str:
    introducer = f"_{charset} " if charset else ""
    return f"{introducer}X'{data.hex()}'"


def _given(column: TableColumn, value: Scalar) -> str:
    """Of a value that somebody gave. MySQL would compare an integer column with 'abc' as with 0."""
    text = str(int(value)) if isinstance(value, bool) else str(value)
    if column.data_type in _NUMBERS:
        return _number(column, text)
    if column.data_type in BINARIES:
        return _bytes(_from_base64(column, text), "")
    if column.data_type in _TIMES:
        plain = text.replace("T", " ").removesuffix("Z")
        return _bytes(_fitting(column, plain, _TIME.fullmatch(plain) is not None).encode(), "utf8mb4")
    return _bytes(_fitting(column, text, bool(column.charset) and not column.json).encode(), "utf8mb4")


def _number(column: TableColumn, text: str) -> str:
    if column.data_type in INTEGERS:
        return _fitting(column, text, re.fullmatch(r"[+-]?\d+", text) is not None)
    return _fitting(column, text, _NUMBER.fullmatch(text) is not None and math.isfinite(float(text)))


def _from_base64(column: TableColumn, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _misfit(column) from None


def _fitting(column: TableColumn, text: str, fits: bool) -> str:
    if not fits:
        raise _misfit(column)
    return text


def _misfit(column: TableColumn) -> UsageError:
    form = "in base64" if column.data_type in BINARIES else f"of the type {column.data_type}"
    return UsageError(f"a value given for {column.name} does not fit it", f"Give values {form}")
