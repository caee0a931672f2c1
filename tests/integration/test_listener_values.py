"""Every column type comes out the same, whether the snapshot or the stream read it, on MySQL and on MariaDB."""

from __future__ import annotations

from typing import Any

from pixtail.core.changes import Change, Op
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.sql import SqlServer
from tests.integration.listener_kit import Source

LATIN1_BYTES = "0xE9818D80"  # é, two bytes that Windows-1252 leaves open, €

# Column, type, values as SQL, and what they must become. NULL is added to each.
COLUMNS: list[tuple[str, str, list[tuple[str, Any]]]] = [
    ("born", "YEAR", [("1999", 1999), ("0", 0)]),  # before the integers: signedness is counted over numeric columns
    ("tiny", "TINYINT", [("-128", -128)]),
    ("utiny", "TINYINT UNSIGNED", [("255", 255)]),
    ("small", "SMALLINT UNSIGNED", [("65535", 65535)]),
    ("medium", "MEDIUMINT", [("-8388608", -8388608)]),
    ("umedium", "MEDIUMINT UNSIGNED", [("16777215", 16777215)]),
    ("uint", "INT UNSIGNED", [("4000000000", 4000000000)]),
    ("big", "BIGINT", [("-9223372036854775808", -(2**63))]),
    ("ubig", "BIGINT UNSIGNED", [("18446744073709551615", 2**64 - 1)]),
    ("filled", "INT(8) ZEROFILL", [("42", 42)]),
    ("yes", "BOOLEAN", [("TRUE", 1)]),
    ("single_", "FLOAT", [("0.1", 0.1), ("16777217", 16777216.0), ("-1.5e-10", -1.5e-10)]),
    ("double_", "DOUBLE", [("0.1", 0.1), ("1e300", 1e300)]),
    ("price", "DECIMAL(12,2)", [("-1234567890.50", "-1234567890.50"), ("0.07", "0.07"), ("0", "0.00")]),
    ("long_", "DECIMAL(65,30)", [("-12345678901234567890.000000000000000000000000000001",) * 2]),
    ("whole", "DECIMAL(10,0)", [("-7", "-7")]),
    ("share", "DECIMAL(4,4)", [("-0.0123", "-0.0123")]),
    ("bits", "BIT(1)", [("b'1'", 1)]),
    ("bits12", "BIT(12)", [("b'100000000001'", 2049)]),
    ("bits64", "BIT(64)", [("18446744073709551615", 2**64 - 1)]),
    ("day", "DATE", [("'2024-02-29'", "2024-02-29"), ("'0000-00-00'", None), ("'2024-00-10'", None)]),
    ("at", "DATETIME", [("'2024-02-29 23:59:58'", "2024-02-29T23:59:58"), ("'0000-00-00 00:00:00'", None)]),
    ("at3", "DATETIME(3)", [("'1000-01-01 00:00:00.120'", "1000-01-01T00:00:00.120")]),
    ("at6", "DATETIME(6)", [("'9999-12-31 23:59:59.000001'", "9999-12-31T23:59:59.000001")]),
    ("stamp", "TIMESTAMP NULL", [("'2024-06-30 12:00:00'", "2024-06-30T10:00:00Z"), ("'0000-00-00 00:00:00'", None)]),
    ("stamp5", "TIMESTAMP(5) NULL", [("'2024-06-30 12:00:00.00012'", "2024-06-30T10:00:00.00012Z")]),
    ("clock", "TIME", [("'-838:59:59'", "-838:59:59"), ("'00:00:07'", "00:00:07")]),
    ("clock1", "TIME(1)", [("'-00:00:01.5'", "-00:00:01.5")]),
    ("clock4", "TIME(4)", [("'-100:00:00.0001'", "-100:00:00.0001")]),
    ("clock6", "TIME(6)", [("'-00:00:00.000001'", "-00:00:00.000001"), ("'12:34:56.789012'", "12:34:56.789012")]),
    ("char_", "CHAR(10)", [("'自行车'", "自行车"), ("''", "")]),
    ("wide", "CHAR(255)", [("'z'", "z")]),
    ("text_", "VARCHAR(300)", [("'日落 🚲'", "日落 🚲"), ("' end '", " end ")]),
    ("latin", "VARCHAR(20) CHARACTER SET latin1", [(LATIN1_BYTES, "é\x81\x8d€")]),
    ("chinese", "VARCHAR(20) CHARACTER SET gbk", [("'红色汽车'", "红色汽车")]),
    ("sixteen", "VARCHAR(20) CHARACTER SET utf16", [("'é🚲'", "é🚲")]),
    ("ucs", "TEXT CHARACTER SET ucs2", [("'é'", "é")]),
    ("long_text", "LONGTEXT", [("'x'", "x")]),
    ("bytes_", "BINARY(4)", [("0x0A00", "CgAAAA=="), ("0x00000000", "AAAAAA==")]),
    ("varbytes", "VARBINARY(300)", [("0x00FF00", "AP8A"), ("''", "")]),
    ("blob_", "BLOB", [("0xFFFE", "//4=")]),
    ("place", "POINT", [("ST_GeomFromText('POINT(1 2)')", "AAAAAAEBAAAAAAAAAAAA8D8AAAAAAAAAQA==")]),
    ("state_", "ENUM('draft','published','')", [("'published'", "published"), ("''", "")]),
    ("gbk_state", "ENUM('草稿','发布') CHARACTER SET gbk", [("'发布'", "发布")]),
    ("tags", "SET('a','b','c','d','e','f','g','h','i')", [("'i,a'", "a,i"), ("''", "")]),
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
