"""Values under Kafka Connect's schemas come out as the listener writes them."""

from __future__ import annotations

from base64 import b64encode
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixtail.core.changes import decode
from pixtail.core.connect import plain

TIME = "io.debezium.time."
CONNECT = "org.apache.kafka.connect.data."


def named(name: str, value: Any, **parameters: str) -> Any:
    return plain({"type": "whatever", "name": name, "parameters": parameters}, value)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        (f"{TIME}Date", -1, "1969-12-31"),
        (f"{CONNECT}Date", 20778, "2026-11-21"),
        (f"{TIME}IsoDate", "2026-11-21Z", "2026-11-21"),
        (f"{TIME}Timestamp", 1795255872000, "2026-11-21T10:11:12"),
        (f"{TIME}Timestamp", -1, "1969-12-31T23:59:59.999"),
        (f"{CONNECT}Timestamp", 1795255872120, "2026-11-21T10:11:12.120"),
        (f"{TIME}MicroTimestamp", 1795255872123450, "2026-11-21T10:11:12.123450"),
        (f"{TIME}NanoTimestamp", 1795255872000001000, "2026-11-21T10:11:12.000001"),
        (f"{TIME}Timestamp", -30610224000000, "1000-01-01T00:00:00"),
        (f"{TIME}IsoTimestamp", "2026-11-21T10:11:12.12Z", "2026-11-21T10:11:12.120"),
        (f"{TIME}IsoTimestamp", "2026-11-21T10:11:12Z", "2026-11-21T10:11:12"),
        (f"{TIME}ZonedTimestamp", "2026-11-21T10:11:12Z", "2026-11-21T10:11:12Z"),
        (f"{TIME}ZonedTimestamp", "2026-11-21T10:11:12.12345Z", "2026-11-21T10:11:12.123450Z"),
        (f"{TIME}MicroTime", -3020398000000, "-838:59:58"),
        (f"{TIME}NanoTime", 500_000_000, "00:00:00.500"),
        (f"{CONNECT}Time", 36672120, "10:11:12.120"),
        (f"{TIME}IsoTime", "10:11:12.000001Z", "10:11:12.000001"),
        (f"{TIME}Year", 2026, 2026),
        ("io.debezium.data.Enum", "b", "b"),
        ("io.debezium.data.Json", '{"k": [1, null]}', {"k": [1, None]}),
        ("io.debezium.data.Bits", "qgo=", 0b101010101010),
        ("io.debezium.data.geometry.Geometry", {"wkb": "AQI=", "srid": 4326}, b64encode(b"\xe6\x10\0\0\1\2").decode()),
        ("io.debezium.data.geometry.Point", {"x": 1.0, "y": 2.0, "wkb": "AQI=", "srid": None}, "AAAAAAEC"),
    ],
)
def test_a_named_type_comes_out_as_the_listener_writes_it(name: str, value: Any, text: Any) -> None:
    assert named(name, value) == text
    assert named(name, None) is None


@given(st.integers(-(10**30), 10**30), st.integers(0, 30))
def test_a_decimal_keeps_its_value_and_its_scale(unscaled: int, scale: int) -> None:
    data = b64encode(unscaled.to_bytes(16, "big", signed=True)).decode()
    text = named(f"{CONNECT}Decimal", data, scale=str(scale))
    assert (
        Decimal(text).as_tuple() == Decimal((int(unscaled < 0), tuple(map(int, str(abs(unscaled)))), -scale)).as_tuple()
    )
    assert len(text.partition(".")[2]) == scale


def test_an_unsigned_bigint_written_as_a_decimal_is_a_number() -> None:
    parameters = {"scale": "0", "connect.decimal.precision": "20"}
    assert named(f"{CONNECT}Decimal", "AP//////////", **parameters) == (1 << 64) - 1


def test_a_bit_is_no_boolean_and_a_struct_is_read_field_by_field() -> None:
    fields = [{"field": "flag", "type": "boolean"}, {"field": "day", "type": "int32", "name": f"{TIME}Date"}]
    row = {"flag": True, "day": 0, "unheard_of": 1}
    assert plain({"type": "struct", "fields": fields}, row) == {"flag": 1, "day": "1970-01-01", "unheard_of": 1}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(["Decimal", "Date", "Time", "Timestamp"]).map(CONNECT.__add__) | st.sampled_from(
    [f"{TIME}{kind}" for kind in ("MicroTime", "NanoTimestamp", "IsoDate", "ZonedTimestamp")]
)
schemas = json_values | st.fixed_dictionaries(
    {"type": st.just("struct"), "fields": st.just([]) | json_values},
    optional={"name": names, "parameters": json_values},
)


@given(schemas, json_values)
def test_reading_never_raises_whatever_stands_in_schema_and_payload(schema: Any, payload: Any) -> None:
    record = orjson.dumps({"schema": schema, "payload": payload})
    decode(record, record, (), 7)
    decode(None, record, (), 7)
