"""The deployed files do their work: promtool accepts the rules, MySQL the grants, and the health check tells the truth."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pymysql
import pytest

from pixtail.servers.mysql import MysqlServer
from pixtail.servers.parts import Part
from pixtail.servers.sql import SqlServer
from tests.support.dashboard import DEPLOY, PROMETHEUS, RULES

MYSQL = DEPLOY / "mysql"
NASTY_PASSWORD = "p'a\\s\"s$word"


# Prometheus


@pytest.mark.parametrize(
    "arguments",
    [["check", "config", PROMETHEUS], ["check", "rules", RULES], ["test", "rules", RULES.with_name("rules_test.yml")]],
    ids=lambda arguments: " ".join(map(str, arguments[:2])),
)
def test_promtool_accepts(arguments: list[str | Path], needs: Callable[[Part], Path]) -> None:
    result = subprocess.run([needs(Part.PROMTOOL), *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


# MySQL


def statements(file: Path, database: str, user: str) -> list[str]:
    """The file's statements, for a database and user of another name."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith("--")]
    text = "\n".join(lines).replace("`app`", f"`{database}`").replace("app", database).replace("'pixtail'", f"'{user}'")
    return [statement for statement in text.split(";") if statement.strip()]


@pytest.fixture
def granted(database: SqlServer, unique: str) -> Iterator[SqlServer]:
    """A server where the deployed files have made the database and the user, both called `unique`."""
    database.execute(*statements(MYSQL / "init" / "1-images.sql", unique, unique))
    database.execute(f"CREATE USER '{unique}'@'%' IDENTIFIED BY 'secret'")
    database.execute(*statements(MYSQL / "grants.sql", unique, unique))
    yield database
    database.execute(f"DROP USER '{unique}'@'%'", f"DROP DATABASE `{unique}`")


def test_the_grants_let_the_listener_read_the_table_and_find_the_end_of_the_binlog(
    granted: SqlServer, unique: str
) -> None:
    granted.execute(f"INSERT INTO {unique}.images (title, file_path) VALUES ('a', 'a.jpg')")
    with granted.connect(unique, user=unique, password="secret") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT title, file_path FROM images")
        assert cursor.fetchall() == (("a", "a.jpg"),)
        cursor.execute("SHOW BINARY LOGS")
        assert cursor.fetchall()
        cursor.execute("SHOW GRANTS")
        assert any("REPLICATION SLAVE" in row[0] for row in cursor.fetchall())


@pytest.mark.parametrize(
    "statement",
    ["INSERT INTO images (file_path) VALUES ('b.jpg')", "DELETE FROM images", "CREATE TABLE other (id INT)"],
)
def test_the_grants_let_nobody_write(granted: SqlServer, unique: str, statement: str) -> None:
    with (
        granted.connect(unique, user=unique, password="secret") as connection,
        connection.cursor() as cursor,
        pytest.raises(pymysql.OperationalError, match="command denied"),
    ):
        cursor.execute(statement)


def test_the_user_is_made_with_whatever_password_the_environment_holds(
    mysql: MysqlServer, unique: str, tmp_path: Path
) -> None:
    client = tmp_path / "mysql"
    client.write_text("#!/bin/sh\ncat\n")
    client.chmod(0o755)
    script = MYSQL / "init" / "2-user.sh"
    environ = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "MYSQL_PIXTAIL_PASSWORD": NASTY_PASSWORD,
        "MYSQL_ROOT_PASSWORD": "",
    }
    made = subprocess.run(["/bin/bash", script], env=environ, capture_output=True, text=True, check=True)
    mysql.execute(made.stdout.replace("pixtail", unique))
    try:
        mysql.connect(user=unique, password=NASTY_PASSWORD).close()
    finally:
        mysql.execute(f"DROP USER '{unique}'@'%'")


# The containers' health


@contextmanager
def service(status: int) -> Iterator[int]:
    """Something that answers /readyz with `status`, and everything else with 404; yields its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def health(port: int) -> int:
    return subprocess.run([sys.executable, DEPLOY / "healthcheck.py", str(port)], check=False).returncode


@pytest.mark.parametrize(("status", "expected"), [(200, 0), (503, 1)])
def test_a_container_is_healthy_if_its_service_is_ready(status: int, expected: int) -> None:
    with service(status) as port:
        assert health(port) == expected


def test_a_container_without_a_service_is_not_healthy() -> None:
    with service(200) as port:
        pass
    assert health(port) == 1
