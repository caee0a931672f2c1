"""What a chunk says of every column type, and of keys of every kind: the values of the binlog, in the server's order, each once."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from pymysql.cursors import DictCursor

from ingest import mysql
from ingest.chunks import key_columns, select
from ingest.position import Cursor
from ingest.preflight import require
from ingest.rows import KEY_TYPES
from ingest.selection import EVERYTHING, selected
from pixtail.core.errors import SettingError
from pixtail.core.settings import Settings
from pixtail.servers.sql import SqlServer
from tests.integration.chunks_kit import Chunked, read_all, taken
from tests.integration.test_listener_values import COLUMNS, DOCUMENTS, MYSQL_DOCUMENT, expected, run, statements


def test_every_type_has_the_value_that_the_stream_gives_it(database: SqlServer, unique: str) -> None:
    """The expected values are those that the listener's test finds in the stream."""
    database.create_database(unique)
    chunked = Chunked(database, unique)
    documents = [*DOCUMENTS, MYSQL_DOCUMENT] if database.name == "mysql" else DOCUMENTS
    columns = [(name, kind, documents if name == "doc" else values) for name, kind, values in COLUMNS]
    definitions = ", ".join(f"`{name}` {kind}" for name, kind, _ in columns)
    chunked.sql(f"CREATE TABLE images (id INT PRIMARY KEY, file_path VARCHAR(9), {definitions})")
    run(database, unique, statements(columns, 1))
    rows = [row for chunk in chunked.chunks(max_rows=2) for row in chunk.rows]
    for row, values in zip(rows, expected(columns), strict=True):
        found = {name: row[name] for name in values}
        different = {name: (found[name], values[name]) for name in values if found[name] != values[name]}
        assert not different, f"row {row['id']}: column: (found, expected): {str(different)[:2000]}"
        assert {name: type(value) for name, value in found.items()} == {name: type(values[name]) for name in values}


# Key columns, values as SQL in any order, and the record keys that they must become, in the server's order.
KEYS: dict[str, tuple[str, list[str], list[tuple[Any, ...]]]] = {
    "unsigned beyond 2^63": (
        "a BIGINT UNSIGNED",
        ["18446744073709551615", "0", "9223372036854775808"],
        [(0,), (2**63,), (2**64 - 1,)],
    ),
    "signed": ("a BIGINT", ["5", "-9223372036854775808", "0", "-1"], [(-(2**63),), (-1,), (0,), (5,)]),
    "zerofill": ("a INT(8) ZEROFILL", ["42", "7", "100"], [(7,), (42,), (100,)]),
    "any case and accent": (
        "a VARCHAR(20) COLLATE utf8mb4_general_ci",
        ["'b'", "'Ä'", "'a1'", "'B2'", "'日落🚲'", "'日落'", "'it''s'", "''"],
        [("",), ("Ä",), ("a1",), ("b",), ("B2",), ("it's",), ("日落",), ("日落🚲",)],
    ),
    "padded": ("a VARCHAR(9) COLLATE utf8mb4_general_ci", ["'a '", "'ab'", "'a\\t'"], [("a\t",), ("a ",), ("ab",)]),
    "char": ("a CHAR(9) COLLATE utf8mb4_bin", ["'b'", "'a  '", "'B'"], [("B",), ("a",), ("b",)]),
    "latin1": ("a VARCHAR(9) CHARACTER SET latin1", ["'z'", "0xE9", "0x8081"], [("é",), ("z",), ("€\x81",)]),
    "gbk": (
        "a VARCHAR(9) CHARACTER SET gbk COLLATE gbk_bin",
        ["'车'", "'红'", "'a'", "'色'"],
        [("a",), ("车",), ("红",), ("色",)],
    ),
    "utf16": ("a VARCHAR(9) CHARACTER SET utf16 COLLATE utf16_bin", ["'é'", "'🚲'", "'a'"], [("a",), ("é",), ("🚲",)]),
    "cp932 with doubles": (
        "a VARCHAR(9) CHARACTER SET cp932 COLLATE cp932_bin",
        ["0x8754", "0xFA4A", "0xFA5B", "0x81E6"],
        [
            ("∵",),
            ("Ⅰ",),
            ("Ⅰ",),
            ("∵",),
        ],  # two bytes each, one character in Unicode: no key to rely on, but no endless loop
    ),
    "uuid": (
        "a BINARY(16)",
        [
            "0xFF000000000000000000000000000000",
            "0x00000000000000000000000000000001",
            "0x7F112233445566778899AABBCCDDEE00",
        ],
        [("AAAAAAAAAAAAAAAAAAAAAQ==",), ("fxEiM0RVZneImaq7zN3uAA==",), ("/wAAAAAAAAAAAAAAAAAAAA==",)],
    ),
    "bytes": ("a VARBINARY(9)", ["0x00", "''", "0x0000", "0xFF"], [("",), ("AA==",), ("AAA=",), ("/w==",)]),
    "day": (
        "a DATE",
        ["'2024-02-29'", "'1000-01-01'", "'9999-12-31'"],
        [("1000-01-01",), ("2024-02-29",), ("9999-12-31",)],
    ),
    "moment": (
        "a DATETIME(6)",
        ["'2024-02-29 23:59:58.000001'", "'2024-02-29 23:59:58'"],
        [("2024-02-29T23:59:58.000000",), ("2024-02-29T23:59:58.000001",)],
    ),
    "exact": (
        "a DECIMAL(40,20)",
        ["12345678901234567890.00000000000000000002", "12345678901234567890.00000000000000000001", "-1.5"],
        [
            ("-1.50000000000000000000",),
            ("12345678901234567890.00000000000000000001",),
            ("12345678901234567890.00000000000000000002",),
        ],
    ),
    "two": (
        "b VARCHAR(9) COLLATE utf8mb4_general_ci, a INT",
        ["'x', 2", "'X', 1", "'x', -1", "'w', 9", "'y', 0"],
        [("w", 9), ("x", -1), ("X", 1), ("x", 2), ("y", 0)],
    ),
    "three": (
        "c DATE, b BINARY(2), a BIGINT UNSIGNED",
        [
            "'2024-01-02', 0x0102, 1",
            "'2024-01-01', 0xFFFF, 18446744073709551615",
            "'2024-01-02', 0x0100, 9",
            "'2024-01-02', 0x0102, 0",
        ],
        [
            ("2024-01-01", "//8=", 2**64 - 1),
            ("2024-01-02", "AQA=", 9),
            ("2024-01-02", "AQI=", 0),
            ("2024-01-02", "AQI=", 1),
        ],
    ),
}


