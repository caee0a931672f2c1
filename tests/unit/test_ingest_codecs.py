"""The binlog's values: what is encoded here by the formats' descriptions is read back."""

from __future__ import annotations

import struct
import zlib
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import charsets, compressed_columns, jsonb, temporal
from ingest.tablemap import ColumnType

# Dates, times, decimals

moments = st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31, 23, 59, 59, 999_999))
digits = st.integers(0, 6)


def fraction(microseconds: int, number_of_digits: int) -> tuple[bytes, str]:
    """Its bytes, and its text behind the seconds."""
    size = (number_of_digits + 1) // 2
    kept = f"{microseconds:06}"[:number_of_digits]
    return int(kept.ljust(2 * size, "0") or "0").to_bytes(size, "big"), f".{kept}" if kept else ""


@given(st.dates())
def test_a_date(day: date) -> None:
    assert temporal.date(day.year << 9 | day.month << 5 | day.day) == day.isoformat()


@given(st.integers(0, 9999), st.integers(0, 12), st.integers(0, 31))
def test_a_date_with_a_zero_is_none(year: int, month: int, day: int) -> None:
    found = temporal.date(year << 9 | month << 5 | day)
    assert (found is None) == (month == 0 or day == 0)


@given(moments, digits)
def test_a_datetime(moment: datetime, number_of_digits: int) -> None:
    number = 1 << 39 | (moment.year * 13 + moment.month) << 22 | moment.day << 17
    number |= moment.hour << 12 | moment.minute << 6 | moment.second
    more, text = fraction(moment.microsecond, number_of_digits)
    expected = moment.replace(microsecond=0).isoformat() + text
    assert temporal.datetime2(number.to_bytes(5, "big") + more, number_of_digits) == expected


@given(st.integers(1, 2**32 - 1), st.integers(0, 999_999), digits)
def test_a_timestamp(seconds: int, microseconds: int, number_of_digits: int) -> None:
    more, text = fraction(microseconds, number_of_digits)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    expected = f"{moment:%Y-%m-%dT%H:%M:%S}{text}Z"
    assert temporal.timestamp(seconds.to_bytes(4, "big") + more, number_of_digits) == expected


@given(st.integers(-(838 * 3600 + 59 * 60 + 59), 838 * 3600 + 59 * 60 + 59), st.integers(0, 999_999), digits)
def test_a_time(seconds: int, microseconds: int, number_of_digits: int) -> None:
    more, text = fraction(microseconds, number_of_digits)
    hours, minutes, rest = abs(seconds) // 3600, abs(seconds) // 60 % 60, abs(seconds) % 60
    size = 3 + len(more)
    number = (hours << 12 | minutes << 6 | rest) << 8 * len(more) | int.from_bytes(more, "big")
    stored = ((1 << 8 * size - 1) + (-number if seconds < 0 else number)).to_bytes(size, "big")
    sign = "-" if seconds < 0 else ""
    assert temporal.time2(stored, number_of_digits) == f"{sign}{hours:02}:{minutes:02}:{rest:02}{text}"


@st.composite
def decimals(draw: st.DrawFn) -> tuple[int, int, Decimal]:
    """Precision, scale and a number that fits."""
    precision = draw(st.integers(1, 65))
    scale = draw(st.integers(0, min(precision, 30)))
    unscaled = draw(st.integers(-(10**precision - 1), 10**precision - 1))
    with localcontext(prec=100):
        return precision, scale, Decimal(unscaled).scaleb(-scale)


def stored_decimal(precision: int, scale: int, number: Decimal) -> bytes:
    """Nine digits in four bytes, fewer in fewer, the short group outermost; the top bit turned, a negative number inverted."""
    text = f"{number.copy_abs():.{scale}f}".replace(".", "").zfill(precision)[-precision:]
    whole, rest = text[: precision - scale], text[precision - scale :]
    head = len(whole) % 9
    groups = [whole[:head], *(whole[i : i + 9] for i in range(head, len(whole), 9))]
    groups += [rest[i : i + 9] for i in range(0, len(rest), 9)]
    sizes = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
    data = b"".join(int(group or "0").to_bytes(sizes[len(group)], "big") for group in groups)
    if number < 0:
        data = bytes(byte ^ 0xFF for byte in data)
    return bytes([data[0] ^ 0x80]) + data[1:]


