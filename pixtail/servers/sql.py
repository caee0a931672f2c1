"""What the private MySQL and MariaDB have in common: an empty root password on 127.0.0.1, and small helpers for tests and demo."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pymysql

from pixtail.servers.process import HOST, ServerProcess

_CONNECT_LIMIT_S = 2
# Durable against a kill of the server, not against a power cut: the page cache outlives the process, and nothing waits for a disk.
_SMALL_AND_QUICK = [
    "--innodb-buffer-pool-size=64M",
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-use-native-aio=OFF",  # the kernel's aio slots are few and shared by the whole machine
    "--sync-binlog=0",
    "--performance-schema=OFF",
    "--skip-name-resolve",
]


class SqlServer(ServerProcess):
    """A private server of the MySQL family. Its binlog is on: ROW format, FULL image, FULL metadata.

    `extra` arguments (`--name=value`) come last on the command line and win.
    """

    def __init__(
        self, folder: Path | None = None, port: int = 0, extra: Sequence[str] = (), server_id: int = 1
    ) -> None:
        super().__init__(folder, port)
        self.server_id = server_id
        self.extra = tuple(extra)

    def initialise(self, data: Path) -> None:
        """Makes a data folder with a root user whose password is empty, at `data`, which does not exist yet."""
        raise NotImplementedError

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, database: str = "", user: str = "root", password: str = "") -> str:
        """The address in the form of the setting `mysql.url`."""
        return f"mysql://{user}{':' + password if password else ''}@{HOST}:{self.port}/{database}"

    def connect(self, database: str | None = None, **options: Any) -> pymysql.Connection[Any]:
        """A new connection as root, in autocommit; `options` are PyMySQL's and win. The caller closes it."""
        defaults: dict[str, Any] = {"user": "root", "autocommit": True, "connect_timeout": _CONNECT_LIMIT_S}
        return pymysql.connect(host=HOST, port=self.port, database=database, **(defaults | options))

    def execute(self, *statements: str, database: str | None = None) -> None:
        """Runs each statement in autocommit over one short connection."""
        with self.connect(database) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def query(self, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """All rows that `statement` returns."""
        with self.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def create_database(self, name: str) -> str:
        """Creates the database (utf8mb4) and returns its URL."""
        self.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        return self.url(name)

    def prepare(self) -> None:
        if self.data.exists():
            return
        fresh = self.folder / "data.new"  # renamed when complete: a killed initialisation never looks like data
        shutil.rmtree(fresh, ignore_errors=True)
        self.initialise(fresh)
        fresh.rename(self.data)

    def answers(self) -> bool:
        try:
            with self.connect(read_timeout=_CONNECT_LIMIT_S) as connection, connection.cursor() as cursor:
                cursor.execute("SELECT @@datadir")
                row = cursor.fetchone()
        except pymysql.MySQLError:
            return False
        return row is not None and Path(row[0]).resolve() == self.data

    def arguments(self) -> list[str]:
        """What both take at start. The socket and pid file are relative to the data folder: a socket's path may not exceed 107 bytes."""
        return [
            *as_user(),
            f"--datadir={self.data}",
            "--socket=mysql.sock",
            "--pid-file=mysql.pid",
            f"--port={self.port}",
            f"--bind-address={HOST}",
            f"--server-id={self.server_id}",
            "--log-bin=binlog",
            "--binlog-format=ROW",
            "--binlog-row-image=FULL",
            "--binlog-row-metadata=FULL",
            *_SMALL_AND_QUICK,
        ]


def as_user() -> list[str]:
    """`--user=root` for root, who must say so; nobody else may say anything."""
    return [f"--user={pwd.getpwuid(0).pw_name}"] if os.geteuid() == 0 else []
