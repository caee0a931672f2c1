"""The table changes its shape while rows are written: no stop, and the topic holds each row as SELECT said when it was last written."""

from __future__ import annotations

import base64
import json
import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, TypeAlias

import pytest
from pymysql.converters import conversions
from pymysql.err import IntegrityError, OperationalError

from ingest.preflight import require
from pixtail.core.changes import Change, Op
from pixtail.core.errors import SettingError
from pixtail.core.settings import Table
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.mariadb import MariadbServer
from pixtail.servers.sql import SqlServer
from tests.conftest import serve
from tests.integration.listener_kit import Listening, Source, wait_for

Row: TypeAlias = dict[str, Any]

IMAGES = """
    CREATE TABLE images (
        id INT AUTO_INCREMENT PRIMARY KEY, file_path VARCHAR(200) NOT NULL, n INT, title VARCHAR(60), mood ENUM('calm', 'loud'),
        tags SET('a', 'b'), amount INT UNSIGNED, price DECIMAL(8, 2), made YEAR, born DATETIME, note TEXT, raw VARBINARY(20)
    ) CHARACTER SET utf8mb4
"""
BEFORE_AND_AFTER = 8  # transactions of the writer
DEADLOCK, TABLE_CHANGED = 1213, 1412
DUPLICATE = 1062  # MariaDB 10.11 now and then gives an AUTO_INCREMENT number twice after COALESCE PARTITION
PATIENCE = "SET lock_wait_timeout = 20"  # seconds; without it a statement would wait a day for another session
DECODERLESS = {kind: encode for kind, encode in conversions.items() if not isinstance(kind, int)}

COLUMNS_COME_AND_GO = [
    "ALTER TABLE images ADD COLUMN first INT DEFAULT 7 FIRST",
    "ALTER TABLE images ADD COLUMN middle VARCHAR(20) DEFAULT 'é' AFTER file_path",
    "ALTER TABLE images ADD COLUMN last DATETIME(3) NULL, ADD COLUMN doc JSON",
    "ALTER TABLE images DROP COLUMN middle",
    "ALTER TABLE images RENAME COLUMN title TO caption",
    "ALTER TABLE images MODIFY n INT AFTER mood, MODIFY price DECIMAL(8, 2) FIRST",
    "ALTER TABLE images ADD COLUMN twice BIGINT GENERATED ALWAYS AS (n * 2) VIRTUAL AFTER id",
    "ALTER TABLE images ADD COLUMN named VARCHAR(80) GENERATED ALWAYS AS (CONCAT('v', n)) STORED",
    "ALTER TABLE images ADD COLUMN late INT UNSIGNED NOT NULL DEFAULT 4000000000, ALGORITHM=INSTANT",
    "ALTER TABLE images DROP COLUMN twice, DROP COLUMN first, ADD COLUMN first TEXT",
    "ALTER TABLE images RENAME COLUMN amount TO price, RENAME COLUMN price TO amount",
]
ON_MARIADB_ONLY = [
    "ALTER TABLE images ADD COLUMN between_ SMALLINT DEFAULT -1 AFTER id, ALGORITHM=INSTANT",
    "ALTER TABLE images DROP COLUMN between_, ALGORITHM=INSTANT",
    "ALTER TABLE images ADD COLUMN hidden INT INVISIBLE DEFAULT 3",
]
TYPES_CHANGE = [
    "ALTER TABLE images MODIFY n BIGINT",
    "ALTER TABLE images MODIFY n INT UNSIGNED, MODIFY amount INT",
    "ALTER TABLE images MODIFY n DECIMAL(20, 3), MODIFY amount VARCHAR(20)",
    "ALTER TABLE images MODIFY title VARCHAR(200)",  # its length takes one byte still
    "ALTER TABLE images MODIFY title VARCHAR(300)",
    "ALTER TABLE images MODIFY title TEXT, MODIFY note VARCHAR(1000), MODIFY raw BLOB",
    "ALTER TABLE images CONVERT TO CHARACTER SET latin1",
    "ALTER TABLE images CONVERT TO CHARACTER SET utf8mb4",
    "ALTER TABLE images MODIFY title VARCHAR(60) CHARACTER SET utf16, MODIFY note TEXT COLLATE utf8mb4_bin",
    "ALTER TABLE images MODIFY mood ENUM('calm', 'loud', 'new'), MODIFY tags SET('a', 'b', 'c')",
    "ALTER TABLE images MODIFY mood ENUM('new', 'loud', 'calm', 'é'), MODIFY tags SET('c', 'é', 'b', 'a')",
    "ALTER TABLE images MODIFY price DECIMAL(14, 5), MODIFY born DATETIME(6)",
    "ALTER TABLE images MODIFY price DOUBLE, MODIFY born DATE",
    "ALTER TABLE images MODIFY born TIMESTAMP(3) NULL, MODIFY n INT",
    "ALTER TABLE images MODIFY n SMALLINT UNSIGNED, MODIFY made SMALLINT UNSIGNED",
]
KEYS_AND_STORAGE_CHANGE = [
    "ALTER TABLE images ADD INDEX by_n (n, title), ADD FULLTEXT INDEX by_note (note)",
    "ALTER TABLE images RENAME INDEX by_n TO by_number, DROP INDEX by_note",
    "ALTER TABLE images MODIFY id BIGINT UNSIGNED AUTO_INCREMENT",
    "ALTER TABLE images DROP PRIMARY KEY, ADD PRIMARY KEY (id)",
    "ALTER TABLE images FORCE, AUTO_INCREMENT = 5000000000",
    "ALTER TABLE images COMMENT = 'RENAME TO pictures', ROW_FORMAT = DYNAMIC",
    "ALTER TABLE images PARTITION BY HASH (id) PARTITIONS 3",
    "ALTER TABLE images COALESCE PARTITION 1",
    "ALTER TABLE images REMOVE PARTITIONING",
    "OPTIMIZE TABLE images",
    "CREATE TABLE IF NOT EXISTS images (id INT)",
]