@given(decimals())
def test_a_decimal(stored: tuple[int, int, Decimal]) -> None:
    precision, scale, number = stored
    data = stored_decimal(precision, scale, number)
    assert len(data) == temporal.decimal_size(precision, scale)
    assert temporal.decimal(data, precision, scale) == f"{number:.{scale}f}"


# JSON


def length(size: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    found = []
    while size > 0x7F:
        found.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*found, size])


def stored_json(document: Any, large: bool) -> tuple[int, bytes]:
    """Type and bytes, in the small or the large format throughout."""
    if isinstance(document, dict | list):
        return stored_container(document, large)
    if document is None or isinstance(document, bool):
        return 0x04, bytes([{None: 0, True: 1, False: 2}[document]])
    if isinstance(document, str):
        return 0x0C, length(len(document.encode())) + document.encode()
    if isinstance(document, float):
        return 0x0B, struct.pack("<d", document)
    for kind, letter, low, high in (
        (0x05, "h", -(2**15), 2**15),
        (0x06, "H", 0, 2**16),
        (0x07, "i", -(2**31), 2**31),
        (0x08, "I", 0, 2**32),
        (0x09, "q", -(2**63), 2**63),
    ):
        if low <= document < high:
            return kind, struct.pack(f"<{letter}", document)
    return 0x0A, struct.pack("<Q", document)


def stored_container(document: dict[str, Any] | list[Any], large: bool) -> tuple[int, bytes]:
    offset, width = ("<I", 4) if large else ("<H", 2)
    keys = [key.encode() for key in document] if isinstance(document, dict) else []
    values = [stored_json(value, large) for value in (document.values() if isinstance(document, dict) else document)]
    at = 2 * width + len(keys) * (width + 2) + len(values) * (width + 1)
    key_entries = value_entries = bodies = b""
    for key in keys:
        key_entries += struct.pack(offset, at) + struct.pack("<H", len(key))
        bodies += key
        at += len(key)
    for kind, data in values:
        if kind in ((0x04, 0x05, 0x06, 0x07, 0x08) if large else (0x04, 0x05, 0x06)):
            value_entries += bytes([kind]) + data.ljust(
                width, b"\xff" if data[-1:] > b"\x7f" and kind in (5, 7) else b"\0"
            )
            continue
        value_entries += bytes([kind]) + struct.pack(offset, at)
        bodies += data
        at += len(data)
    head = struct.pack(offset, len(values)) + struct.pack(offset, at)
    kind = (0 if isinstance(document, dict) else 2) + large
    return kind, head + key_entries + value_entries + bodies


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.integers(-(2**16), 2**16)
    | st.floats(allow_nan=False)
    | st.text(max_size=200)
)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=20), inner, max_size=6),
    max_leaves=20,
)


@given(documents, st.booleans())
def test_a_json_document(document: Any, large: bool) -> None:
    kind, data = stored_json(document, large)
    found = jsonb.value(bytes([kind]) + data)
    assert found == document
    assert repr(found) == repr(document)  # 1, True and 1.0 are equal


def test_a_long_text_in_a_json_document() -> None:
    for size in (127, 128, 16383, 16384, 3_000_000):
        assert jsonb.value(b"\x0c" + length(size) + b"x" * size) == "x" * size


def test_other_types_in_a_json_document() -> None:
    price = b"\x05\x02" + stored_decimal(5, 2, Decimal("-1.50"))
    assert jsonb.value(b"\x0f" + bytes([ColumnType.NEWDECIMAL]) + length(len(price)) + price) == -1.5
    assert jsonb.value(b"\x0f\x10\x01\x07") == "base64:type16:Bw=="
    assert jsonb.value(b"") is None


def test_a_json_type_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(ValueError, match="type 14"):
        jsonb.value(b"\x0e\0")


# Character sets


