"""MySQL's binary dates, times and decimals as text. Pure.

Formats: https://dev.mysql.com/doc/dev/internals/en/date-and-time-data-type-representation.html and strings/decimal.cc. Texts are those of
design.md §2: dates ISO as stored, TIMESTAMP in UTC with `Z`, TIME and DECIMAL as SELECT prints them; zero dates are None.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ingest.tablemap import ColumnType

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DIGIT_BYTES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)  # bytes of a group of so many decimal digits


def date(number: int) -> str | None:
    """Three bytes: 15 bits year, 4 month, 5 day."""
    return _date(number >> 9, number >> 5 & 15, number & 31)


def _date(year: int, month: int, day: int) -> str | None:
    return f"{year:04}-{month:02}-{day:02}" if month and day else None


def datetime2(data: bytes, digits: int) -> str | None:
    """Five bytes, the top bit set: 17 bits year * 13 + month, 5 day, 5 hour, 6 minute, 6 second; then the fraction."""
    return _datetime(int.from_bytes(data[:5], "big") - (1 << 39), _fraction(data[5:], digits))


def _datetime(number: int, fraction: str) -> str | None:
    months, days = number >> 22, number >> 17 & 31
    day = _date(months // 13, months % 13, days)
    return day and f"{day}T{_clock(number & 0x1FFFF)}{fraction}"


def _clock(number: int) -> str:
    """5 bits hour, 6 minute, 6 second (an hour of TIME takes more)."""
    return f"{number >> 12:02}:{number >> 6 & 63:02}:{number & 63:02}"


def old_datetime(number: int) -> str | None:
    """The decimal number YYYYMMDDhhmmss."""
    text = f"{number:014}"
    day = _date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    return day and f"{day}T{text[8:10]}:{text[10:12]}:{text[12:]}"


def old_time(number: int) -> str:
    """The decimal number ±HHMMSS."""
    text = f"{abs(number):06}"
    return f"{'-' if number < 0 else ''}{text[:-4]}:{text[-4:-2]}:{text[-2:]}"


def timestamp(data: bytes, digits: int) -> str | None:
    """Four bytes of seconds, big-endian, then the fraction. Zero is the zero date."""
    seconds = int.from_bytes(data[:4], "big")
    if not seconds:
        return None
    moment = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{moment}{_fraction(data[4:], digits)}Z"


def time2(data: bytes, digits: int) -> str:
    """Three bytes and the fraction's, as one offset binary number: 10 bits hour, 6 minute, 6 second, fraction."""
    size = len(data) - 3
    number = int.from_bytes(data, "big") - (1 << (8 * len(data) - 1))
    sign, number = ("-", -number) if number < 0 else ("", number)
    fraction = _fraction((number & ((1 << 8 * size) - 1)).to_bytes(size, "big"), digits)
    return f"{sign}{_clock(number >> 8 * size)}{fraction}"


def _fraction(data: bytes, digits: int) -> str:
    """Two digits a byte; of an odd number of digits the last one stored is always zero."""
    if not digits:
        return ""
    return "." + f"{int.from_bytes(data, 'big'):0{2 * len(data)}}"[:digits]


def packed(number: int, kind: int) -> str:
    """A date or time inside a JSON document: 24 bits of microseconds below what DATETIME and TIME hold."""
    sign, number = ("-", -number) if number < 0 else ("", number)
    whole, fraction = number >> 24, f".{number & 0xFFFFFF:06}"
    if kind == ColumnType.TIME:
        return f"{sign}{_clock(whole)}{fraction}"
    months, days = whole >> 22, whole >> 17 & 31
    day = f"{months // 13:04}-{months % 13:02}-{days:02}"
    return day if kind == ColumnType.DATE else f"{day} {_clock(whole & 0x1FFFF)}{fraction}"


def decimal_size(precision: int, scale: int) -> int:
    """Bytes of a DECIMAL(precision, scale)."""
    integer = precision - scale
    return 4 * (integer // 9) + _DIGIT_BYTES[integer % 9] + 4 * (scale // 9) + _DIGIT_BYTES[scale % 9]


def decimal(data: bytes, precision: int, scale: int) -> str:
    """Groups of nine digits in four bytes each, the short group outermost; the top bit is the sign, a negative number is inverted."""
    negative = not data[0] & 0x80
    digits = bytes([data[0] ^ 0x80]) + data[1:]
    if negative:
        digits = bytes(byte ^ 0xFF for byte in digits)
    integer = precision - scale
    groups = [integer % 9, *[9] * (integer // 9), *[9] * (scale // 9), scale % 9]
    text, at = "", 0
    for group in filter(None, groups):
        size = _DIGIT_BYTES[group]
        text += f"{int.from_bytes(digits[at : at + size], 'big'):0{group}}"
        at += size
    return plain_decimal(f"{'-' if negative else ''}{text[:integer]}.{text[integer:]}")


def plain_decimal(text: str) -> str:
    """Without ZEROFILL's zeros, a dot with nothing behind it, or the sign of nothing: `007.50` is `7.50`."""
    sign, text = ("-", text[1:]) if text.startswith("-") else ("", text)
    whole, _, fraction = text.partition(".")
    plain = (whole.lstrip("0") or "0") + (f".{fraction}" if fraction else "")
    return plain if not plain.strip("0.") else sign + plain
