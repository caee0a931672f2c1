"""The demo's database: the upload app's tables, written with plain SQL, as the app would."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import pymysql

from encoder.tiny_clip.captions import KINDS
from pixtail.app.demo.samples import BRANDS, Sample
from pixtail.core.settings import MysqlAddress

SCHEMA = (
    "CREATE TABLE brands (id INT PRIMARY KEY, name VARCHAR(64) NOT NULL, chinese_name VARCHAR(64)) DEFAULT CHARSET utf8mb4",
    "CREATE TABLE models (id INT PRIMARY KEY, name VARCHAR(64) NOT NULL) DEFAULT CHARSET utf8mb4",
    """CREATE TABLE images (
  id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  title VARCHAR(255) NOT NULL,
  description TEXT,
  file_path VARCHAR(512),
  category VARCHAR(64),
  model_id INT,
  brand_id INT,
  upload_date DATETIME DEFAULT CURRENT_TIMESTAMP,
  updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP
) DEFAULT CHARSET utf8mb4""",
)
INSERT = (
    "INSERT INTO images (title, description, file_path, category, model_id, brand_id) VALUES (%s, %s, %s, %s, %s, %s)"
)


class Database:
    """A connection to the demo's database; every statement commits by itself. For one thread."""

    def __init__(self, address: MysqlAddress) -> None:
        self._address = address
        self._connection: pymysql.Connection[Any] | None = None

    def __enter__(self) -> Self:
        self._connection = pymysql.connect(
            host=self._address.host,
            port=self._address.port,
            user=self._address.user,
            password=self._address.password,
            charset="utf8mb4",
            autocommit=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()

    def create(self) -> None:
        """Makes the database and its tables, with the rows that `images` points to."""
        self.execute(f"CREATE DATABASE `{self._address.database}` DEFAULT CHARACTER SET utf8mb4")
        self.use()
        for statement in SCHEMA:
            self.execute(statement)
        for number, (name, chinese) in enumerate(BRANDS, start=1):
            self.execute("INSERT INTO brands VALUES (%s, %s, %s)", (number, name, chinese))
        for number, name in enumerate(KINDS, start=1):
            self.execute("INSERT INTO models VALUES (%s, %s)", (number, name))

    def use(self) -> None:
        """Chooses the database, which must exist."""
        self.execute(f"USE `{self._address.database}`")

    def insert(self, samples: Iterable[Sample]) -> int:
        """One transaction with all of them; returns how many."""
        with self._cursor() as cursor:
            return cursor.executemany(INSERT, [sample.values() for sample in samples]) or 0

    def insert_one(self, sample: Sample) -> int:
        """A transaction of its own; returns the new id."""
        return self.execute(INSERT, sample.values())

    def execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Runs one statement; returns the last insert id (0 if it inserted nothing)."""
        with self._cursor() as cursor:
            cursor.execute(statement, values)
            return int(cursor.lastrowid or 0)

    def _cursor(self) -> Any:
        assert self._connection is not None, "used as a context manager"
        return self._connection.cursor()
