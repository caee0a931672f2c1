"""TABLE_MAPs as newer servers write them: vectors, invisible and compressed columns, and whose collation is counted."""

from __future__ import annotations

from ingest.tablemap import BINARY, Column, ColumnType, columns, table_map

# MySQL 9.7.4: v VECTOR(3), g POINT, j JSON, name VARCHAR(20), e ENUM('a'), s SET('x'), y YEAR, b BLOB, c CHAR(5), u INT UNSIGNED, k INT key
MYSQL = bytes.fromhex(
    "7e000000000001000573686f7032000174000bf2fff50ffefe0dfcfe03030c0404045000f701f80102fe14ff030101c003083ffcff003ffcff000701"
    "010d0103041901760167016a046e616d65016501730179016201630175016b0a03fcff000503010178060301016108010a0c02ffe0"
)
# MariaDB 11.8.9: the same columns in this order, and behind u: z VARCHAR(100) COMPRESSED, zb BLOB COMPRESSED, i INET6, uu UUID,
# h INT INVISIBLE; k stands last.
MARIADB = bytes.fromhex(
    "12000000000001000573686f703200017400100ffffc0ffefe0dfcfe038d8cfefe0303140c0004045000f701f80102fe14910102fe10fe10ff7f0101"
    "c0020f3f022e03fc000905fc000906fc0009070101042501760167016a046e616d65016501730179016201630175017a027a6201690275750168016b"
    "0a03fc00090503010178060301016108010f"
)
UTF8MB4_0900, UTF8MB4_BIN, UTF8MB4_UCA1400 = 255, 46, 2304


def found(body: bytes, *, mariadb: bool) -> dict[str, Column]:
    return {column.name: column for column in columns(table_map(body[8:]).rest, mariadb, {})}


def test_mysql_counts_a_vectors_collation() -> None:
    table = found(MYSQL, mariadb=False)
    assert list(table) == ["v", "g", "j", "name", "e", "s", "y", "b", "c", "u", "k"]
    assert table["v"] == Column("v", ColumnType.VECTOR, (4, 0))
    assert {name: column.collation for name, column in table.items() if column.collation != BINARY} == dict.fromkeys(
        ["name", "e", "s", "c"], UTF8MB4_0900
    )
    assert [name for name, column in table.items() if column.unsigned] == ["y", "u"]


def test_mariadbs_compressed_columns_are_known_by_their_type() -> None:
    table = found(MARIADB, mariadb=True)
    assert [*table][-6:] == ["z", "zb", "i", "uu", "h", "k"]
    assert table["z"] == Column("z", ColumnType.VARCHAR_COMPRESSED, (401, 0), collation=UTF8MB4_UCA1400)
    assert table["zb"] == Column("zb", ColumnType.BLOB_COMPRESSED, (2, 0))
    assert table["v"] == Column("v", ColumnType.VARCHAR, (12, 0))
    assert table["j"].collation == UTF8MB4_BIN
    assert table["name"].collation == table["c"].collation == table["e"].collation == UTF8MB4_UCA1400
    assert [name for name, column in table.items() if column.unsigned] == ["y", "u"]
