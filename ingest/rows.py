"""Column values as JSON values (design.md §2), from the text that SELECT returns. Pure.

Integers and floats are numbers, DECIMAL is a string, DATE and DATETIME are ISO strings as stored, TIMESTAMP is ISO in UTC with `Z`, TIME is
a string, YEAR and BIT are integers, binary is base64, JSON is an object, ENUM and SET are their text; zero dates are None. The
binlog's values (`rowimage`) come out the same: a row may be read by either.

JSON on MariaDB is LONGTEXT with the constraint `json_valid(column)`; by that constraint we know it.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

from ingest import temporal

Convert: TypeAlias = Callable[[Any], Any]

INTEGERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint"})
TEXTS = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext"})
BINARIES = frozenset({"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"})
KEY_TYPES = INTEGERS | {"char", "varchar", "binary", "varbinary", "date", "datetime"}
"""Types of a primary key that sort, compare and are written the same everywhere."""


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column as the server describes it now. `data_type` is information_schema's, in small letters."""

    name: str
    data_type: str
    json: bool = False
    unsigned: bool = False


def expression(column: TableColumn) -> str:
    """What to SELECT for a column. FLOAT is printed with six digits unless it is made a double."""
    name = f"`{column.name.replace('`', '``')}`"
    return f"{name} + 0E0" if column.data_type == "float" else name


def converter(column: TableColumn) -> Convert:
    """From what PyMySQL returns without its own converters (text, or bytes for binary types) to the JSON value. Never called for NULL."""
    if column.json:
        return from_json
    return _CONVERTERS.get(column.data_type, as_text)


def from_json(text: str) -> Any:
    """The document; the text itself if it is none (MariaDB lets the constraint be switched off)."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def as_text(value: str | bytes) -> str:
    """Text as it is; bytes of an unforeseen type as base64, as in the binlog."""
    return value if isinstance(value, str) else as_base64(value)


def as_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def as_float(value: float) -> float:
    """A FLOAT as the shortest number that means the same four bytes: 0.1, not 0.10000000149011612."""
    for digits in range(6, 9):
        short = float(f"{value:.{digits}g}")
        if struct.pack("<f", short) == struct.pack("<f", value):
            return short
    return value


def _date(text: str) -> str | None:
    """Dates with a zero in them are no dates."""
    year_month_day = text[:10].split("-")
    return None if "00" in year_month_day[1:] else text


def _datetime(text: str) -> str | None:
    return _date(text) and text.replace(" ", "T", 1)


def _timestamp(text: str) -> str | None:
    found = _datetime(text)
    return found and f"{found}Z"


_CONVERTERS: dict[str, Convert] = {
    **dict.fromkeys(INTEGERS, int),
    **dict.fromkeys(BINARIES, as_base64),
    "float": lambda text: as_float(float(text)),
    "double": float,
    "decimal": temporal.plain_decimal,
    "year": int,
    "bit": lambda data: int.from_bytes(data, "big"),
    "date": _date,
    "datetime": _datetime,
    "timestamp": _timestamp,
}
