"""Wrong settings and missing servers, from outside: one clear line, the right exit status, never a traceback."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from encoder.tiny_clip import WEIGHTS
from pixtail.core.points import PictureFacts, Sync, Upsert
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.mysql import MysqlServer
from pixtail.servers.parts import PartMissing
from pixtail.servers.process import free_port
from sink.edge import EdgeStore
from tests.acceptance.program import Answer, pixtail
from tests.conftest import absent

TABLE = "CREATE TABLE images (id BIGINT UNSIGNED PRIMARY KEY, title VARCHAR(255), file_path VARCHAR(512))"


@dataclass(slots=True)
class Site:
    """Settings that work, to be spoilt one at a time by environment variables."""

    folder: Path
    server: MysqlServer
    database: str
    env: dict[str, str] = field(default_factory=dict)

    def execute(self, *statements: str) -> None:
        self.server.execute(*statements, database=self.database)

    def run(self, *words: str, **spoilt: str) -> Answer:
        return pixtail(*words, cwd=self.folder, env=self.env | spoilt)


@pytest.fixture
def site(mysql: MysqlServer, kafka: KafkaServer, unique: str, tmp_path: Path) -> Iterator[Site]:
    url = mysql.create_database(unique)
    mysql.execute(TABLE, database=unique)
    env = {
        "PIXTAIL_MYSQL__URL": url,
        "PIXTAIL_KAFKA__BOOTSTRAP": kafka.bootstrap,
        "PIXTAIL_KAFKA__PREFIX": unique,
        "PIXTAIL_MODEL__NAME": "tiny-clip",
        "PIXTAIL_API__PORT": str(free_port()),
        "PIXTAIL_METRICS__PORT": str(free_port()),
    }
    yield Site(tmp_path, mysql, unique, env)
    mysql.execute(f"DROP DATABASE {unique}")


def assert_refused(answer: Answer, status: int, *words: str) -> None:
    everything = answer.out + answer.err
    assert answer.status == status, everything
    assert "Traceback" not in everything, everything
    assert answer.last_line.startswith("pixtail: "), everything
    assert [word for word in words if word not in answer.last_line] == [], answer.last_line


@pytest.mark.parametrize("command", ["listen", "run"])
def test_a_wrong_password_is_a_wrong_setting(site: Site, command: str) -> None:
    url = site.server.url(site.database, "root", "wr0ng")
    answer = site.run(command, PIXTAIL_MYSQL__URL=url)
    assert_refused(answer, 3, "root", "mysql.url")
    assert "wr0ng" not in answer.out + answer.err, "a password in an error message"


@pytest.mark.parametrize("command", ["listen", "run"])
def test_a_database_that_is_down_cannot_be_reached(site: Site, command: str) -> None:
    port = free_port()
    answer = site.run(command, PIXTAIL_MYSQL__URL=f"mysql://root@127.0.0.1:{port}/{site.database}")
    assert_refused(answer, 4, f"127.0.0.1:{port}")


@pytest.mark.parametrize("command", ["listen", "encode", "run", "status"])
def test_a_broker_that_is_down_cannot_be_reached(site: Site, command: str) -> None:
    port = free_port()
    answer = site.run(command, PIXTAIL_KAFKA__BOOTSTRAP=f"127.0.0.1:{port}")
    assert_refused(answer, 4, f"Kafka at 127.0.0.1:{port} does not answer", "kafka.bootstrap")


def test_a_server_without_binlog_is_said_with_what_turns_it_on(site: Site) -> None:
    try:
        with MysqlServer(extra=["--skip-log-bin"], gtid=False) as server:
            url = server.create_database("shop")
            server.execute(TABLE, database="shop")
            answer = site.run("listen", PIXTAIL_MYSQL__URL=url)
    except PartMissing as missing:
        absent(missing)
        raise
    assert_refused(answer, 3, "binlog", "log_bin")


def test_a_table_without_primary_key_is_refused_with_the_statement(site: Site) -> None:
    site.execute("CREATE TABLE loose (id BIGINT, file_path VARCHAR(512))")
    assert_refused(site.run("listen", PIXTAIL_TABLE__NAME="loose"), 3, "loose", "primary key", "ALTER TABLE")


def test_a_missing_picture_column_is_named_with_those_that_exist(site: Site) -> None:
    assert_refused(site.run("listen", PIXTAIL_TABLE__PICTURE="photo"), 3, "photo", "table.picture", "file_path")


def test_a_missing_table_is_named(site: Site) -> None:
    assert_refused(site.run("listen", PIXTAIL_TABLE__NAME="imags"), 3, "imags")


def test_a_missing_model_folder_is_named(site: Site) -> None:
    assert_refused(site.run("encode", PIXTAIL_MODEL__NAME="./no/model"), 3, "no/model")


def test_a_truncated_model_is_said_to_be_broken(site: Site) -> None:
    model = site.folder / "model"
    shutil.copytree(WEIGHTS, model)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    assert_refused(site.run("encode", PIXTAIL_MODEL__NAME=str(model)), 3, str(model))


def test_a_model_that_did_not_make_the_collection_is_refused_where_that_one_is_unknown(site: Site) -> None:
    store = EdgeStore(site.folder / "pixtail-data", "images")
    store.prepare(4, "another")
    facts = PictureFacts("0" * 64, 1, 1, "PNG", 1)
    store.apply([Upsert(1, np.array([1, 0, 0, 0], np.float32), {}, Sync(1, "a.png", "another", facts, ""))])
    store.close()
    assert_refused(site.run("encode"), 3, "another", "images", "pixtail reindex")


def test_an_unknown_setting_is_named_with_those_that_exist(site: Site) -> None:
    (site.folder / "pixtail.toml").write_text('[table]\ncolour = "red"\n')
    assert_refused(site.run("status"), 3, "table.colour", "pixtail.toml", "picture")


@pytest.mark.parametrize(("command", "setting"), [("serve", "api.port"), ("encode", "metrics.port")])
def test_a_port_that_is_taken_is_named_with_its_setting(site: Site, command: str, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        variable = f"PIXTAIL_{setting.replace('.', '__').upper()}"
        assert_refused(site.run(command, **{variable: port}), 3, setting, port)


@pytest.mark.parametrize(
    "words",
    [
        ["serach"],
        ["search"],
        ["search", "a", "--image", "b"],
        ["search", "x", "--limit", "0"],
        ["demo", "--database", "x"],
    ],
)
def test_a_command_line_that_makes_no_sense_ends_with_status_2(tmp_path: Path, words: list[str]) -> None:
    answer = pixtail(*words, cwd=tmp_path)
    assert answer.status == 2, answer.out + answer.err
    assert "Traceback" not in answer.err


def test_doctor_shows_every_failure_with_its_remedy_and_goes_on(site: Site) -> None:
    site.execute("CREATE TABLE loose (id BIGINT, file_path VARCHAR(512))")
    answer = site.run(
        "doctor", "--json", PIXTAIL_TABLE__NAME="loose", PIXTAIL_KAFKA__BOOTSTRAP=f"127.0.0.1:{free_port()}"
    )
    assert answer.status == 1, answer.err
    failed = {check["name"]: check for check in answer.json["checks"] if not check["ok"]}
    assert {"primary key", "Kafka reachable and new enough"} <= set(failed), failed
    assert all(check["remedy"] or not check["made"] for check in failed.values()), failed
    assert {"model loads", "store writable"} <= {c["name"] for c in answer.json["checks"] if c["ok"]}


def test_searching_where_no_index_is_says_so(site: Site) -> None:
    assert_refused(site.run("search", "a bus"), 1, "no collection images", "--config")
