"""Rows sent again, as a user does it: `pixtail listen` and `pixtail backfill` as processes, killed and interrupted."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pixtail.bus.reading import reading
from pixtail.bus.state import StateStore
from pixtail.bus.topics import Topics
from pixtail.core.changes import Change, decode
from pixtail.core.settings import Settings, load
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.mysql import MysqlServer
from pixtail.servers.process import free_port
from tests.acceptance.program import Answer, Running, pixtail

ROWS = 1200
SLOWLY = ("--batch-size", "2")
CARS = ("backfill", "--where", "category=car", "--json")


@dataclass(frozen=True, slots=True)
class Site:
    """A table of `ROWS` cars, and a topic of this test alone."""

    folder: Path
    settings: Settings

    @property
    def topics(self) -> Topics:
        return Topics(self.settings.kafka.prefix, self.settings.source)

    def rows_sent(self) -> int:
        """By the back-fill that runs."""
        state = StateStore(self.settings.kafka, self.topics).read(self.settings.source) or {}
        return int((state.get("snapshot") or {}).get("rows", 0)) if state.get("request") else 0

    def snapshot_done(self) -> bool:
        state = StateStore(self.settings.kafka, self.topics).read(self.settings.source)
        return state is not None and state["snapshot"] is None

    def again(self) -> list[Any]:
        """The keys of what back-fills sent, in the order of seq."""
        with reading(self.settings.kafka, self.topics.changes) as reader:
            found = [decode(record.key, record.value, record.headers, record.offset) for record in reader.read()]
        changes = [change for change in found if isinstance(change, Change) and change.source.snapshot == "incremental"]
        assert {change.op for change in changes} <= {"r"}
        return [change.key["id"] for change in sorted(changes, key=lambda change: change.seq)]

    def pixtail(self, *words: str) -> Answer:
        return pixtail(*words, cwd=self.folder)


@pytest.fixture
def site(mysql: MysqlServer, kafka: KafkaServer, unique: str, tmp_path: Path) -> Iterator[Site]:
    url = mysql.create_database(unique)
    values = ", ".join(f"({n}, 'p{n}.jpg', 'car')" for n in range(1, ROWS + 1))
    mysql.execute(
        "CREATE TABLE images (id INT PRIMARY KEY, file_path VARCHAR(99), category VARCHAR(9))",
        f"INSERT INTO images VALUES {values}",
        database=unique,
    )
    (tmp_path / "pixtail.toml").write_text(f"""
mysql.url = "{url}"
kafka.bootstrap = "{kafka.bootstrap}"
kafka.prefix = "{unique}"
model.name = "tiny-clip"
metrics.port = {free_port()}
""")
    yield Site(tmp_path, load(tmp_path / "pixtail.toml"))
    mysql.execute(f"DROP DATABASE {unique}")


def wait_for(done: Callable[[], Any], what: str, limit_s: float = 30) -> None:
    deadline = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what}"
        time.sleep(0.05)


def printed(running: Running) -> Any:
    """The JSON at the end of what it printed."""
    text = running.text()
    return json.loads(text[text.index("{\n") :])


@pytest.mark.timeout(150)
def test_rows_are_sent_again_through_a_kill_and_a_pause(site: Site) -> None:
    unknown = site.pixtail("backfill", "--where", "colour=red")
    assert unknown.status == 2, unknown.err
    assert "has no column colour" in unknown.last_line
    assert site.pixtail("backfill", "--dry-run", "--limit", "7", "--json").json == {
        "rows": 0,
        "about": 7,
        "done": False,
    }

    with Running(*CARS, *SLOWLY, cwd=site.folder) as backfill:
        backfill.until(lambda: "No listener runs" in backfill.text(), "the hint")
        with Running("listen", cwd=site.folder) as listener:
            listener.until(lambda: site.rows_sent() > 50, "some rows")
            listener.kill()
        before_kill = site.again()
        with Running("listen", cwd=site.folder) as listener:
            listener.until(lambda: site.rows_sent() > len(before_kill) + 20, "more rows, by the next listener")
            backfill.send(signal.SIGINT)
            assert backfill.wait(20) == 1, backfill.text()
            paused = printed(backfill)
            assert paused == {"rows": len(site.again()), "about": ROWS, "done": False}
            status = site.pixtail("status", "--json").json["snapshot"]
            assert (status["kind"], status["paused"], status["rows"]) == ("back-fill", True, paused["rows"])
            assert site.pixtail(*CARS).json == {"rows": ROWS, "about": ROWS, "done": True}
            assert site.again() == list(range(1, ROWS + 1)), "each row once, in order"
            listener.send(signal.SIGTERM)
            assert listener.wait(25) == 0, listener.text()[-3000:]
