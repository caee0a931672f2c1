"""Debezium's MySQL connector on a private Kafka Connect (standalone): the worker reads its topics, the listener is measured against it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixtail.servers.kafka import KafkaServer
from pixtail.servers.parts import Part, require
from pixtail.servers.process import HOST, ServerProcess
from pixtail.servers.sql import SqlServer

USER = PASSWORD = "debezium"
_ANSWER_LIMIT_S = 2
_JSON = "org.apache.kafka.connect.json.JsonConverter"
# What https://debezium.io/documentation/reference/stable/connectors/mysql.html#mysql-creating-user asks for.
_GRANTS = "SELECT, RELOAD, SHOW DATABASES, REPLICATION SLAVE, REPLICATION CLIENT, LOCK TABLES"


class DebeziumServer(ServerProcess):
    """One connector that copies `table` (`<db>.<table>`) into the topic `<prefix>.<table>`. Its offsets survive restarts.

    `properties` are the connector's and win over ours, which are as few as it needs; `schemas` is JsonConverter's default, the schema
    around each key and value. Make the account first: `create_account`.
    """

    name = "debezium"

    def __init__(
        self,
        mysql: SqlServer,
        kafka: KafkaServer,
        table: str,
        prefix: str,
        *,
        schemas: bool = True,
        properties: Mapping[str, str] | None = None,
        folder: Path | None = None,
        port: int = 0,
    ) -> None:
        super().__init__(folder, port)
        self.mysql = mysql
        self.kafka = kafka
        self.table = table
        self.prefix = prefix
        self.schemas = schemas
        self.properties = dict(properties or {})

    @property
    def topic(self) -> str:
        return f"{self.prefix}.{self.table}"

    def prepare(self) -> None:
        _write(self._worker_file, self._worker())
        _write(self._connector_file, self._connector() | self.properties)

    def command(self) -> list[str]:
        jars = require(Part.DEBEZIUM)
        program = [str(require(Part.JAVA)), "-Xmx1g", "-cp", f"{jars}/*"]
        return [
            *program,
            "org.apache.kafka.connect.cli.ConnectStandalone",
            str(self._worker_file),
            str(self._connector_file),
        ]

    def answers(self) -> bool:
        """True if the connector's task runs. One that failed does not answer; the log says why."""
        try:
            status = self._ask(f"/connectors/{self.name}/status")
        except (OSError, http.client.HTTPException, ValueError):
            return False
        return [task.get("state") for task in status.get("tasks", ())] == ["RUNNING"]

    def _ask(self, path: str) -> dict[str, Any]:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=_ANSWER_LIMIT_S)
        try:
            connection.request("GET", path)
            answer: dict[str, Any] = json.load(connection.getresponse())
        finally:
            connection.close()
        return answer

    @property
    def _worker_file(self) -> Path:
        return self.folder / "worker.properties"

    @property
    def _connector_file(self) -> Path:
        return self.folder / "connector.properties"

    def _worker(self) -> dict[str, str]:
        schemas = str(self.schemas).lower()
        return {
            "bootstrap.servers": self.kafka.bootstrap,
            "listeners": f"http://{HOST}:{self.port}",
            "key.converter": _JSON,
            "value.converter": _JSON,
            "key.converter.schemas.enable": schemas,
            "value.converter.schemas.enable": schemas,
            "offset.storage.file.filename": str(self.folder / "offsets"),
            "offset.flush.interval.ms": "1000",
            "plugin.discovery": "only_scan",  # all is on the class path; the default warns about every jar
        }

    def _connector(self) -> dict[str, str]:
        return {
            "name": self.name,
            "connector.class": "io.debezium.connector.mysql.MySqlConnector",
            "tasks.max": "1",
            "database.hostname": HOST,
            "database.port": str(self.mysql.port),
            "database.user": USER,
            "database.password": PASSWORD,
            "database.server.id": str(self.port),  # as unique as the port is
            "topic.prefix": self.prefix,
            "topic.creation.default.partitions": "1",  # what a broker gives it by default
            "topic.creation.default.replication.factor": "1",
            "database.include.list": self.table.split(".")[0],
            "table.include.list": self.table,
            "include.schema.changes": "false",
            "schema.history.internal": "io.debezium.storage.file.history.FileSchemaHistory",
            "schema.history.internal.file.filename": str(self.folder / "history"),
        }


def create_account(mysql: SqlServer) -> None:
    """The account that the connector logs in with, unless it is there."""
    mysql.execute(
        f"CREATE USER IF NOT EXISTS {USER}@'%' IDENTIFIED WITH mysql_native_password BY '{PASSWORD}'",
        f"GRANT {_GRANTS} ON *.* TO {USER}@'%'",
    )


def _write(path: Path, properties: Mapping[str, str]) -> None:
    path.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
