"""Does as doctor says: what a remedy prints is run, set, or put into the server's configuration."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from pixtail.core.checks import Check
from pixtail.core.settings import Settings
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.parts import Part, require
from pixtail.servers.process import ServerProcess
from pixtail.servers.sql import SqlServer
from tests.conftest import serve

S = TypeVar("S", bound=ServerProcess)
IMAGES = "CREATE TABLE images (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, file_path VARCHAR(200), n INT)"
_TOOLS = {"kafka-configs.sh": "kafka.admin.ConfigCommand"}


@contextmanager
def running(server: S) -> Iterator[S]:
    """Started and closed. A part that is missing skips the test (fails it in CI)."""
    try:
        yield from serve(server)
    finally:
        server.close()


def named(checks: Iterable[Check], name: str) -> Check:
    """The one of this name."""
    (found,) = (check for check in checks if check.name == name)
    return found


def troubles(checks: Iterable[Check]) -> list[str]:
    """The names of those that failed or warn."""
    return [check.name for check in checks if not check.ok or check.remedy]


def statements(remedy: str) -> list[str]:
    """The SQL in it: what ends with a semicolon."""
    return [part.strip() for part in remedy.split(";")[:-1] if re.match(r"\s*(SET|GRANT|ALTER|CALL|CREATE) ", part)]


def run_sql(server: SqlServer, remedy: str, database: str | None = None) -> None:
    found = statements(remedy)
    assert found, f"no SQL in: {remedy}"
    server.execute(*found, database=database)


def apply_setting(settings: Settings, remedy: str) -> Settings:
    """`Set section.field = value`."""
    found = re.match(r"Set (\w+)\.(\w+) = (\S+)", remedy)
    assert found, f"no setting in: {remedy}"
    section, field, value = found.groups()
    values = settings.model_dump()
    values[section][field] = value.strip('"')
    return Settings(**values)


def restart_with(server: SqlServer, remedy: str) -> None:
    """`Put a = b and c = d under [mysqld] in my.cnf, and restart …`."""
    line = re.match(r"Put (.+) under \[mysqld\]", remedy)
    assert line, f"nothing for my.cnf in: {remedy}"
    assert "restart" in remedy
    server.extra = (*server.extra, *(f"--{option}" for option in _options(line[1])))
    server.stop()
    server.start()


def restart_kafka_with(server: KafkaServer, remedy: str) -> None:
    """`Put a = b, c = d into server.properties, and restart the broker`."""
    line = re.match(r"Put (.+) into server\.properties", remedy)
    assert line, f"nothing for server.properties in: {remedy}"
    server.properties |= dict(option.split("=") for option in _options(line[1]))
    server.stop()
    server.start()


def _options(text: str) -> Sequence[str]:
    return [option.replace(" ", "") for option in re.split(r" and |, ", text)]


def run_kafka_tool(remedy: str) -> None:
    """Kafka's own program, as its shell script would start it."""
    tool, *arguments = shlex.split(remedy)
    jars = require(Part.KAFKA)
    command = [str(require(Part.JAVA)), "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*", _TOOLS[tool], *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def settings_of(server: SqlServer, name: str, **sections: Any) -> Settings:
    return Settings(**({"mysql": {"url": f"{server.url(name)}?ssl_mode=DISABLED"}} | sections))
