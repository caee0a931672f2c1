"""MySQL's character sets as Python's codecs. Pure.

A value comes out as SELECT shows it in utf8mb4: a character that the server cannot show is a question mark. Held against every
character of MySQL 8.0 and MariaDB 10.11, which agree; https://dev.mysql.com/doc/refman/8.0/en/charset-charsets.html names the sets. Two
differences stay: seven doubles in big5, which the servers cannot show, come out as what they double; and in eucjpms what Python
does not know (NEC's and IBM's additions) is an error, not a wrong character.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping
from functools import cache
from typing import TypeAlias

Decode: TypeAlias = Callable[[bytes], str]
"""Raises `ValueError` when the bytes are not of the character set; its text never holds the data."""

_UNICODE = {
    "utf8mb4": "utf-8",
    "utf8mb3": "utf-8",
    "utf8": "utf-8",
    "ucs2": "utf-16-be",
    "utf16": "utf-16-be",
    "utf16le": "utf-16-le",
    "utf32": "utf-32-be",
}

# A character a byte: Python's codec, and the bytes that mean something else to MySQL.
_SINGLE: Mapping[str, tuple[str, Mapping[int, str]]] = {
    "ascii": ("ascii", {}),
    # MySQL's latin1 is Windows-1252, and the five bytes that Windows leaves open are the control characters of ISO 8859-1.
    "latin1": ("cp1252", {byte: chr(byte) for byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}),
    "latin2": ("iso8859-2", {}),
    "latin5": ("iso8859-9", {}),
    "latin7": ("iso8859-13", {}),
    "greek": ("iso8859-7", {0xA1: "ʽ", 0xA2: "ʼ", **dict.fromkeys((0xA4, 0xA5, 0xAA), "?")}),
    "hebrew": ("iso8859-8", {0xAF: "‾"}),
    "koi8r": ("koi8-r", {}),
    "koi8u": ("koi8-u", {0x95: "•"}),
    "tis620": ("tis-620", dict.fromkeys((0xA0, *range(0xDB, 0xDF), *range(0xFC, 0x100)), "\ufffd")),
    "cp850": ("cp850", {}),
    "cp852": ("cp852", {}),
    "cp866": ("cp866", {0xFC: "ⁿ", 0xFD: "²"}),
    "cp1250": ("cp1250", {}),
    "cp1251": ("cp1251", {}),
    "cp1256": ("cp1256", dict.fromkeys((0x8A, 0x8F, 0x98, 0x9A, 0x9F, 0xAA, 0xC0, 0xFF), "?")),
    "cp1257": ("cp1257", {}),
    "macce": ("mac-latin2", {}),
    "macroman": ("mac-roman", {}),
    "hp8": ("hp-roman8", {}),
    "dec8": (
        "latin-1",
        {
            **dict.fromkeys(b"\xa4\xa6\xac\xad\xae\xaf\xb4\xb8\xbe\xd0\xde\xf0\xfe\xff", "?"),
            0xA8: "¤",
            0xD7: "Œ",
            0xDD: "Ÿ",
            0xF7: "œ",
            0xFD: "ÿ",
        },
    ),
    "swe7": ("ascii", {**dict(zip(b"@[\\]^`{|}~", "ÉÄÖÅÜéäöåü", strict=True)), 0x7F: "?"}),
    "keybcs2": (
        "cp437",
        {
            **dict(enumerate("ČüéďäĎŤčěĚĹÍľĺÄÁÉžŽôöÓůÚýÖÜŠĽÝŘť", 0x80)),
            **dict(enumerate("ňŇŮÔšřŕŔ", 0xA4)),
        },
    ),
    "armscii8": (
        "latin-1",
        dict(
            enumerate(
                "❁§։)(»«—.՝,-՟…՜՛՞" + "".join(chr(0x531 + i) + chr(0x561 + i) for i in range(38)) + "’'",
                0xA1,
            )
        ),
    ),
    "geostd8": (
        "latin-1",
        {
            **dict(enumerate("€?‚?„…†‡?‰?‹?????‘’“”•–—???›????", 0x80)),
            **dict(enumerate("აბგდევზჱთიკლმნჲოპჟრსტჳუფქღყშჩცძწჭხჴჯჰჵ" + "?" * 23 + "№??", 0xC0)),
        },
    ),
}

_UNASSIGNED = "mysql_unassigned"
# Several bytes a character: Python's codec, what to do with a character that it does not know, and those that mean something else to MySQL.
_MULTIPLE: Mapping[str, tuple[str, str, Mapping[int, int]]] = {
    "gbk": ("gbk", _UNASSIGNED, {}),
    "gb2312": ("gb2312", _UNASSIGNED, {}),
    "gb18030": ("gb18030", _UNASSIGNED, {0xE7C7: 0x1E3F}),
    "big5": ("big5", _UNASSIGNED, {}),
    "sjis": ("shift_jis", _UNASSIGNED, {0xFF3C: 0x5C}),
    "cp932": ("cp932", _UNASSIGNED, {}),
    "ujis": ("euc_jp", _UNASSIGNED, {0xFF3C: 0x5C}),
    "eucjpms": ("euc_jp", "strict", dict(zip(map(ord, "〜‖−¢£¬¦"), map(ord, "～∥－￠￡￢￤"), strict=True))),
    "euckr": ("cp949", _UNASSIGNED, {}),
}


def decode(data: bytes, charset: str) -> str:
    """Raises `ValueError` when the character set is unknown here or the bytes are not of it; its text never holds the data."""
    return decoder(charset)(data)


@cache
def decoder(charset: str) -> Decode:
    """For many values of one character set. Raises `ValueError` when it is unknown here."""
    if charset in _UNICODE:
        return _decoder(charset, _UNICODE[charset], "strict", {})
    if charset in _MULTIPLE:
        return _decoder(charset, *_MULTIPLE[charset])
    if charset in _SINGLE:
        table = _table(*_SINGLE[charset])
        return lambda data: codecs.charmap_decode(data, "strict", table)[0]
    raise ValueError(f"the character set {charset} is not known here")


def _decoder(charset: str, codec: str, errors: str, changed: Mapping[int, int]) -> Decode:
    def read(data: bytes) -> str:
        try:
            text = data.decode(codec, errors)
        except UnicodeDecodeError:
            raise ValueError(f"its bytes are not known as {charset}") from None
        return text.translate(changed) if changed else text

    return read


def _table(codec: str, changed: Mapping[int, str]) -> str:
    """The character of each byte."""
    return "".join(
        changed.get(byte) or bytes([byte]).decode(codec, "replace").replace("\ufffd", "?") for byte in range(256)
    )


# What Python's codecs leave open in the sets of several bytes.

_ETEN = "碁銹裏墻恒粧嫺"  # Big5's F9D6 to F9DC
_PRIVATE_ROWS = 10  # of EUC-JP, in each of its planes: the first private characters of Unicode, in 94 columns


def _unassigned(error: UnicodeError) -> tuple[str, int]:
    """A well-formed character that Python does not know."""
    assert isinstance(error, UnicodeDecodeError)
    size = _size(error)
    character = error.object[error.start : error.start + size]
    if len(character) < size:
        raise error
    return _character(error.encoding, character), error.start + size


def _size(error: UnicodeDecodeError) -> int:
    first, *second = error.object[error.start : error.start + 2]
    if error.encoding == "gb18030" and second and chr(second[0]).isdigit():
        return 4
    return 3 if error.encoding == "euc_jp" and first == 0x8F else 2


def _character(codec: str, character: bytes) -> str:
    row, column = character[-2], character[-1] - 0xA1
    if codec == "euc_jp" and row >= 0xFF - _PRIVATE_ROWS:
        plane = len(character) - 2
        return chr(0xE000 + ((plane * _PRIVATE_ROWS) + row - 0xF5) * 94 + column)
    if codec == "big5" and row == 0xF9 and 0 <= character[-1] - 0xD6 < len(_ETEN):
        return _ETEN[character[-1] - 0xD6]
    return "?"


codecs.register_error(_UNASSIGNED, _unassigned)