def converted(kind: str, value: Any) -> Any:
    """A value that SELECT returned, as the design wants it in the topic."""
    if value is None:
        return None
    if kind.endswith("int") or kind == "year":
        return int(value)
    if kind == "double":
        return float(value)
    if kind in ("varbinary", "blob"):
        return base64.b64encode(value).decode()
    if kind in ("datetime", "timestamp"):
        return value.replace(" ", "T") + ("Z" if kind == "timestamp" else "")
    return json.loads(value) if value.startswith("{") else value


class Writer:
    """Writes rows in a thread, one transaction after the other, and remembers what the topic must say of each key in the end.

    A transaction holds the table's shape fast until its end, so what SELECT says in it is what the row event says.
    """

    def __init__(self, source: Source) -> None:
        self.expected: dict[int, Row | None] = {}
        self.written = 0
        self.failure: BaseException | None = None
        self._source = source
        self._random = random.Random(7)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="test-writer")
        self._connection = source.server.connect(
            source.name,
            charset="utf8mb4",
            conv=DECODERLESS,
            init_command=f"{PATIENCE}, time_zone = '+00:00'",
            autocommit=False,
        )

    @contextmanager
    def writing(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()
            if self.failure is not None:
                raise self.failure  # first of all: whatever else went wrong comes of it

    def close(self) -> None:
        self._connection.close()

    def go_on(self) -> None:
        """Returns after some more transactions."""
        goal = self.written + BEFORE_AND_AFTER
        wait_for(lambda: self.written >= goal or self.failure, "more rows")

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self.write()
        except BaseException as error:  # noqa: BLE001 - for the test to look at
            self.failure = error

    def write(self) -> None:
        """One transaction: a row inserted, updated or deleted."""
        try:
            key, row = self._change()
            self._connection.commit()
        except (OperationalError, IntegrityError) as error:
            self._connection.rollback()  # else the table would be locked for ever
            if error.args[0] not in (DEADLOCK, TABLE_CHANGED, DUPLICATE):
                raise
            return
        self.expected[key] = row
        self.written += 1

    def _change(self) -> tuple[int, Row | None]:
        self._query("DELETE FROM images WHERE FALSE")  # from here on the shape is fixed
        there = [key for key, row in self.expected.items() if row is not None]
        kind = self._random.random() if len(there) > 5 else 0
        if kind > 0.85:
            key = self._random.choice(there)
            self._query("DELETE FROM images WHERE id = %s", key)
            return key, None
        values = {name: self._value(column_type) for name, column_type in self._settable()}
        if kind > 0.6:
            key = self._random.choice(there)
            assignments = ", ".join(f"`{name}` = %s" for name in values)
            self._query(f"UPDATE images SET {assignments} WHERE id = %s", *values.values(), key)
            return key, self.selected(key)
        names, places = ", ".join(f"`{name}`" for name in values), ", ".join(["%s"] * len(values))
        self._query(f"INSERT INTO images ({names}) VALUES ({places})", *values.values())
        key = int(self._query("SELECT LAST_INSERT_ID()")[0][0])
        return key, self.selected(key)

    def _settable(self) -> list[tuple[str, str]]:
        """Name and type of the columns that take a value."""
        found = self._query(
            "SELECT COLUMN_NAME, COLUMN_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s AND TABLE_NAME = 'images'"
            " AND COLUMN_NAME <> 'id' AND EXTRA NOT LIKE '%%GENERATED%%'",
            self._source.name,
        )
        return [(str(name), str(column_type)) for name, column_type in found]

    def _value(self, column_type: str) -> Any:
        kind = re.split(r"\W", column_type)[0]
        members = re.findall(r"'([^']*)'", column_type)
        number = self._random.randrange(1, 3000) if kind != "year" else self._random.randrange(1990, 2030)
        if kind in ("enum", "set"):
            return self._random.choice(members)
        if kind in ("datetime", "timestamp", "date"):
            return f"2024-05-{number % 28 + 1:02} 10:20:30.{number:04}"
        if kind in ("json", "longtext"):
            return f'{{"n": {number}, "é": ["x", null]}}'
        if kind in ("varbinary", "blob"):
            return bytes([number % 256, 0, 255, 0])
        return f"é{number}" if kind in ("text", "varchar") and self._random.random() < 0.5 else str(number)

    def selected(self, key: int) -> Row:
        """The row as the topic should have it."""
        types = self._query(
            "SELECT COLUMN_NAME, DATA_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s AND TABLE_NAME = 'images'",
            self._source.name,
        )
        columns = ", ".join(f"`{name}`" for name, _ in types)
        (row,) = self._query(f"SELECT {columns} FROM images WHERE id = %s", key)
        return {name: converted(kind.lower(), value) for (name, kind), value in zip(types, row, strict=True)}

    def all_rows(self) -> dict[int, Row | None]:
        """Every row that is there now."""
        self._connection.commit()
        return {int(key): self.selected(int(key)) for (key,) in self._query("SELECT id FROM images")}

    def _query(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, arguments or None)
            return list(cursor.fetchall())


def newest(source: Source) -> dict[int, Row | None]:
    """What the topic says of each key in the end."""
    changes = [entry for entry in source.entries() if isinstance(entry, Change) and entry.op is not Op.TRUNCATE]
    return {change.key["id"]: change.after for change in changes}  # in the order of seq


def assert_topic_comes_to(source: Source, listening: Listening, expected: dict[int, Row | None]) -> None:
    def different() -> dict[int, Any]:
        listening.raise_failure()
        found = newest(source)
        return {
            key: (found.get(key), expected.get(key)) for key in found | expected if found.get(key) != expected.get(key)
        }

    try:
        wait_for(lambda: not different(), "the table in the topic", limit_s=10)
    except AssertionError:
        for key, (found, wanted) in different().items():
            columns = [
                name for name in (found or {}) | (wanted or {}) if (found or {}).get(name) != (wanted or {}).get(name)
            ]
            told = [
                f"{type(e).__name__} {getattr(e, 'op', '')} {getattr(e, 'source', '')}"
                for e in source.entries()
                if e.key.get("id") == key
            ]
            assert found == wanted, f"row {key}, column {columns}: " + "; ".join(told)
        raise


@pytest.fixture
def source(database: SqlServer, kafka: KafkaServer, unique: str) -> Source:
    made = Source(database, kafka, unique)
    made.sql(IMAGES)
    return made


@pytest.fixture
def writer(source: Source) -> Iterator[Writer]:
    """Has written some rows."""
    with closing(Writer(source)) as made:
        for _ in range(20):
            made.write()
        yield made


def alter_while_writing(source: Source, writer: Writer, changes: list[Callable[[], None]]) -> None:
    rows = sum(row is not None for row in writer.expected.values())
    with source.listening() as listening:
        listening.wait_until_ready()
        source.wait_for_entries(rows)
        with writer.writing():
            for change in changes:
                writer.go_on()
                change()
                listening.raise_failure()
            writer.go_on()
        assert_topic_comes_to(source, listening, writer.expected)
        assert listening.counted(Op.READ) == rows  # no second snapshot


@pytest.mark.parametrize(
    "shapes", [COLUMNS_COME_AND_GO, TYPES_CHANGE, KEYS_AND_STORAGE_CHANGE], ids=["columns", "types", "keys"]
)
def test_the_table_is_altered_while_it_is_written(source: Source, writer: Writer, shapes: list[str]) -> None:
    also = ON_MARIADB_ONLY if source.server.name == "mariadb" and shapes is COLUMNS_COME_AND_GO else []
    alter_while_writing(source, writer, [partial(source.sql, PATIENCE, shape) for shape in [*shapes, *also]])


@pytest.mark.parametrize(
    "shapes", [COLUMNS_COME_AND_GO, TYPES_CHANGE, KEYS_AND_STORAGE_CHANGE], ids=["columns", "types", "keys"]
)
def test_the_table_was_altered_while_nobody_listened(source: Source, writer: Writer, shapes: list[str]) -> None:
    """The catalogue knows the last shape only; the rows come in all of them."""
    with source.listening() as listening:
        listening.wait_until_ready()
        source.wait_for_entries(1)
    for shape in shapes:
        writer.write()
        writer.write()
        source.sql(shape)
    writer.write()
    with source.listening() as listening:
        assert_topic_comes_to(source, listening, writer.expected)


def test_a_name_in_other_letters_than_the_binlog_has_it_is_refused(kafka: KafkaServer, unique: str) -> None:
    """Such a server folds names, and finds the table; its rows would come under another name."""
    with contextmanager(serve)(MariadbServer(extra=["--lower-case-table-names=1"])) as server:
        source = Source(server, kafka, unique)
        source.sql(IMAGES)
        settings = source.settings.model_copy(update={"table": Table(name="Images")})
        with pytest.raises(SettingError) as caught:
            require(settings)
        assert 'table.name = "images"' in caught.value.remedy


# Another table in its place


def copied(source: Source, into: str) -> str:
    """A statement that copies the rows, whatever columns the new table has besides."""
    (names,) = source.server.query(
        "SELECT GROUP_CONCAT(COLUMN_NAME) FROM information_schema.COLUMNS"
        f" WHERE TABLE_SCHEMA = '{source.name}' AND TABLE_NAME = 'images'"
    )[0]
    return f"INSERT IGNORE INTO {into} ({names}) SELECT {names} FROM images"


def as_gh_ost(source: Source) -> None:
    """Its atomic cut-over: the lock is held in one session, the RENAME waits in another, and only that is in the binlog."""
    source.sql(
        "CREATE TABLE _images_gho LIKE images", "ALTER TABLE _images_gho ADD COLUMN extra INT DEFAULT 5 AFTER id"
    )
    source.sql("CREATE TABLE _images_del (id INT) COMMENT = 'ghost-cut-over-sentry'")
    rename = threading.Thread(
        target=source.sql,
        args=["RENAME TABLE `images` TO `_images_del`, `_images_gho` TO `images`"],
    )
    with source.server.connect(source.name) as locker, locker.cursor() as cursor:
        cursor.execute("LOCK TABLES images WRITE, _images_del WRITE, _images_gho WRITE")
        cursor.execute(copied(source, "_images_gho"))
        rename.start()
        wait_for(lambda: "RENAME" in str(source.server.query("SHOW PROCESSLIST")), "a RENAME that waits")
        cursor.execute("DROP TABLE _images_del")
        cursor.execute("UNLOCK TABLES")
    rename.join()
    source.sql("DROP TABLE _images_del")


def as_pt_online_schema_change(source: Source) -> None:
    """Triggers keep the new table up to date while the rows are copied."""
    source.sql(
        "CREATE TABLE _images_new LIKE images",
        "ALTER TABLE _images_new ADD COLUMN extra INT DEFAULT 5, DROP COLUMN note",
    )
    names = "id, file_path, n, title, mood"
    values = "NEW.id, NEW.file_path, NEW.n, NEW.title, NEW.mood"
    replace = f"FOR EACH ROW REPLACE INTO _images_new ({names}) VALUES ({values})"
    source.sql(
        "CREATE TRIGGER pt_del AFTER DELETE ON images FOR EACH ROW DELETE IGNORE FROM _images_new WHERE id <=> OLD.id",
        f"CREATE TRIGGER pt_upd AFTER UPDATE ON images {replace}",
        f"CREATE TRIGGER pt_ins AFTER INSERT ON images {replace}",
        f"INSERT LOW_PRIORITY IGNORE INTO _images_new ({names}) SELECT {names} FROM images LOCK IN SHARE MODE",
        "RENAME TABLE images TO _images_old, _images_new TO images",
        "DROP TABLE IF EXISTS _images_old",
    )


@pytest.mark.parametrize("swap", [as_gh_ost, as_pt_online_schema_change])
def test_another_table_takes_its_place_while_it_is_written(
    source: Source, writer: Writer, swap: Callable[[Source], None]
) -> None:
    with source.listening() as listening:
        listening.wait_until_ready()
        with writer.writing():
            writer.go_on()
            swap(source)
            writer.go_on()
        gone = [key for key, row in writer.expected.items() if row is None]
        # The table decides: a DELETE that waits for the lock may run before the RENAME does, and its row is in the copy by then.
        expected = dict.fromkeys(gone) | writer.all_rows()
        assert all("extra" in row for row in expected.values() if row)
        assert_topic_comes_to(source, listening, expected)


# What design.md wants when the table goes, and what is asked of somebody


def ended(source: Source, *statements: str) -> BaseException | None:
    """What a listener ended with after the statements."""
    listening = Listening(source.settings)
    listening.start()
    listening.wait_until_ready()
    source.sql(*statements)
    return listening.wait_until_ended()


@pytest.mark.parametrize(
    ("statement", "remedy"),
    [
        ("ALTER TABLE images RENAME COLUMN id TO number", 'table.key = "number"'),
        ("ALTER TABLE images MODIFY id INT, DROP PRIMARY KEY", "ADD PRIMARY KEY (`id`)"),
        ("ALTER TABLE images RENAME COLUMN file_path TO path", "table.picture to one of path"),
        ("ALTER TABLE images MODIFY file_path BLOB", "table.picture to one of title"),
        ("DROP TABLE images", 'table.on_drop = "empty"'),
        ("RENAME TABLE images TO pictures", "table.name"),
    ],
)
def test_what_nobody_but_the_operator_can_decide_stops_it_with_a_remedy(
    mariadb: SqlServer, kafka: KafkaServer, unique: str, statement: str, remedy: str
) -> None:
    source = Source(mariadb, kafka, unique)
    source.sql(IMAGES)
    failure = ended(source, statement)
    assert isinstance(failure, SettingError)
    assert remedy in failure.remedy


@pytest.mark.parametrize(
    ("goes", "comes"),
    [
        ("DROP TABLE images", [IMAGES]),
        ("RENAME TABLE images TO old", ["RENAME TABLE old TO images"]),
        ("DROP TABLE IF EXISTS nothing, images", ["CREATE TABLE other LIKE shape", "ALTER TABLE other RENAME images"]),
        ("DROP DATABASE {database}", [IMAGES]),
    ],
    ids=["dropped", "renamed", "dropped with others", "database dropped"],
)
def test_with_on_drop_empty_the_index_is_emptied_and_the_table_may_come_back(
    database: SqlServer, kafka: KafkaServer, unique: str, goes: str, comes: list[str]
) -> None:
    source = Source(database, kafka, unique, on_drop="empty")
    source.sql(IMAGES, "CREATE TABLE shape LIKE images", "INSERT INTO images (id, file_path) VALUES (1, 'p')")
    with source.listening() as listening:
        listening.wait_until_ready()
        source.wait_for_entries(1)
        source.sql(goes.format(database=unique))
        wait_for(lambda: listening.failure or len(source.entries()) >= 4, "the truncation")
        listening.raise_failure()
        source.server.execute(f"CREATE DATABASE IF NOT EXISTS {unique}", f"USE {unique}", *comes)
        source.sql("REPLACE INTO images (id, file_path) VALUES (2, 'q')")
        wait_for(lambda: any(key == 2 for _, key in source.story()), "a row of the new table")
    assert source.story()[:4] == [("r", 1), *[("t", "truncate")] * 3]


def test_a_table_that_went_while_nobody_listened(mariadb: SqlServer, kafka: KafkaServer, unique: str) -> None:
    source = Source(mariadb, kafka, unique, on_drop="empty")
    source.sql(IMAGES, "INSERT INTO images (id, file_path) VALUES (1, 'p')")
    with source.listening() as listening:
        listening.wait_until_ready()
        source.wait_for_entries(1)
    source.sql("DROP TABLE images")
    with source.listening() as listening:
        wait_for(lambda: listening.failure or len(source.entries()) >= 4, "the truncation")
    with source.listening() as listening:  # a restart while it waits
        source.sql(IMAGES, "INSERT INTO images (id, file_path) VALUES (2, 'p')")
        wait_for(lambda: listening.failure or source.story()[-1][1] == 2, "the new row")
    assert source.story()[:4] == [("r", 1), *[("t", "truncate")] * 3]


def test_create_or_replace_is_a_new_table(mariadb: SqlServer, kafka: KafkaServer, unique: str) -> None:
    source = Source(mariadb, kafka, unique, on_drop="empty")
    source.sql(IMAGES, "INSERT INTO images (id, file_path) VALUES (1, 'p')")
    with source.listening() as listening:
        listening.wait_until_ready()
        source.wait_for_entries(1)
        source.sql(
            "CREATE OR REPLACE TABLE images (id INT PRIMARY KEY, file_path TEXT, x INT) SELECT 2 AS id, 'q' AS file_path, 3 AS x"
        )
        wait_for(lambda: listening.failure or source.story()[-1] in [("c", 2), ("r", 2)], "the new row")
        listening.raise_failure()
    assert source.story()[1:4] == [("t", "truncate")] * 3
    last = source.entries()[-1]
    assert isinstance(last, Change)
    assert last.after == {"id": 2, "file_path": "q", "x": 3}


def test_an_alter_in_the_middle_of_the_snapshot(source: Source, writer: Writer) -> None:
    """A chunk has the shape that held when it was read; nobody waits for the snapshot's end."""
    values = ", ".join(f"({key}, 'p{key}')" for key in range(1000, 3000))
    source.sql(f"INSERT INTO images (id, file_path) VALUES {values}")
    before = writer.all_rows()
    with source.listening(chunk_rows=20) as listening:
        listening.wait_until_ready()
        with writer.writing():
            writer.go_on()
            source.sql("ALTER TABLE images ADD COLUMN added INT DEFAULT 4 AFTER id")
            writer.go_on()
        after = writer.all_rows()

        def is_right(key: int, found: Row | None) -> bool:
            written = writer.expected[key] if key in writer.expected else before[key]
            return found in (written, after.get(key))

        def is_complete() -> bool:
            listening.raise_failure()
            found = newest(source)
            return all(is_right(key, found.get(key)) for key in before | writer.expected)

        wait_for(is_complete, "the table in the topic")
