"""MySQL's character sets as Python's codecs. Pure."""

from __future__ import annotations

# https://dev.mysql.com/doc/refman/8.0/en/charset-charsets.html; what is not here cannot be decoded, and we say so.
_CODECS = {
    "utf8mb4": "utf-8",
    "utf8mb3": "utf-8",
    "utf8": "utf-8",
    "ascii": "latin-1",  # the server does not check: a byte above 127 stays what it is
    "ucs2": "utf-16-be",
    "utf16": "utf-16-be",
    "utf16le": "utf-16-le",
    "utf32": "utf-32-be",
    "latin2": "iso8859-2",
    "latin5": "iso8859-9",
    "latin7": "iso8859-13",
    "greek": "iso8859-7",
    "hebrew": "iso8859-8",
    "koi8r": "koi8-r",
    "koi8u": "koi8-u",
    "gbk": "gbk",
    "gb2312": "gb2312",
    "gb18030": "gb18030",
    "big5": "big5",
    "sjis": "shift_jis",
    "cp932": "cp932",
    "ujis": "euc_jp",
    "eucjpms": "euc_jp",
    "euckr": "euc_kr",
    "tis620": "tis-620",
    "cp850": "cp850",
    "cp852": "cp852",
    "cp866": "cp866",
    "cp1250": "cp1250",
    "cp1251": "cp1251",
    "cp1256": "cp1256",
    "cp1257": "cp1257",
    "macce": "mac-latin2",
    "macroman": "mac-roman",
}
# MySQL's latin1 is Windows-1252, and the five bytes that Windows leaves open are the control characters of ISO 8859-1.
_LATIN1 = {byte: chr(byte) for byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}
_LATIN1_TABLE = "".join(_LATIN1.get(byte) or bytes([byte]).decode("cp1252") for byte in range(256))


def decode(data: bytes, charset: str) -> str:
    """Raises `ValueError` when the character set is unknown here or the bytes are not of it; its text never holds the data."""
    if charset == "latin1":
        return "".join(map(_LATIN1_TABLE.__getitem__, data))
    codec = _CODECS.get(charset)
    if codec is None:
        raise ValueError(f"the character set {charset} is not known here")
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        raise ValueError(f"its bytes are not valid {charset}") from None