@pytest.fixture
def keyed(database: SqlServer, unique: str, request: pytest.FixtureRequest) -> tuple[Chunked, tuple[str, ...]]:
    columns, values, _ = KEYS[request.param]
    database.create_database(unique)
    chunked = Chunked(database, unique)
    key = tuple(column.split()[0] for column in columns.split(", "))
    file_path = "file_path VARCHAR(9) NOT NULL DEFAULT 'p'"  # the key's columns do not stand in key order, nor first
    parts = [file_path, *columns.split(", ")[::-1], f"PRIMARY KEY ({', '.join(key)})"]
    chunked.sql(f"CREATE TABLE images ({', '.join(parts)})")
    chunked.sql(*(f"INSERT INTO images ({', '.join(key)}) VALUES ({value})" for value in values))
    return chunked, key


@pytest.mark.parametrize(
    ("keyed", "wanted"), [(name, wanted) for name, (_, _, wanted) in KEYS.items()], indirect=["keyed"], ids=KEYS
)
def test_keys_of_every_kind_are_read_in_order_each_once(
    keyed: tuple[Chunked, tuple[str, ...]], wanted: list[tuple[Any, ...]]
) -> None:
    chunked, key = keyed
    require(Settings(mysql={"url": chunked.settings.url}, table={"name": "images", "key": list(key)}))
    chunks = chunked.chunks(key, max_rows=1)
    assert [tuple(row[name] for name in key) for chunk in chunks for row in chunk.rows] == wanted
    assert_range(chunked, key, chunks[0].after)


def assert_range(chunked: Chunked, key: tuple[str, ...], after: Cursor | None) -> None:
    """The server finds the rows behind a key by its index."""
    _, table = chunked.look()
    statement = select(table, key_columns(table, key), EVERYTHING, after, 100)
    with closing(mysql.connect(chunked.address, cursorclass=DictCursor)) as connection, connection.cursor() as cursor:
        cursor.execute("EXPLAIN " + statement)
        (plan,) = cursor.fetchall()
    assert (plan["type"], plan["key"]) == ("range", "PRIMARY")
    assert "filesort" not in plan["Extra"]


@pytest.mark.parametrize("keyed", ["any case and accent", "gbk", "uuid", "moment", "exact", "three"], indirect=True)
def test_rows_are_selected_by_their_record_keys(keyed: tuple[Chunked, tuple[str, ...]]) -> None:
    chunked, key = keyed
    rows = [tuple(row[name] for name in key) for chunk in chunked.chunks(key) for row in chunk.rows]
    chosen = selected(ids=rows[1:])
    found = [
        tuple(row[name] for name in key)
        for chunk in chunked.chunks(key, selection=chosen, max_rows=2)
        for row in chunk.rows
    ]
    assert found == rows[1:]


def test_every_type_that_a_key_may_have_is_proved() -> None:
    proved = {
        part.split()[1].split("(")[0].lower()
        for columns, _, _ in KEYS.values()
        for part in columns.split(", ")
        if " " in part
    }
    assert KEY_TYPES - {"tinyint", "smallint", "mediumint"} <= proved


def test_chunks_of_a_key_of_two_columns_cost_what_their_rows_cost(mysql: SqlServer, unique: str) -> None:
    """(a, b) > (x, y) would read the index from its start for each chunk."""
    mysql.create_database(unique)
    chunked = Chunked(mysql, unique)
    chunked.sql("CREATE TABLE images (a INT, b INT, PRIMARY KEY (a, b))", "INSERT INTO images VALUES (0, 0), (0, 1)")
    for step in range(12):
        chunked.sql(f"INSERT INTO images SELECT (a * 7 + {step}) % 19, b + {2 << step} FROM images")
    with chunked.reader(("a", "b"), max_rows=500) as reader:
        start = chunked.now()
        taken(reader, None, start)
        assert reader._connection is not None
        count = "SHOW SESSION STATUS LIKE 'Handler_read_next'"
        before = int(mysql_status(reader._connection, count))
        read = sum(len(chunk.rows) for chunk in read_all(reader, start))
        assert read == 2 << 12
        assert int(mysql_status(reader._connection, count)) - before < 2 * read


def mysql_status(connection: Any, statement: str) -> str:
    return str(mysql.query(connection, statement)[0][1])


def test_a_key_that_is_not_the_primary_key_is_refused_with_the_one_that_is(database: SqlServer, unique: str) -> None:
    database.create_database(unique)
    chunked = Chunked(database, unique)
    chunked.sql("CREATE TABLE images (a INT, b INT, file_path VARCHAR(9), PRIMARY KEY (b, a))")
    for wrong in (["a"], ["a", "b"], ["b", "a", "file_path"]):
        with pytest.raises(SettingError, match="primary key") as caught:
            require(Settings(mysql={"url": chunked.settings.url}, table={"key": wrong}))
        assert caught.value.remedy == 'Set table.key = ["b", "a"]'
