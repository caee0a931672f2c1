"""Every column type comes out the same, whether the snapshot or the stream read it, on MySQL and on MariaDB."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from ingest import charsets
from ingest.preflight import require
from pixtail.core.changes import Change, Op
from pixtail.core.errors import SourceError
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.sql import SqlServer
from tests.integration.listener_kit import Source, wait_for

LATIN1_BYTES = "0xE9818D80"  # é, two bytes that Windows-1252 leaves open, €

MANY = [f"m{number}" for number in range(300)]  # an ENUM of more than 255 members takes two bytes
ALL = [f"s{number}" for number in range(64)]  # a SET may have so many

# Column, type, values as SQL, and what they must become. NULL is added to each.
COLUMNS: list[tuple[str, str, list[tuple[str, Any]]]] = [
    # before the integers: signedness is counted over numeric columns
    ("born", "YEAR", [("1999", 1999), ("0", 0), ("1901", 1901), ("2155", 2155)]),
    ("tiny", "TINYINT", [("-128", -128), ("127", 127)]),
    ("utiny", "TINYINT UNSIGNED", [("255", 255), ("0", 0)]),
    ("small", "SMALLINT UNSIGNED", [("65535", 65535)]),
    ("ssmall", "SMALLINT", [("-32768", -32768), ("32767", 32767)]),
    ("medium", "MEDIUMINT", [("-8388608", -8388608), ("8388607", 8388607), ("-1", -1)]),
    ("umedium", "MEDIUMINT UNSIGNED", [("16777215", 16777215)]),
    ("int_", "INT", [("-2147483648", -(2**31)), ("2147483647", 2**31 - 1)]),
    ("uint", "INT UNSIGNED", [("4000000000", 4000000000), ("4294967295", 2**32 - 1)]),
    ("big", "BIGINT", [("-9223372036854775808", -(2**63)), ("9223372036854775807", 2**63 - 1)]),
    ("ubig", "BIGINT UNSIGNED", [("18446744073709551615", 2**64 - 1), ("9223372036854775808", 2**63)]),
    ("filled", "INT(8) ZEROFILL", [("42", 42)]),
    ("filled_price", "DECIMAL(8,3) ZEROFILL", [("7.5", "7.500")]),
    ("filled_double", "DOUBLE ZEROFILL", [("7.5", 7.5)]),
    ("yes", "BOOLEAN", [("TRUE", 1)]),
    (
        "single_",
        "FLOAT",
        [
            ("0.1", 0.1),
            ("16777217", 16777216.0),
            ("-1.5e-10", -1.5e-10),
            ("3.402823466e38", 3.4028235e38),
            ("1.17549435e-38", 1.1754944e-38),
        ],
    ),
    ("usingle", "FLOAT UNSIGNED", [("123456.789", 123456.79), ("0.3", 0.3)]),
    ("fixed_single", "FLOAT(7,3)", [("1234.5678", 1234.568)]),
    (
        "double_",
        "DOUBLE",
        [
            ("0.1", 0.1),
            ("1e300", 1e300),
            ("1.7976931348623157e308", 1.7976931348623157e308),
            ("-2.2250738585072014e-308", -2.2250738585072014e-308),
        ],
    ),
    ("fixed_double", "DOUBLE(10,2)", [("-12345.678", -12345.68)]),
    (
        "price",
        "DECIMAL(12,2)",
        [("-1234567890.50", "-1234567890.50"), ("0.07", "0.07"), ("0", "0.00"), ("-0.01", "-0.01")],
    ),
    ("long_", "DECIMAL(65,30)", [("-12345678901234567890.000000000000000000000000000001",) * 2]),
    ("longest", "DECIMAL(65,0)", [("9" * 65,) * 2, ("-" + "9" * 65,) * 2]),
    ("fraction", "DECIMAL(30,30)", [("0." + "9" * 30,) * 2, ("-0." + "0" * 29 + "1",) * 2]),
    ("uprice", "DECIMAL(10,5) UNSIGNED", [("99999.99999",) * 2]),
    ("whole", "DECIMAL(10,0)", [("-7", "-7")]),
    ("share", "DECIMAL(4,4)", [("-0.0123", "-0.0123")]),
    ("bits", "BIT(1)", [("b'1'", 1)]),
    *(
        (f"bits{n}", f"BIT({n})", [(f"(1 << {n - 1}) | 1", (1 << n - 1) | 1), ("0", 0)])
        for n in (7, 8, 9, 16, 17, 31, 33, 48, 63)
    ),
    ("bits12", "BIT(12)", [("b'100000000001'", 2049)]),
    ("bits64", "BIT(64)", [("18446744073709551615", 2**64 - 1)]),
    (
        "day",
        "DATE",
        [
            ("'2024-02-29'", "2024-02-29"),
            ("'0000-00-00'", None),
            ("'2024-00-10'", None),
            ("'0001-01-01'", "0001-01-01"),
            ("'9999-12-31'", "9999-12-31"),
        ],
    ),
    ("at", "DATETIME", [("'2024-02-29 23:59:58'", "2024-02-29T23:59:58"), ("'0000-00-00 00:00:00'", None)]),
    ("at3", "DATETIME(3)", [("'1000-01-01 00:00:00.120'", "1000-01-01T00:00:00.120"), ("'0000-00-00 00:00:00'", None)]),
    ("at6", "DATETIME(6)", [("'9999-12-31 23:59:59.000001'", "9999-12-31T23:59:59.000001")]),
    *(
        (f"at{n}", f"DATETIME({n})", [("'2024-01-02 03:04:05.102030'", "2024-01-02T03:04:05.102030"[: 20 + n])])
        for n in (1, 2, 4, 5)
    ),
    (
        "stamp",
        "TIMESTAMP NULL",
        [
            ("'2024-06-30 12:00:00'", "2024-06-30T10:00:00Z"),
            ("'0000-00-00 00:00:00'", None),
            ("'1970-01-01 02:00:01'", "1970-01-01T00:00:01Z"),
        ],
    ),
    (
        "stamp5",
        "TIMESTAMP(5) NULL",
        [("'2024-06-30 12:00:00.00012'", "2024-06-30T10:00:00.00012Z"), ("'0000-00-00 00:00:00'", None)],
    ),
    ("stamp6", "TIMESTAMP(6) NULL", [("'2038-01-19 05:14:07.999999'", "2038-01-19T03:14:07.999999Z")]),
    *(
        (
            f"stamp{n}",
            f"TIMESTAMP({n}) NULL",
            [("'2024-01-02 03:04:05.102030'", "2024-01-02T01:04:05.102030"[: 20 + n] + "Z")],
        )
        for n in (1, 2, 3, 4)
    ),
    ("clock", "TIME", [("'-838:59:59'", "-838:59:59"), ("'00:00:07'", "00:00:07"), ("'838:59:59'", "838:59:59")]),
    ("clock1", "TIME(1)", [("'-00:00:01.5'", "-00:00:01.5"), ("'00:00:00'", "00:00:00.0")]),
    ("clock4", "TIME(4)", [("'-100:00:00.0001'", "-100:00:00.0001")]),
    ("clock6", "TIME(6)", [("'-00:00:00.000001'", "-00:00:00.000001"), ("'12:34:56.789012'", "12:34:56.789012")]),
    *(
        (
            f"clock{n}",
            f"TIME({n})",
            [("'-11:59:59.102030'", "-11:59:59.102030"[: 10 + n]), ("'7:00:00.5'", "07:00:00.500000"[: 9 + n])],
        )
        for n in (2, 3, 5)
    ),
    ("char_", "CHAR(10)", [("'自行车'", "自行车"), ("''", "")]),
    ("wide", "CHAR(255)", [("'z'", "z")]),
    ("text_", "VARCHAR(300)", [("'日落 🚲'", "日落 🚲"), ("' end '", " end ")]),
    ("latin", "VARCHAR(20) CHARACTER SET latin1", [(LATIN1_BYTES, "é\x81\x8d€")]),
    ("latin_char", "CHAR(20) CHARACTER SET latin1", [("'é'", "é")]),
    ("latin_text", "TEXT CHARACTER SET latin1", [("'€'", "€")]),
    (
        "chinese",
        "VARCHAR(20) CHARACTER SET gbk",
        [("'红色汽车'", "红色汽车"), ("0xAAA1C4E3", "?你")],
    ),  # the first is unassigned
    ("chinese_char", "CHAR(9) CHARACTER SET gbk", [("'车'", "车")]),
    ("taiwan", "VARCHAR(20) CHARACTER SET big5", [("'紅色'", "紅色"), ("0xF9D6", "碁")]),
    ("japan", "VARCHAR(20) CHARACTER SET sjis", [("0x8ED4815F", "車\\")]),
    ("japan_ujis", "VARCHAR(20) CHARACTER SET ujis", [("'車'", "車"), ("0xF5A1", "\ue000")]),
    ("japan_932", "VARCHAR(20) CHARACTER SET cp932", [("'①髙'", "①髙")]),
    ("korea", "VARCHAR(20) CHARACTER SET euckr", [("'자전거뷁'", "자전거뷁")]),
    ("russia", "VARCHAR(20) CHARACTER SET cp1251", [("'Да'", "Да")]),
    ("koi", "VARCHAR(20) CHARACTER SET koi8r", [("'Да'", "Да")]),
    ("greece", "VARCHAR(20) CHARACTER SET greek", [("'Ναι'", "Ναι")]),
    ("israel", "VARCHAR(20) CHARACTER SET hebrew", [("'כן'", "כן")]),
    ("thai", "VARCHAR(20) CHARACTER SET tis620", [("'รถ'", "รถ")]),
    ("sweden", "VARCHAR(20) CHARACTER SET swe7", [("'ÅÄÖ'", "ÅÄÖ")]),
    ("three", "VARCHAR(20) CHARACTER SET utf8", [("'自é'", "自é")]),
    ("seven", "VARCHAR(20) CHARACTER SET ascii", [("'a~'", "a~")]),
    ("sixteen", "VARCHAR(20) CHARACTER SET utf16", [("'é🚲'", "é🚲")]),
    ("sixteen_char", "CHAR(5) CHARACTER SET utf16", [("'é🚲'", "é🚲"), ("''", "")]),
    ("sixteen_le", "VARCHAR(20) CHARACTER SET utf16le", [("'é🚲'", "é🚲")]),
    ("thirty_two", "VARCHAR(20) CHARACTER SET utf32", [("'é🚲'", "é🚲")]),
    ("ucs", "TEXT CHARACTER SET ucs2", [("'é'", "é")]),
    ("bin", "VARCHAR(20) COLLATE utf8mb4_bin", [("'é'", "é")]),
    ("tiny_text", "TINYTEXT", [("'é'", "é"), ("''", "")]),
    ("medium_text", "MEDIUMTEXT", [("REPEAT('é', 40000)", "é" * 40000)]),
    ("long_text", "LONGTEXT", [("'x'", "x")]),
    ("bytes_", "BINARY(4)", [("0x0A00", "CgAAAA=="), ("0x00000000", "AAAAAA=="), ("0x2020", "ICAAAA==")]),
    ("wide_bytes", "BINARY(255)", [("0x01", base64.b64encode(b"\1" + bytes(254)).decode())]),
    ("varbytes", "VARBINARY(300)", [("0x00FF00", "AP8A"), ("''", "")]),
    ("short_varbytes", "VARBINARY(9)", [("0x0000", "AAA=")]),
    ("blob_", "BLOB", [("0xFFFE", "//4=")]),
    ("tiny_blob", "TINYBLOB", [("0x00", "AA=="), ("''", "")]),
    ("medium_blob", "MEDIUMBLOB", [("0xFF", "/w==")]),
    ("long_blob", "LONGBLOB", [("0xFE00", "/gA=")]),
    ("place", "POINT", [("ST_GeomFromText('POINT(1 2)')", "AAAAAAEBAAAAAAAAAAAA8D8AAAAAAAAAQA==")]),
    ("any_place", "GEOMETRY", [("ST_GeomFromText('POINT(1 2)', 0)", "AAAAAAEBAAAAAAAAAAAA8D8AAAAAAAAAQA==")]),
    ("state_", "ENUM('draft','published','')", [("'published'", "published"), ("''", "")]),
    ("gbk_state", "ENUM('草稿','发布') CHARACTER SET gbk", [("'发布'", "发布")]),
    ("utf16_state", "ENUM('é','🚲') CHARACTER SET utf16", [("'🚲'", "🚲")]),
    ("many_states", f"ENUM({str(MANY)[1:-1]})", [("'m299'", "m299"), ("'m0'", "m0"), ("'nonsense'", "")]),
    ("tags", "SET('a','b','c','d','e','f','g','h','i')", [("'i,a'", "a,i"), ("''", "")]),
    ("all_tags", f"SET({str(ALL)[1:-1]})", [("'s63,s0'", "s0,s63"), ("18446744073709551615", ",".join(ALL))]),
    ("doc", "JSON", []),
    ("doubled", "INT GENERATED ALWAYS AS (tiny * 2) STORED", []),
    ("halved", "VARCHAR(9) GENERATED ALWAYS AS (concat('v', utiny)) VIRTUAL", []),
]
DOCUMENTS: list[tuple[str, Any]] = [
    (
        """'{"a": {}, "b": [1, -2, 3.5, true, null, "ü🚲", {"k": 18446744073709551615}]}'""",
        {"a": {}, "b": [1, -2, 3.5, True, None, "ü🚲", {"k": 2**64 - 1}]},
    ),
    ("""'"text"'""", "text"),
    ("'null'", None),
    ("'-70000'", -70000),
    ("'[-9000000000, 70000, 1e100, 2147483648]'", [-9000000000, 70000, 1e100, 2147483648]),
    (
        """CONCAT('{"long": "', REPEAT('x', 70000), '", "one": 1, "big": 70000}')""",
        {"long": "x" * 70000, "one": 1, "big": 70000},
    ),
]
MYSQL_DOCUMENT = (
    "JSON_OBJECT('day', CAST('2020-01-02' AS DATE), 'at', CAST('2020-01-02 03:04:05.5' AS DATETIME(6)),"
    " 'clock', CAST('-10:11:12.5' AS TIME(6)), 'price', CAST(-1.50 AS DECIMAL(5,2)), 'bytes', CAST('ab' AS BINARY))",
    {
        "day": "2020-01-02",
        "at": "2020-01-02 03:04:05.500000",
        "clock": "-10:11:12.500000",
        "price": -1.5,
        "bytes": "base64:type15:YWI=",
    },
)


def statements(columns: list[tuple[str, str, list[tuple[str, Any]]]], first_id: int) -> list[str]:
    """One INSERT for each round of values; a column that has run out of them gets NULL, and the last row is all NULL."""
    rounds = 1 + max(len(values) for _, _, values in columns)
    written = [(name, values) for name, kind, values in columns if "GENERATED" not in kind]
    names = ", ".join(name for name, _ in written)
    rows = (", ".join(values[i][0] if i < len(values) else "NULL" for _, values in written) for i in range(rounds))
    return [
        f"INSERT INTO images (id, file_path, {names}) VALUES ({first_id + i}, 'p', {row})" for i, row in enumerate(rows)
    ]


def expected(columns: list[tuple[str, str, list[tuple[str, Any]]]]) -> list[dict[str, Any]]:
    rounds = 1 + max(len(values) for _, _, values in columns)
    rows = [{name: values[i][1] if i < len(values) else None for name, _, values in columns} for i in range(rounds)]
    for row in rows:
        row["doubled"] = None if row["tiny"] is None else 2 * row["tiny"]
        row["halved"] = None if row["utiny"] is None else f"v{row['utiny']}"
    return rows


def run(server: SqlServer, name: str, inserts: list[str]) -> None:
    """In a session whose time zone is not UTC and whose sql_mode lets zero dates pass."""
    with server.connect(name, charset="utf8mb4") as connection, connection.cursor() as cursor:
        cursor.execute("SET time_zone = '+02:00', sql_mode = ''")
        for statement in inserts:
            cursor.execute(statement)


def test_every_type_has_the_same_value_from_the_snapshot_and_from_the_stream(
    database: SqlServer, kafka: KafkaServer, unique: str
) -> None:
    documents = [*DOCUMENTS, MYSQL_DOCUMENT] if database.name == "mysql" else DOCUMENTS
    columns = [(name, kind, documents if name == "doc" else values) for name, kind, values in COLUMNS]
    source = Source(database, kafka, unique)
    definitions = ", ".join(f"`{name}` {kind}" for name, kind, _ in columns)
    source.sql(f"CREATE TABLE images (id INT PRIMARY KEY, file_path VARCHAR(9), {definitions})")
    wanted = expected(columns)
    run(database, unique, statements(columns, 1))
    with source.listening() as listening:
        listening.wait_until_ready()
        run(database, unique, statements(columns, 101))
        entries = source.wait_for_entries(2 * len(wanted))
    read = [entry for entry in entries if isinstance(entry, Change)]
    for op, first_id in ((Op.READ, 1), (Op.CREATE, 101)):
        rows = {entry.key["id"]: entry.after for entry in read if entry.op is op}
        for i, values in enumerate(wanted):
            found = dict(rows[first_id + i] or {})
            assert found.pop("id") == first_id + i
            assert found.pop("file_path") == "p"
            different = {name: (found[name], values[name]) for name in values if found[name] != values[name]}
            assert not different, f"{op.name}, row {i}: column: (found, expected): {str(different)[:2000]}"
            assert {name: type(found[name]) for name in values} == {name: type(values[name]) for name in values}


# Attributes of columns

COMPRESSIBLE = [
    ("texts", "VARCHAR(2000) COMPRESSED", "REPEAT('é🚲', 300)", "é🚲" * 300),
    ("latin_texts", "VARCHAR(9000) COMPRESSED CHARACTER SET latin1", "REPEAT('é', 9000)", "é" * 9000),
    ("short_texts", "VARCHAR(60) COMPRESSED", "REPEAT('x', 60)", "x" * 60),
    ("text_", "TEXT COMPRESSED", "REPEAT('x', 60000)", "x" * 60000),
    ("tiny_text", "TINYTEXT COMPRESSED", "REPEAT('x', 200)", "x" * 200),
    ("long_text", "LONGTEXT COMPRESSED", "REPEAT('é', 200000)", "é" * 200000),
    ("wide_text", "MEDIUMTEXT COMPRESSED CHARACTER SET utf16", "REPEAT('é', 2000)", "é" * 2000),
    ("bytes_", "VARBINARY(3000) COMPRESSED", "REPEAT(0x00, 3000)", base64.b64encode(bytes(3000)).decode()),
    ("blob_", "BLOB COMPRESSED", "REPEAT(0xFF, 3000)", base64.b64encode(b"\xff" * 3000).decode()),
    ("doc", "JSON COMPRESSED", """CONCAT('{"a": "', REPEAT('é', 2000), '"}')""", {"a": "é" * 2000}),
]


def test_compressed_columns(mariadb: SqlServer, kafka: KafkaServer, unique: str) -> None:
    """Values that are compressed, with zlib's header and without, and values too short for it."""
    source = Source(mariadb, kafka, unique)
    definitions = ", ".join(f"{name} {kind}" for name, kind, _, _ in COMPRESSIBLE)
    source.sql(
        f"CREATE TABLE images (id INT PRIMARY KEY, file_path VARCHAR(9) COMPRESSED, {definitions}, last INT UNSIGNED)"
    )
    long = ", ".join(sql for _, _, sql, _ in COMPRESSIBLE)
    short = ", ".join("'{}'" if name == "doc" else "'s'" for name, _, _, _ in COMPRESSIBLE)
    empty = ", ".join("'{}'" if name == "doc" else "''" for name, _, _, _ in COMPRESSIBLE)
    none = ", ".join("NULL" for _ in COMPRESSIBLE)

    def inserts(first_id: int) -> list[str]:
        rows = [f"({first_id + i}, 'p', {values}, 4000000000)" for i, values in enumerate((long, short, empty, none))]
        return ["SET column_compression_zlib_wrap = ON", f"INSERT INTO images VALUES {', '.join(rows)}"]

    run(mariadb, unique, inserts(1))
    with source.listening() as listening:
        listening.wait_until_ready()
        run(mariadb, unique, inserts(11)[1:])
        run(mariadb, unique, inserts(21))
        wait_for(lambda: listening.failure or len(source.entries()) == 12, "all rows")
    entries = source.entries()
    rows = {entry.key["id"]: entry.after for entry in entries if isinstance(entry, Change)}
    for first_id in (1, 11, 21):
        for offset, wanted in enumerate(compressible_rows()):
            assert rows[first_id + offset] == {"id": first_id + offset, "file_path": "p", **wanted, "last": 4000000000}


