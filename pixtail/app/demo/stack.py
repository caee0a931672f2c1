"""The demo's processes: database, Kafka, and `pixtail run` itself as a user would start it."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar

from pixtail.app.child import command
from pixtail.core.errors import PixtailError
from pixtail.core.settings import ALIASES, ENV_PREFIX, MysqlAddress, parse_mysql_url
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.mariadb import MariadbServer
from pixtail.servers.mysql import MysqlServer
from pixtail.servers.parts import Part, PartMissing, require
from pixtail.servers.process import ServerProcess, free_port

Server = TypeVar("Server", bound=ServerProcess)
DatabaseKind = Literal["auto", "mysql", "mariadb"]
DATABASE = "app"
STOP_LIMIT_S = 25.0

CONFIG = """\
# Written by `pixtail demo`.
[mysql]
url = "{mysql}"
[kafka]
bootstrap = "{kafka}"
partitions = 3
[[table.lookups]]
table = "brands"
column = "brand_id"
take = {{ name = "brand_name", chinese_name = "brand_chinese_name" }}
[[table.lookups]]
table = "models"
column = "model_id"
take = {{ name = "model_name" }}
[pictures]
root = "{pictures}"
[model]
name = "tiny-clip"
[qdrant]
path = "{store}"
[api]
port = {api}
[metrics]
port = {metrics}
"""


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything of a demo is."""

    folder: Path
    address: MysqlAddress
    mysql_url: str
    kafka: str
    api: str
    listener_metrics: str

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures"

    @property
    def config(self) -> Path:
        return self.folder / "pixtail.toml"

    @property
    def log(self) -> Path:
        return self.folder / "pixtail.log"


class Stack:
    """Servers and pipeline in one temporary folder; leaving the context ends and removes them all."""

    def __init__(self, database: DatabaseKind) -> None:
        self._database = database
        self._exit = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._places: Places | None = None

    def __enter__(self) -> Self:
        self._folder = Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="pixtail-demo-"))).resolve()
        self.pictures.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    @property
    def folder(self) -> Path:
        assert self._folder is not None, "used as a context manager"
        return self._folder

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures"

    @property
    def places(self) -> Places:
        assert self._places is not None, "start_servers comes first"
        return self._places

    def start_servers(self) -> Places:
        """Starts the database and Kafka side by side; returns when both answer."""
        kind = choose_database(self._database)
        database = self._closing((MysqlServer if kind == "mysql" else MariadbServer)(self.folder / kind))
        kafka = self._closing(KafkaServer(self.folder / "kafka"))
        servers: list[ServerProcess] = [database, kafka]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda server: server.start(), servers))
        url = database.url(DATABASE)
        self._places = Places(
            folder=self.folder,
            address=parse_mysql_url(url),
            mysql_url=url,
            kafka=kafka.bootstrap,
            api=f"http://127.0.0.1:{free_port()}",
            listener_metrics=f"http://127.0.0.1:{free_port()}",
        )
        self._places.config.write_text(_config(self._places))
        return self._places

    def _closing(self, server: Server) -> Server:
        self._exit.callback(server.close)
        return server

    def start_pipeline(self) -> None:
        """Starts `pixtail run` as a process of its own, which notices our death. Its log is `places.log`."""
        with self.places.log.open("ab") as log:
            self._process = subprocess.Popen(
                command("run", "--with-parent", config=self.places.config),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=_without_settings(os.environ),
                process_group=0,
            )
        self._exit.callback(self.stop_pipeline)

    def stop_pipeline(self) -> int | None:
        """Drains it; returns its exit status."""
        if self._process is None:
            return None
        with self._process as process:  # which closes its standard input, but only after the wait
            process.terminate()
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
        return process.returncode

    def require_pipeline(self) -> None:
        """Raises `PixtailError` with its last words if the pipeline has ended."""
        if self._process is not None and self._process.poll() is not None:
            tail = self.places.log.read_text(errors="replace").strip().splitlines()[-3:]
            raise PixtailError(f"the pipeline ended with status {self._process.returncode}: {' | '.join(tail)}")

    def wait(self, done: Callable[[], bool], limit_s: float, what: str) -> float:
        """Seconds until `done`. Raises `PixtailError` after `limit_s`, or when the pipeline ends."""
        began = time.monotonic()
        while not done():
            self.require_pipeline()
            if time.monotonic() - began > limit_s:
                raise PixtailError(f"still waiting after {limit_s:.0f} s: {what}", f"Look into {self.places.log}")
            time.sleep(0.02)
        return time.monotonic() - began


def choose_database(wanted: DatabaseKind) -> Literal["mysql", "mariadb"]:
    """`auto` is MySQL 8 if its archive is here, else MariaDB. Raises `PartMissing` for one that is not on this machine."""
    if wanted != "auto":
        require(Part.MYSQL if wanted == "mysql" else Part.MARIADB)
        return wanted
    try:
        require(Part.MYSQL)
    except PartMissing:
        require(Part.MARIADB)
        return "mariadb"
    return "mysql"


def _without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The user's settings, the upload app's names among them, must not lead the demo to the user's servers."""
    return {k: v for k, v in environ.items() if k not in ALIASES and (not k.startswith(ENV_PREFIX) or "__" not in k)}


def _config(places: Places) -> str:
    return CONFIG.format(
        mysql=places.mysql_url,
        kafka=places.kafka,
        pictures=places.pictures,
        store=places.folder / "store",
        api=places.api.rsplit(":", 1)[1],
        metrics=places.listener_metrics.rsplit(":", 1)[1],
    )
