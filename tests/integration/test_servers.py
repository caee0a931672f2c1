"""The private servers start, answer, keep their data, and never outlive their parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pymysql
import pytest
from kafka.admin import KafkaAdminClient

from pixtail.servers.kafka import KafkaServer, ask_metadata
from pixtail.servers.mariadb import MariadbServer
from pixtail.servers.mysql import MysqlServer
from pixtail.servers.parts import Part, PartMissing
from pixtail.servers.process import HOST, ServerDied, ServerProcess, free_port
from pixtail.servers.prometheus import PrometheusServer
from pixtail.servers.sql import SqlServer

SERVERS: dict[str, Callable[..., ServerProcess]] = {
    "mysql": MysqlServer,
    "mariadb": MariadbServer,
    "kafka": KafkaServer,
    "prometheus": lambda folder=None: PrometheusServer("global: {scrape_interval: 1s}\n", folder),
}
PARTS = {
    "mysql": [Part.MYSQL],
    "mariadb": [Part.MARIADB],
    "kafka": [Part.JAVA, Part.KAFKA],
    "prometheus": [Part.PROMETHEUS],
}
# Starts a server, says its pid and folder, and waits. It starts it in a thread that then ends: that must not end the server.
PARENT = """
import sys, threading
from pixtail.servers.{kind} import {name} as Server
server = Server({arguments})
starter = threading.Thread(target=server.start)
starter.start()
starter.join()
assert server.answers()
print(server.pid, server.folder, flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=list(SERVERS))
def make(request: pytest.FixtureRequest, needs: Callable[[Part], Path]) -> Callable[..., ServerProcess]:
    """Makes a server of each kind in turn."""
    for part in PARTS[request.param]:
        needs(part)
    return SERVERS[request.param]


@pytest.fixture(params=["mysql", "mariadb"])
def make_sql(request: pytest.FixtureRequest, needs: Callable[[Part], Path]) -> type[SqlServer]:
    needs(PARTS[request.param][0])
    return MysqlServer if request.param == "mysql" else MariadbServer


