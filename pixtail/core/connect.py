"""What Kafka Connect's JsonConverter wrote under a schema, as values of ours (design.md §2). Pure.

Debezium's defaults write times as numbers since the epoch and decimals as bytes; the schema beside each value names what is meant. Names:
https://debezium.io/documentation/reference/stable/connectors/mysql.html#mysql-data-types

What no schema says: how many digits a column's fraction has (here none, three or six, as Java prints times), whether a BIGINT is unsigned,
and whether 1970-01-01 was a zero date.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import orjson

Schema: TypeAlias = Mapping[str, Any]
Convert: TypeAlias = Callable[[Any, Schema], Any]

_EPOCH = datetime(1970, 1, 1)  # of no zone, as DATETIME is
_FRACTION = re.compile(r"\.(\d+)")
_BIGINT_UNSIGNED = ("0", "20")  # scale and precision


def plain(schema: Schema, value: Any) -> Any:
    """`value` without Connect's encodings, structs field by field. Raises `ValueError`, `TypeError` and the like if it does not fit."""
    if value is None:
        return None
    convert = _BY_NAME.get(schema.get("name"))
    if convert is not None:
        return convert(value, schema)
    if schema.get("type") == "struct":
        fields = {field["field"]: field for field in schema.get("fields", ())}
        return {name: plain(fields.get(name, {}), inner) for name, inner in value.items()}
    return int(value) if isinstance(value, bool) else value  # BIT(1): MySQL has no booleans


def _date(days: int, _schema: Schema) -> str:
    return (_EPOCH + timedelta(days=days)).date().isoformat()


def _datetime(digits: int) -> Convert:
    """A count of units of 10^-digits seconds since the epoch, the clock of no zone."""

    def convert(count: int, _schema: Schema) -> str:
        seconds, part = divmod(count, 10**digits)
        return (_EPOCH + timedelta(seconds=seconds)).isoformat() + _fraction(part, digits)

    return convert


def _time(digits: int) -> Convert:
    """The same since midnight; MySQL's TIME reaches from -838 to 838 hours."""

    def convert(count: int, _schema: Schema) -> str:
        seconds, part = divmod(abs(count), 10**digits)
        sign = "-" if count < 0 else ""
        return f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{_fraction(part, digits)}"

    return convert


def _fraction(part: int, digits: int) -> str:
    return _in_threes(f".{part:0{digits}}") if part else ""


def _in_threes(text: str) -> str:
    """Fractions of three or six digits, whatever there were: Debezium's snapshot prints `.12` where its stream prints `.120`."""
    return _FRACTION.sub(_three_or_six, text)


def _three_or_six(found: re.Match[str]) -> str:
    significant = found[1].rstrip("0")
    return f".{significant}{'0' * (-len(significant) % 3)}" if significant else ""


def _with_zone(text: str, _schema: Schema) -> str:
    return _in_threes(text)


def _without_zone(text: str, _schema: Schema) -> str:
    """`isostring` writes a Z behind what has no zone."""
    return _in_threes(text.removesuffix("Z"))


def _decimal(data: str, schema: Schema) -> str | int:
    """A string with the column's scale. An unsigned BIGINT, which `bigint.unsigned.handling.mode=precise` writes so too, is a number."""
    parameters = schema["parameters"]
    unscaled, scale = int.from_bytes(b64decode(data), "big", signed=True), int(parameters["scale"])
    if (parameters["scale"], parameters.get("connect.decimal.precision")) == _BIGINT_UNSIGNED:
        return unscaled
    sign, digits = "-" if unscaled < 0 else "", f"{abs(unscaled):0{scale + 1}}"
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}" if scale else f"{sign}{digits}"


def _bits(data: str, _schema: Schema) -> int:
    return int.from_bytes(b64decode(data), "little")


def _json(text: str, _schema: Schema) -> Any:
    return orjson.loads(text)


def _geometry(value: Mapping[str, Any], _schema: Schema) -> str:
    """As MySQL stores it: four bytes of SRID, then the well-known binary."""
    return b64encode((value["srid"] or 0).to_bytes(4, "little") + b64decode(value["wkb"])).decode()


_BY_NAME: dict[str | None, Convert] = {
    "org.apache.kafka.connect.data.Decimal": _decimal,
    "org.apache.kafka.connect.data.Date": _date,
    "org.apache.kafka.connect.data.Time": _time(3),
    "org.apache.kafka.connect.data.Timestamp": _datetime(3),
    "io.debezium.data.Bits": _bits,
    "io.debezium.data.Json": _json,
    "io.debezium.data.geometry.Geometry": _geometry,
    "io.debezium.data.geometry.Point": _geometry,
    "io.debezium.time.Date": _date,
    "io.debezium.time.Time": _time(3),
    "io.debezium.time.MicroTime": _time(6),
    "io.debezium.time.NanoTime": _time(9),
    "io.debezium.time.Timestamp": _datetime(3),
    "io.debezium.time.MicroTimestamp": _datetime(6),
    "io.debezium.time.NanoTimestamp": _datetime(9),
    "io.debezium.time.IsoDate": _without_zone,
    "io.debezium.time.IsoTime": _without_zone,
    "io.debezium.time.IsoTimestamp": _without_zone,
    "io.debezium.time.ZonedTimestamp": _with_zone,
}