@pytest.mark.parametrize(
    ("charset", "codec"),
    [
        ("utf8mb4", "utf-8"),
        ("utf16", "utf-16-be"),
        ("utf16le", "utf-16-le"),
        ("utf32", "utf-32-be"),
        ("gb18030", "gb18030"),
    ],
)
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs", "Co"])))
def test_every_unicode_text(charset: str, codec: str, text: str) -> None:
    assert charsets.decode(text.encode(codec), charset) == text


@pytest.mark.parametrize(
    ("charset", "data", "text"),
    [
        ("latin1", b"\xe9\x81\x8d\x80", "é\x81\x8d€"),
        ("ascii", b"a\xe9", "a?"),
        ("swe7", b"[\\]", "ÄÖÅ"),
        ("cp866", b"\xfc\xfd", "ⁿ²"),
        ("armscii8", b"\xb2\xb3\xfd\xfe", "Աաֆ’"),
        ("geostd8", b"\x80\xc0\xff", "€ა?"),
        ("keybcs2", b"\x80\xa8", "Čš"),
        ("dec8", b"\xd7\xa4", "Œ?"),
        ("sjis", b"\x81\x5f\xb1", "\\ｱ"),
        ("euckr", b"\x94\xee\xb0\xa1", "뷁가"),
        ("gbk", b"\xaa\xa1\xc4\xe3", "?你"),
        ("big5", b"\xf9\xd6\xa3\xc0x", "碁?x"),
        ("gb18030", b"\xa8\xbc\x8d\x37\x84\x36", "ḿ?"),
        ("ujis", b"\xa1\xc0\xf5\xa1\x8f\xfe\xfe\xa2\xaf", "\\\ue000\ue757?"),
        ("eucjpms", b"\xa1\xc1", "～"),
    ],
)
def test_a_character_is_what_the_server_shows(charset: str, data: bytes, text: str) -> None:
    assert charsets.decode(data, charset) == text


@pytest.mark.parametrize(
    ("charset", "data"),
    [("utf8mb4", b"secret\xff"), ("gbk", b"secret\xc4"), ("eucjpms", b"secret\xad\xa1"), ("utf16", b"\xd8")],
)
def test_bytes_that_are_no_text_are_an_error_without_them(charset: str, data: bytes) -> None:
    with pytest.raises(ValueError, match=charset) as caught:
        charsets.decode(data, charset)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_an_unknown_character_set_is_named() -> None:
    with pytest.raises(ValueError, match="klingon"):
        charsets.decoder("klingon")


# MariaDB's compressed columns


def compressed(data: bytes, *, bare: bool, level: int) -> bytes:
    size = max((len(data).bit_length() + 7) // 8, 1)
    deflater = zlib.compressobj(level, zlib.DEFLATED, -15 if bare else 15)
    head = bytes([0x80 | (8 if bare else 0) | size]) + len(data).to_bytes(size, "big")
    return head + deflater.compress(data) + deflater.flush()


@given(st.binary(max_size=2000), st.integers(1, 200), st.booleans(), st.integers(0, 9))
def test_a_compressed_value(data: bytes, times: int, bare: bool, level: int) -> None:
    assert compressed_columns.value(compressed(data * times, bare=bare, level=level)) == data * times


@given(st.binary())
def test_a_value_that_was_not_worth_compressing(data: bytes) -> None:
    assert compressed_columns.value(b"\0" + data) == data
    assert compressed_columns.value(b"") == b""


@given(st.binary(min_size=1, max_size=100), st.data())
def test_a_torn_compressed_value_is_an_error(data: bytes, draw: st.DataObject) -> None:
    whole = compressed(data * 20, bare=True, level=6)
    with pytest.raises(ValueError, match="compressed"):
        compressed_columns.value(whole[: draw.draw(st.integers(3, len(whole) - 1))])


def test_an_unknown_compression_is_an_error() -> None:
    with pytest.raises(ValueError, match="method 9"):
        compressed_columns.value(b"\x91\x05hello")


def test_a_value_that_grows_beyond_its_size_is_an_error_before_it_does() -> None:
    bomb = compressed(bytes(100_000_000), bare=True, level=9)
    small = bytes([0x8A]) + (1000).to_bytes(2, "big") + bomb[1 + (bomb[0] & 7) :]
    with pytest.raises(ValueError, match="1000"):
        compressed_columns.value(small)
