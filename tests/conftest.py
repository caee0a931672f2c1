"""Fixtures that every suite shares: real servers, one of each per session, and names that no other test uses.

A part that is missing skips its tests and says what to run; with CI=true it fails them.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from kafka.net.inet import KafkaNetSocket

from pixtail.servers.kafka import KafkaServer
from pixtail.servers.mariadb import MariadbServer
from pixtail.servers.mysql import MysqlServer
from pixtail.servers.parts import Part, PartMissing, require
from pixtail.servers.process import ServerProcess
from pixtail.servers.sql import SqlServer

S = TypeVar("S", bound=ServerProcess)


class KafkaSocket(socket.socket):
    """kafka-python's, by name: it forgets those that were still connecting, or sending, when it was closed (pyproject ignores these)."""


def _kafka_socket(_client: KafkaNetSocket, *family_type_proto: int) -> socket.socket:
    return KafkaSocket(*family_type_proto)


KafkaNetSocket.socket = _kafka_socket


def absent(error: PartMissing) -> None:
    """Skips at home, fails in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(str(error), pytrace=False)
    pytest.skip(str(error))


@pytest.fixture(scope="session")
def needs() -> Callable[[Part], Path]:
    """`needs(Part.CHROMIUM)`: the path of a part, or the test skips (fails in CI)."""

    def find(part: Part) -> Path:
        try:
            return require(part)
        except PartMissing as error:
            absent(error)
            raise

    return find


def serve(server: S) -> Iterator[S]:
    """Started now, closed when the fixture ends."""
    try:
        server.start()
    except PartMissing as error:
        server.close()
        absent(error)
    except BaseException:
        server.close()
        raise
    yield server
    server.close()


@pytest.fixture(scope="session")
def mysql() -> Iterator[MysqlServer]:
    """MySQL 8 in GTID mode. Shared: create a database called `unique`. To stop, kill or pause one, start your own."""
    yield from serve(MysqlServer())


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariadbServer]:
    """MariaDB. Shared: create a database called `unique`. To stop, kill or pause one, start your own."""
    yield from serve(MariadbServer())


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaServer]:
    """Kafka. Shared: prefix topics and groups with `unique`. To stop, kill or pause one, start your own."""
    yield from serve(KafkaServer())


@pytest.fixture(params=["mysql", "mariadb"])
def database(request: pytest.FixtureRequest) -> SqlServer:
    """The test runs twice: over the shared MySQL and over the shared MariaDB."""
    server = request.getfixturevalue(request.param)
    assert isinstance(server, SqlServer)
    return server


@pytest.fixture
def unique() -> str:
    """A name for this test alone: letters and digits, fit for databases, topics and groups."""
    return f"t{secrets.token_hex(5)}"
