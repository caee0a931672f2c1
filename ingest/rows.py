"""Column values as JSON values (design.md §2): what a snapshot (`textrows`) and the binlog (`rowimage`) have in common. Pure.

Integers and floats are numbers, DECIMAL is a string, DATE and DATETIME are ISO strings as stored, TIMESTAMP is ISO in UTC with `Z`, TIME is
a string, YEAR and BIT are integers, binary is base64, JSON is an object, ENUM and SET are their text; zero dates are None.
A row may be read by either, and comes out the same.

JSON on MariaDB is LONGTEXT with the constraint `json_valid(column)`; by that constraint we know it.
"""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from typing import Any

import orjson

INTEGERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint"})
TEXTS = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext"})
BINARIES = frozenset({"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"})
KEY_TYPES = INTEGERS | {"char", "varchar", "binary", "varbinary", "date", "datetime", "decimal"}
"""Types of a primary key that sort, compare and are written the same everywhere."""


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column as the server describes it now. `data_type` is information_schema's, in small letters; `charset` and `collation` are
    empty unless it holds text (JSON on MySQL has neither)."""

    name: str
    data_type: str
    json: bool = False
    unsigned: bool = False
    charset: str = ""
    collation: str = ""


def expression(column: TableColumn) -> str:
    """What to SELECT for a column. FLOAT is printed with six digits unless it is made a double."""
    name = f"`{column.name.replace('`', '``')}`"
    return f"{name} + 0E0" if column.data_type == "float" else name


def from_json(text: str) -> Any:
    """The document; the text itself if it is none (MariaDB lets the constraint be switched off)."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def as_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def as_float(value: float) -> float:
    """A FLOAT as the shortest number that means the same four bytes: 0.1, not 0.10000000149011612."""
    for digits in range(6, 9):
        short = float(f"{value:.{digits}g}")
        if struct.pack("<f", short) == struct.pack("<f", value):
            return short
    return value
