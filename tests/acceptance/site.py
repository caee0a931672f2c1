"""A database, a topic, a store and pictures of one test alone, and the program over them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from encoder.tiny_clip.captions import SUBJECTS
from pixtail.app.demo.samples import make_sample
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.process import free_port
from pixtail.servers.sql import SqlServer
from tests.acceptance.program import Answer, Running, pixtail

TABLE = (
    "CREATE TABLE images (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, title VARCHAR(255), file_path VARCHAR(512))"
)


@dataclass(frozen=True, slots=True)
class Site:
    """A database, a topic, a store and pictures of this test alone."""

    folder: Path
    server: SqlServer
    database: str
    api: str
    next_picture: list[int]

    def set(self, *lines: str) -> None:
        """Further settings, as they stand in the file."""
        with (self.folder / "pixtail.toml").open("a") as file:
            file.writelines(f"{line}\n" for line in lines)

    def insert(self, count: int) -> list[str]:
        """Rows of new pictures; returns the paths of these."""
        pictures = []
        for _ in range(count):
            number = self.next_picture[0]
            self.next_picture[0] += 1
            sample = make_sample(self.folder / "pictures", SUBJECTS[number % len(SUBJECTS)], number)
            self.server.execute(
                f"INSERT INTO images (title, file_path) VALUES ('{sample.title}', '{sample.file_path}')",
                database=self.database,
            )
            pictures.append(sample.file_path)
        return pictures

    def execute(self, *statements: str) -> None:
        self.server.execute(*statements, database=self.database)

    def stats(self) -> Any:
        """None while the API does not answer."""
        try:
            answer = httpx.get(f"{self.api}/api/v1/stats", timeout=5, trust_env=False)
        except httpx.TransportError:
            return None
        return answer.json() if answer.is_success else None

    def points(self) -> int:
        stats = self.stats()
        return -1 if stats is None else int(stats["points"])

    def pixtail(self, *words: str) -> Answer:
        return pixtail(*words, cwd=self.folder)

    def run(self) -> Running:
        return Running("run", cwd=self.folder)


@pytest.fixture
def site(database: SqlServer, kafka: KafkaServer, unique: str, tmp_path: Path) -> Iterator[Site]:
    url = database.create_database(unique)
    database.execute(TABLE, database=unique)
    api, metrics = free_port(), free_port()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pixtail.toml").write_text(f"""
mysql.url = "{url}"
kafka.bootstrap = "{kafka.bootstrap}"
kafka.prefix = "{unique}"
kafka.partitions = 2
pictures.root = "{tmp_path / "pictures"}"
model.name = "tiny-clip"
api.port = {api}
metrics.port = {metrics}
""")
    yield Site(tmp_path, database, unique, f"http://127.0.0.1:{api}", [0])
    database.execute(f"DROP DATABASE {unique}")


def wait_for(done: Callable[[], bool], what: str, limit_s: float = 30) -> None:
    deadline = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what}"
        time.sleep(0.05)