def is_alive(pid: int) -> bool:
    """False for zombies too: nobody may be there to reap an orphan in a container."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def eventually(condition: Callable[[], bool], within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_a_server_answers_as_soon_as_it_has_started_and_no_more_when_stopped(
    make: Callable[..., ServerProcess],
) -> None:
    with make() as server:
        folder, pid = server.folder, server.pid
        assert server.answers()
        server.stop()
        assert not server.answers()
        assert not is_alive(pid)
        assert folder.exists()
    assert not folder.exists()


def test_a_paused_server_answers_nothing_until_it_is_resumed_and_can_be_stopped(
    make: Callable[..., ServerProcess],
) -> None:
    with make() as server:
        server.pause()
        assert not server.answers()
        server.resume()
        assert eventually(server.answers)
        server.pause()
        server.stop()
        assert not server.running


def test_a_server_without_data_comes_back_on_its_port_too(needs: Callable[[Part], Path]) -> None:
    needs(Part.PROMETHEUS)
    with PrometheusServer("{}") as server:
        port, url = server.port, server.url
        server.restart()
        server.kill()
        assert not server.running
        server.start()
        assert (server.port, server.url, server.answers()) == (port, url, True)


def test_two_servers_started_at_once_do_not_clash(make: Callable[..., ServerProcess]) -> None:
    with ExitStack() as servers:
        first, second = (servers.enter_context(closing(make())) for _ in range(2))
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(lambda server: server.start(), [first, second]))
        assert first.port != second.port
        assert first.answers()
        assert second.answers()


def test_a_given_folder_is_kept_and_used_again(make: Callable[..., ServerProcess], tmp_path: Path) -> None:
    # Longer than a Unix socket's path may be, and with a space.
    folder = tmp_path / ("long " * 25).strip()
    with make(folder=folder) as server:
        assert server.folder == folder
    with make(folder=folder) as server:
        assert server.answers()
    assert server.log.exists()


@pytest.mark.parametrize(
    ("kind", "name", "arguments"),
    [
        ("mysql", "MysqlServer", ""),
        ("mariadb", "MariadbServer", ""),
        ("kafka", "KafkaServer", ""),
        ("prometheus", "PrometheusServer", "'{}'"),
    ],
)
def test_a_server_dies_with_its_parent_and_its_temporary_folder_goes(
    kind: str, name: str, arguments: str, needs: Callable[[Part], Path]
) -> None:
    for part in PARTS[kind]:
        needs(part)
    script = PARENT.format(kind=kind, name=name, arguments=arguments)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid, _, folder = parent.stdout.readline().strip().partition(" ")
        assert is_alive(int(pid))
        parent.send_signal(signal.SIGKILL)
        assert eventually(lambda: not is_alive(int(pid)))
        assert eventually(lambda: not Path(folder).exists())


def test_rows_outlive_a_restart_and_a_crash(make_sql: type[SqlServer], unique: str) -> None:
    with make_sql() as server:
        url = server.create_database(unique)
        server.execute("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)", database=unique)
        server.restart()
        server.execute("INSERT INTO t VALUES (2)", database=unique)
        server.kill()
        server.start()
        assert server.query("SELECT id FROM t ORDER BY id", unique) == [(1,), (2,)]
        assert server.url(unique) == url


def test_topics_outlive_a_restart_and_a_crash(needs: Callable[[Part], Path], unique: str) -> None:
    needs(Part.JAVA)
    needs(Part.KAFKA)
    with KafkaServer(properties={"num.partitions": "3"}) as server:
        cluster_id, bootstrap = server.cluster_id, server.bootstrap
        admin = KafkaAdminClient(bootstrap_servers=server.bootstrap)
        admin.create_topics({unique: {"num_partitions": -1, "replication_factor": -1}})
        admin.close()
        server.restart()
        server.kill()
        server.start()
        admin = KafkaAdminClient(bootstrap_servers=bootstrap)
        topics = {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics([unique])}
        admin.close()
        assert topics == {unique: 3}
        assert ask_metadata(server.port) == (1, cluster_id)


def test_the_binlog_is_on_with_full_rows_and_metadata(database: SqlServer) -> None:
    settings = "@@log_bin, @@binlog_format, @@binlog_row_image, @@binlog_row_metadata"
    assert database.query(f"SELECT {settings}") == [(1, "ROW", "FULL", "FULL")]


def test_two_mysql_servers_have_identities_of_their_own(mysql: MysqlServer) -> None:
    with MysqlServer(gtid=False, server_id=7, extra=["--binlog-row-metadata=MINIMAL"]) as other:
        assert mysql.query("SELECT @@server_uuid") != other.query("SELECT @@server_uuid")
        assert mysql.query("SELECT @@gtid_mode, @@server_id") == [("ON", 1)]
        assert other.query("SELECT @@gtid_mode, @@server_id, @@binlog_row_metadata") == [("OFF", 7, "MINIMAL")]


@pytest.mark.parametrize("plugin", ["caching_sha2_password", "mysql_native_password"])
def test_users_with_passwords_can_connect_to_mysql(mysql: MysqlServer, unique: str, plugin: str) -> None:
    mysql.execute(f"CREATE USER {unique}@'%' IDENTIFIED WITH {plugin} BY 'secret'")
    with mysql.connect(user=unique, password="secret") as connection:
        assert connection.open
    with pytest.raises(pymysql.err.OperationalError):
        mysql.connect(user=unique, password="wrong")
    assert mysql.url("db", unique, "secret") == f"mysql://{unique}:secret@{HOST}:{mysql.port}/db"


def test_users_with_passwords_can_connect_to_mariadb(mariadb: MariadbServer, unique: str) -> None:
    mariadb.execute(f"CREATE USER {unique}@'%' IDENTIFIED BY 'secret'")
    with mariadb.connect(user=unique, password="secret") as connection:
        assert connection.open


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(make_sql: type[SqlServer]) -> None:
    server = make_sql(extra=["--no-such-option"])
    with pytest.raises(ServerDied, match="no-such-option") as caught, server:
        pass
    assert caught.value.log_tail
    assert caught.value.exit_status == 4
    assert not server.running


def test_a_port_lost_between_choice_and_start_is_replaced(
    needs: Callable[[Part], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(Part.MARIADB)
    with socket.create_server((HOST, free_port())) as squatter:
        taken = squatter.getsockname()[1]
        ports = iter([taken, free_port()])
        monkeypatch.setattr("pixtail.servers.process.free_port", lambda: next(ports))
        with MariadbServer() as server:
            assert server.port != taken


def test_a_given_port_that_is_taken_is_an_error(mariadb: MariadbServer) -> None:
    with pytest.raises(ServerDied), MariadbServer(port=mariadb.port):
        pass


@pytest.mark.parametrize("server", [MysqlServer, KafkaServer])
def test_a_missing_part_is_named_with_the_line_to_run(
    server: Callable[[], ServerProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXTAIL_PARTS", str(tmp_path / "nowhere"))
    with pytest.raises(PartMissing, match=r"is missing.*Run: python -m pixtail\.servers\.setup"), server():
        pass


def test_servers_leave_no_threads_and_no_children(mariadb: MariadbServer) -> None:
    def children() -> set[str]:
        return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())

    before, threads = children(), threading.active_count()
    with MariadbServer():
        assert len(children()) == len(before) + 2  # the server and its guard
    assert children() == before
    assert threading.active_count() == threads
