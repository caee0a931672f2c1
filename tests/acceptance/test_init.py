"""From a database's address to the first event, as a new user goes: init, doctor, listen."""

from __future__ import annotations

import os
import pty
import select
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pixtail.bus.reading import reading
from pixtail.bus.topics import Topics
from pixtail.core.settings import Settings, load
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.mariadb import MariadbServer
from pixtail.servers.process import free_port
from pixtail.servers.sql import SqlServer
from tests.acceptance.program import PIXTAIL, Answer, Running, environment, pixtail

SHOP = (
    "CREATE TABLE brands (id INT PRIMARY KEY, name VARCHAR(64))",
    "CREATE TABLE images (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, title VARCHAR(255), file_path VARCHAR(512), brand_id INT)",
    "INSERT INTO brands VALUES (7, 'Ford')",
    "INSERT INTO images (title, file_path) VALUES ('one', 'one.jpg')",
)
ENOUGH_CHECKS = 20


@dataclass(frozen=True, slots=True)
class Shop:
    """A database, and an empty folder to stand in."""

    folder: Path
    server: SqlServer
    name: str
    url: str
    kafka: KafkaServer

    def init(self, *words: str) -> Answer:
        return pixtail("init", self.url, "--kafka", self.kafka.bootstrap, *words, cwd=self.folder)

    def doctor(self, *words: str, **settings: str) -> Answer:
        env = {"PIXTAIL_KAFKA__PREFIX": self.name, "PIXTAIL_MODEL__NAME": "tiny-clip"} | settings
        return pixtail("doctor", *words, cwd=self.folder, env=env)


@pytest.fixture
def shop(mariadb: MariadbServer, kafka: KafkaServer, unique: str, tmp_path: Path) -> Iterator[Shop]:
    url = mariadb.create_database(unique)
    mariadb.execute(*SHOP, database=unique)
    yield Shop(tmp_path, mariadb, unique, url, kafka)
    mariadb.execute(f"DROP DATABASE {unique}")


def test_a_new_user_gets_from_init_to_the_first_event(shop: Shop) -> None:
    (shop.folder / "one.jpg").touch()
    answer = shop.init("--account", shop.name, "--json")
    assert answer.status == 0, answer.err
    shop.server.execute(*answer.json["statements"])
    config = shop.folder / "pixtail.toml"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    found = shop.doctor("--json")
    assert found.status == 0, found.out
    assert len(found.json["checks"]) >= ENOUGH_CHECKS
    groups = {check["group"] for check in found.json["checks"]}
    assert groups >= {"server", "table", "Kafka", "state", "model", "store", "lookup brands", "state of brands"}
    # The file may be edited: it is the user's now.
    config.write_text(config.read_text().replace("[kafka]", f'[kafka]\nprefix = "{shop.name}"'))
    config.write_text(f"{config.read_text()}\n[metrics]\nport = {free_port()}\n")
    given = load(config, {})
    with Running("listen", cwd=shop.folder) as running:
        running.until(lambda: all(map(events, (given, *given.of_lookups))), "the snapshots' events")
    shop.server.execute(f"DROP USER '{shop.name}'@'%'")


def events(given: Settings) -> int:
    """How many there are in the topic."""
    with reading(given.kafka, Topics(given.kafka.prefix, given.source).changes) as reader:
        return len(reader.read())


def test_doctor_tells_people_by_group_and_a_warning_is_no_failure(shop: Shop) -> None:
    """The picture of the only row is nowhere, and that alone has failed."""
    shop.init()
    shop.server.execute("ALTER TABLE images ENGINE = MyISAM", database=shop.name)
    answer = shop.doctor()
    assert answer.status == 1, answer.out
    for heading in ("server", "table", "Kafka", "state", "pictures", "model", "store"):
        assert f"\n{heading}\n" in answer.out
    assert "! engine" in answer.out
    assert "→ ALTER TABLE" in answer.out
    assert "→ Set pictures.root" in answer.out
    assert "1 failed, 1 to consider" in answer.out


def test_init_does_not_overwrite(shop: Shop) -> None:
    assert shop.init().status == 0
    again = shop.init()
    assert (again.status, "--force" in again.last_line) == (2, True)
    assert shop.init("--force").status == 0


@pytest.mark.parametrize(
    ("url", "status", "word"),
    [
        ("nonsense", 2, "mysql://user:password@host:3306/database"),
        ("mysql://root@127.0.0.1:{port}/nothing", 3, "nothing"),
        ("mysql://root:wr0ng@127.0.0.1:{port}/{name}", 3, "root"),
        ("mysql://root@127.0.0.1:{free}/{name}", 4, "does not answer"),
    ],
)
def test_what_cannot_be_done_ends_in_one_line_and_its_status(shop: Shop, url: str, status: int, word: str) -> None:
    given = url.format(port=shop.server.port, name=shop.name, free=free_port())
    answer = pixtail("init", given, cwd=shop.folder)
    assert answer.status == status, answer.err
    assert len(answer.err.strip().splitlines()) == 1
    assert word in answer.last_line
    assert "wr0ng" not in answer.out + answer.err
    assert not (shop.folder / "pixtail.toml").exists()


def test_at_a_terminal_what_has_two_answers_is_asked(shop: Shop) -> None:
    shop.server.execute(
        "ALTER TABLE images ADD other_path VARCHAR(99)", "UPDATE images SET other_path = 'b.jpg'", database=shop.name
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [PIXTAIL, "init", shop.url], cwd=shop.folder, env=environment(), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    try:
        assert "images.other_path" in read_until(ours, "Which column holds the pictures?")
        os.write(ours, b"2\n")
        assert "b.jpg" in read_until(ours, "Folder or address that the paths start from")
        os.write(ours, b"https://cdn.shop.example/\n")
        read_until(ours, "pixtail run")
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    written = (shop.folder / "pixtail.toml").read_text()
    assert 'picture = "other_path"' in written
    assert 'base_url = "https://cdn.shop.example/"' in written


def read_until(descriptor: int, words: str, limit_s: float = 60) -> str:
    """All that was printed up to these words."""
    said, deadline = "", time.monotonic() + limit_s
    while words not in said:
        ready, _, _ = select.select([descriptor], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"not within {limit_s} s: {words}\n{said}"
        said += os.read(descriptor, 4096).decode(errors="replace")
    return said
