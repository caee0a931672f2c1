"""Is the index right? As a user asks: `pixtail verify` beside `pixtail run`, which holds the embedded store open."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from encoder.tiny_clip.captions import SUBJECTS
from pixtail.app.demo.samples import make_sample
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.mariadb import MariadbServer
from pixtail.servers.process import free_port
from tests.acceptance.program import Answer, Running, pixtail

NOTHING = {"missing": 0, "orphan": 0, "stale": 0, "model": 0, "payload": 0}


@dataclass(frozen=True, slots=True)
class Site:
    folder: Path
    server: MariadbServer
    database: str
    api: str
    pictures: list[str]

    def sql(self, *statements: str) -> None:
        self.server.execute(*statements, database=self.database)

    def points(self) -> int:
        try:
            answer = httpx.get(f"{self.api}/api/v1/stats", timeout=5, trust_env=False)
        except httpx.TransportError:
            return -1
        return int(answer.json()["points"]) if answer.is_success else -1

    def drift(self) -> dict[str, int]:
        """As Prometheus sees it."""
        text = httpx.get(f"{self.api}/metrics", timeout=5, trust_env=False).text
        return {
            kind: int(float(value)) for kind, value in re.findall(r'^pixtail_drift{kind="(\w+)"} (\S+)', text, re.M)
        }

    def verify(self, *words: str) -> Answer:
        return pixtail("verify", *words, cwd=self.folder)


@pytest.fixture
def site(mariadb: MariadbServer, kafka: KafkaServer, unique: str, tmp_path: Path) -> Iterator[Site]:
    url = mariadb.create_database(unique)
    api, metrics = free_port(), free_port()
    pictures = [make_sample(tmp_path / "pictures", SUBJECTS[n], n).file_path for n in range(6)]
    values = ", ".join(f"({n}, 't', '{file}')" for n, file in enumerate(pictures, start=1))
    mariadb.execute(
        "CREATE TABLE images (id INT PRIMARY KEY, title VARCHAR(99), file_path VARCHAR(200))",
        f"INSERT INTO images VALUES {values}",
        database=unique,
    )
    (tmp_path / "pixtail.toml").write_text(f"""
mysql.url = "{url}"
kafka.bootstrap = "{kafka.bootstrap}"
kafka.prefix = "{unique}"
kafka.partitions = 2
pictures.root = "{tmp_path / "pictures"}"
model.name = "tiny-clip"
api.port = {api}
api.token = "open sesame"
metrics.port = {metrics}
verify.every = "1h"
""")
    yield Site(tmp_path, mariadb, unique, f"http://127.0.0.1:{api}", pictures)
    mariadb.execute(f"DROP DATABASE {unique}")


@pytest.mark.timeout(240)
def test_drift_is_found_shown_to_prometheus_and_mended_while_run_goes_on(site: Site) -> None:
    with Running("run", cwd=site.folder) as run:
        run.until(lambda: site.points() == 6, "six points")
        well = site.verify("--json")
        assert (well.status, well.json["rows"], well.json["points"]) == (0, 6, 6), well.err
        assert well.json["drift"] == site.drift() == NOTHING

        site.sql(  # what no event tells of: the index cannot know
            "SET sql_log_bin = 0",
            "DELETE FROM images WHERE id = 1",
            "UPDATE images SET title = 'new' WHERE id = 2",
            f"UPDATE images SET file_path = '{site.pictures[0]}' WHERE id = 3",
            f"INSERT INTO images VALUES (7, 't', '{site.pictures[0]}')",
        )
        wrong = site.verify("--json")
        assert wrong.status == 1
        assert wrong.json["drift"] == site.drift() == {**NOTHING, "orphan": 1, "payload": 1, "stale": 1, "missing": 1}
        assert {(found["id"], found["kind"]) for found in wrong.json["differences"]} == {
            (1, "orphan"),
            (2, "payload"),
            (3, "stale"),
            (7, "missing"),
        }

        mended = site.verify("--repair", "--batch-size", "2")
        assert mended.status == 0, mended.err
        assert "nothing differs" in mended.out
        assert "4 repaired" in mended.out
        assert site.drift() == NOTHING
        run.send(signal.SIGTERM)
        assert run.wait(25) == 0, run.text()[-3000:]

    alone = site.verify("--json")  # now the store is free
    assert (alone.status, alone.json["drift"], alone.json["points"]) == (0, NOTHING, 6), alone.err