def compressible_rows() -> Iterator[dict[str, Any]]:
    yield {name: value for name, _, _, value in COMPRESSIBLE}
    for text in ("s", ""):
        encoded = base64.b64encode(text.encode()).decode()
        yield {
            name: {} if name == "doc" else encoded if name in ("blob_", "bytes_") else text
            for name, _, _, _ in COMPRESSIBLE
        }
    yield {name: None for name, _, _, _ in COMPRESSIBLE}


def test_invisible_columns(mariadb: SqlServer, kafka: KafkaServer, unique: str) -> None:
    source = Source(mariadb, kafka, unique)
    source.sql(
        "CREATE TABLE images (id INT PRIMARY KEY, file_path TEXT, hidden INT INVISIBLE DEFAULT 3, shown INT DEFAULT 4)"
    )
    source.sql("INSERT INTO images (id, file_path) VALUES (1, 'p')")
    with source.listening() as listening:
        listening.wait_until_ready()
        source.sql("INSERT INTO images (id, file_path) VALUES (2, 'p')")
        entries = source.wait_for_entries(2)
    read = [entry.after for entry in entries if isinstance(entry, Change)]
    assert read == [{"id": key, "file_path": "p", "hidden": 3, "shown": 4} for key in (1, 2)]


@pytest.mark.parametrize(
    ("column", "table", "remedy"),
    [
        ("INET6", "", "VARCHAR(39)"),
        ("INET4", "", "VARCHAR(39)"),
        ("UUID", "", "VARCHAR(39)"),
        ("INT", "WITH SYSTEM VERSIONING", "DROP SYSTEM VERSIONING"),
        ("DATETIME(3)", "COMMENT = 'old'", "FORCE"),
    ],
    ids=["inet6", "inet4", "uuid", "system versioning", "temporal format of MariaDB 5.3"],
)
def test_what_the_binlog_does_not_tell_exactly_is_refused_at_the_start(
    mariadb: SqlServer, kafka: KafkaServer, unique: str, column: str, table: str, remedy: str
) -> None:
    """UUID and INET look like BINARY in it. A row of a versioned table's history looks like a row. Old times come without their digits."""
    source = Source(mariadb, kafka, unique)
    try:
        mariadb.execute(f"SET GLOBAL mysql56_temporal_format = {'OFF' if 'old' in table else 'ON'}")
        source.sql(f"CREATE TABLE images (id INT PRIMARY KEY, file_path TEXT, x {column}) {table}")
    finally:
        mariadb.execute("SET GLOBAL mysql56_temporal_format = ON")
    with pytest.raises(SourceError) as caught:
        require(source.settings)
    assert remedy in caught.value.remedy


