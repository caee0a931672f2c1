"""MySQL's binary dates, times and decimals as text. Pure.

Formats: https://dev.mysql.com/doc/dev/internals/en/date-and-time-data-type-representation.html and strings/decimal.cc. Texts are those of
design.md §2: dates ISO as stored, TIMESTAMP in UTC with `Z`, TIME and DECIMAL as SELECT prints them; zero dates are None.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache, lru_cache

from ingest.tablemap import ColumnType

_EPOCH = datetime(1970, 1, 1)  # nothing here depends on a time zone
_DAY_S = 86_400
_DIGIT_BYTES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)  # bytes of a group of so many decimal digits
_DAYS = 1 << 14  # as texts that are remembered: rows tend to share them

# Clocks are put together from two texts: 5 bits hour and 6 minute, or the minute of the day; and 6 bits second.
_HOUR_MINUTE = tuple(f"{number >> 6:02}:{number & 63:02}" for number in range(1 << 11))
_MINUTE_OF_DAY = tuple(f"{minute // 60:02}:{minute % 60:02}" for minute in range(24 * 60))
_SECOND = tuple(f":{second:02}" for second in range(1 << 6))


@lru_cache(_DAYS)
def date(number: int) -> str | None:
    """Three bytes: 15 bits year, 4 month, 5 day."""
    return _date(number >> 9, number >> 5 & 15, number & 31)


def _date(year: int, month: int, day: int) -> str | None:
    return f"{year:04}-{month:02}-{day:02}" if month and day else None


def datetime2(data: bytes, digits: int) -> str | None:
    """Five bytes, the top bit set: 17 bits year * 13 + month, 5 day, 5 hour, 6 minute, 6 second; then the fraction."""
    number = int.from_bytes(data[:5], "big") - (1 << 39)
    day = _month_day(number >> 17)
    if day is None:
        return None
    return f"{day}T{_HOUR_MINUTE[number >> 6 & 0x7FF]}{_SECOND[number & 63]}{_fraction(data[5:], digits)}"


@lru_cache(_DAYS)
def _month_day(number: int) -> str | None:
    """17 bits year * 13 + month, 5 day."""
    months = number >> 5
    return _date(months // 13, months % 13, number & 31)


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
    days, rest = divmod(seconds, _DAY_S)
    return f"{_epoch_day(days)}T{_MINUTE_OF_DAY[rest // 60]}{_SECOND[rest % 60]}{_fraction(data[4:], digits)}Z"


@lru_cache(_DAYS)
def _epoch_day(days: int) -> str:
    """So many days after 1970-01-01."""
    return (_EPOCH + timedelta(days)).date().isoformat()


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
    return f".{int.from_bytes(data, 'big'):0{2 * len(data)}}"[: digits + 1]


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
    top, inverted, groups = _layout(precision, scale)
    number = int.from_bytes(data, "big") ^ top
    negative = number & top
    if negative:
        number ^= inverted
    text = _digits(number, precision - scale, scale, groups)
    return f"-{text}" if negative and text.strip("0.") else text


def _digits(number: int, integer: int, scale: int, groups: list[tuple[int, int, int]]) -> str:
    if 0 < integer <= 9 and 0 < scale <= 9:
        (shift, _, _), (_, mask, _) = groups
        return f"{number >> shift}.{number & mask:0{scale}}"
    text = "".join([f"{number >> shift & mask:0{digits}}" for shift, mask, digits in groups])
    whole = text[:integer].lstrip("0") or "0"
    return f"{whole}.{text[integer:]}" if scale else whole


@cache
def _layout(precision: int, scale: int) -> tuple[int, int, list[tuple[int, int, int]]]:
    """The top bit, all bits, and of each group how far to shift it, its mask and its number of digits."""
    integer = precision - scale
    digits = [size for size in (integer % 9, *[9] * (integer // 9), *[9] * (scale // 9), scale % 9) if size]
    bits = 8 * decimal_size(precision, scale)
    groups, shift = [], bits
    for size in digits:
        shift -= 8 * _DIGIT_BYTES[size]
        groups.append((shift, (1 << 8 * _DIGIT_BYTES[size]) - 1, size))
    return 1 << bits - 1, (1 << bits) - 1, groups


def plain_decimal(text: str) -> str:
    """Without ZEROFILL's zeros, a dot with nothing behind it, or the sign of nothing: `007.50` is `7.50`."""
    sign, text = ("-", text[1:]) if text.startswith("-") else ("", text)
    whole, _, fraction = text.partition(".")
    plain = (whole.lstrip("0") or "0") + (f".{fraction}" if fraction else "")
    return plain if not plain.strip("0.") else sign + plain