# Characters

SINGLE = (
    "ascii latin1 latin2 latin5 latin7 greek hebrew koi8r koi8u tis620 cp850 cp852 cp866 cp1250 cp1251 cp1256 cp1257"
    " macce macroman hp8 dec8 swe7 keybcs2 armscii8 geostd8"
)
DOUBLE = "gbk gb2312 big5 sjis cp932 ujis euckr"
CHARSETS = dict.fromkeys(SINGLE.split(), 1) | dict.fromkeys(DOUBLE.split(), 2)


def test_every_character_is_what_the_server_shows(mariadb: SqlServer, unique: str) -> None:
    """One byte and two, in every character set (MySQL's are the same, seen)."""
    mariadb.create_database(unique)
    with mariadb.connect(unique, charset="utf8mb4") as connection, connection.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        cursor.execute("SET SESSION sql_log_bin = 0")
        cursor.execute("CREATE TABLE strings (b VARBINARY(2) PRIMARY KEY) ENGINE=MyISAM")
        cursor.execute("INSERT INTO strings SELECT CHAR(seq USING binary) FROM seq_0_to_255")
        cursor.execute("INSERT INTO strings SELECT CHAR(seq USING binary) FROM seq_32768_to_65535")
        for charset, most in CHARSETS.items():
            cursor.execute(
                f"SELECT b, CONVERT(CONVERT(b USING {charset}) USING utf8mb4) FROM strings"
                f" WHERE LENGTH(b) <= {most} AND HEX(b) = HEX(CONVERT(b USING {charset}))"
            )
            shown = {data: text for data, text in cursor.fetchall() if text and "\ufffd" not in text}
            assert len(shown) >= 240
            different = {
                data.hex(): (decoded(data, charset), text)
                for data, text in shown.items()
                if decoded(data, charset) != text
            }
            assert not different, charset


def decoded(data: bytes, charset: str) -> str:
    try:
        return charsets.decode(data, charset)
    except ValueError:
        return "undecodable"
