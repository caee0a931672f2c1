"""The listener's whole life at the chattiest log level: no row's content and no password in anything that it says."""

from __future__ import annotations

import random
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from pixtail.core.settings import Settings
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.mariadb import MariadbServer
from pixtail.servers.process import free_port
from tests.conftest import serve
from tests.integration.listener_kit import LIMIT_S, Source, wait_for

ROW = "Zebra-7f3a-in-a-row"
MYSQL_PASSWORD = "Giraffe/9c1e@mysql"
KAFKA_PASSWORD = "Okapi+4b8d kafka"
WRONG = "Tapir-2d6c-wrong"
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
TABLE = """CREATE TABLE images (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, file_path VARCHAR(200) NOT NULL, n INT,
    caption LONGTEXT, facts JSON, word VARCHAR(100) CHARACTER SET eucjpms)"""


def forms(secret: str) -> set[str]:
    """The ways in which a text may give itself away."""
    data = secret.encode()
    in_base64 = {b64encode(b"\0" * shift + data)[4:-4].decode() for shift in range(3)}  # wherever it begins
    return {secret, quote(secret, safe=""), quote(secret), secret.replace(" ", "+"), data.hex(), *in_base64}


def incompressible(size: int) -> str:
    return random.Random(7).randbytes(size // 2).hex()


@pytest.fixture
def own_kafka() -> Iterator[KafkaServer]:
    jaas = f'{_PLAIN} required user_alice="{KAFKA_PASSWORD}";'
    properties = {"sasl.enabled.mechanisms": "PLAIN", "listener.name.sasl.plain.sasl.jaas.config": jaas}
    yield from serve(KafkaServer(properties=properties, listeners={"SASL": "SASL_PLAINTEXT"}))


class Witness:
    """Runs the program again and again, and remembers everything that came out of it."""

    def __init__(self, source: Source, folder: Path) -> None:
        self.source = source
        self.folder = folder
        self.said = ""
        self.lives = 0
        self.metrics_port = free_port()

    def settings(self, mysql_password: str, kafka_password: str) -> str:
        self.lives += 1
        address = f"{self.source.name}:{quote(mysql_password, safe='')}@127.0.0.1:{self.source.server.port}"
        return f"""
            [mysql]
            url = "mysql://{address}/{self.source.name}?ssl_mode=DISABLED"
            [kafka]
            bootstrap = "{self.source.kafka.address("SASL")}"
            prefix = "{self.source.name}-{self.lives}"
            security_protocol = "SASL_PLAINTEXT"
            sasl_mechanism = "PLAIN"
            sasl_username = "alice"
            sasl_password = "{kafka_password}"
            [metrics]
            port = {self.metrics_port}
            """

    @contextmanager
    def life(
        self, *, mysql_password: str = MYSQL_PASSWORD, kafka_password: str = KAFKA_PASSWORD
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A listener with a prefix of its own, that is, from the snapshot on. Ends it, if it did not end itself."""
        (self.folder / "pixtail.toml").write_text(self.settings(mysql_password, kafka_password))
        log = self.folder / "said"
        program = [sys.executable, "-m", "pixtail.app", "--log-level", "debug", "listen"]
        with log.open("wb") as output, subprocess.Popen(program, cwd=self.folder, stdout=output, stderr=output) as it:
            try:
                yield it
            finally:
                it.terminate()
                it.wait(LIMIT_S)
                self.said += log.read_text()

    def ends(self, because: str, **passwords: str) -> None:
        """A life that ends by itself, for a reason that a person must mend."""
        with self.life(**passwords) as process:
            assert process.wait(LIMIT_S) == 3
        assert because in self.said.splitlines()[-1], self.said

    def reads(self, rows: int) -> None:
        """Waits for so many row changes, by what /metrics counts, which is remembered too."""
        wait_for(lambda: self._counted() >= rows, f"{rows} changes", limit_s=60)

    def _counted(self) -> float:
        try:
            page = urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=2).read().decode()
        except OSError:
            return 0
        self.said += page
        lines = [line.split() for line in page.splitlines() if line.startswith("pixtail_events_total{")]
        return sum(float(value) for _, value in lines)


@pytest.fixture
def witness(mariadb: MariadbServer, own_kafka: KafkaServer, unique: str, tmp_path: Path) -> Witness:
    source = Source(mariadb, own_kafka, unique)
    source.sql(
        TABLE,
        f"CREATE USER '{unique}'@'%' IDENTIFIED BY '{MYSQL_PASSWORD}'",
        f"GRANT ALL ON *.* TO '{unique}'@'%'",
        *[f"INSERT INTO images SET file_path = '{ROW}', caption = '{ROW}', facts = '{{\"a\": \"{ROW}\"}}'"] * 3,
    )
    return Witness(source, tmp_path)


def test_nothing_that_it_says_holds_a_row_or_a_password(witness: Witness, own_kafka: KafkaServer) -> None:
    source = witness.source
    with witness.life() as process:
        witness.reads(3)
        source.sql(
            f"INSERT INTO images SET file_path = '{ROW}', caption = '{ROW}'",
            f"UPDATE images SET caption = '{ROW}-again' WHERE id = 1",
            f"UPDATE images SET id = 77 WHERE file_path = '{ROW}' AND id = 2",
            f"ALTER TABLE images ADD note VARCHAR(100) DEFAULT '{ROW}' COMMENT '{ROW}'",
            "DELETE FROM images WHERE id = 3",
        )
        witness.reads(8)
        own_kafka.kill()
        source.sql(f"INSERT INTO images SET file_path = '{ROW}'")
        own_kafka.start()
        witness.reads(9)
        assert process.poll() is None
        with source.server.connect(source.name) as connection, connection.cursor() as cursor:
            cursor.execute("SET SESSION binlog_format = 'STATEMENT'")
            cursor.execute(f"UPDATE images SET caption = '{ROW}' WHERE caption = '{ROW}'")
        assert process.wait(LIMIT_S) == 3
    assert "Traceback" not in witness.said

    with witness.life() as process:
        witness.reads(4)
        source.sql(f"INSERT INTO images SET file_path = '', word = _eucjpms 0x{ROW.encode().hex()}ada1")
        assert process.wait(LIMIT_S) == 3
    witness.ends("column word")  # in the snapshot, too
    source.sql("DELETE FROM images WHERE file_path = ''")

    with witness.life() as process:
        witness.reads(4)
        source.sql(f"INSERT INTO images SET file_path = '', caption = '{ROW + incompressible(3 << 20)}'")
        assert process.wait(LIMIT_S) == 3
    witness.ends("max.message.bytes")
    source.sql("DELETE FROM images WHERE file_path = ''")

    witness.ends("wrong user or password", mysql_password=WRONG)
    witness.ends("wrong user or password", kafka_password=WRONG)
    source.sql("ALTER TABLE images DROP PRIMARY KEY, MODIFY id BIGINT")
    witness.ends("primary key")

    found = {
        form
        for secret in (ROW, MYSQL_PASSWORD, KAFKA_PASSWORD, WRONG)
        for form in forms(secret)
        if form in witness.said
    }
    assert not found
    assert "Traceback" not in witness.said


def test_settings_do_not_show_their_passwords() -> None:
    settings = Settings(
        mysql={"url": f"mysql://me:{quote(MYSQL_PASSWORD, safe='')}@h/db"},
        kafka={
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "PLAIN",
            "sasl_username": "alice",
            "sasl_password": KAFKA_PASSWORD,
        },
    )
    shown = f"{settings!r} {settings} {settings.mysql.address!r} {settings.mysql.address} {settings.model_dump_json()}"
    assert not [form for secret in (MYSQL_PASSWORD, KAFKA_PASSWORD) for form in forms(secret) if form in shown]
    with pytest.raises(ValueError, match="sasl_mechanism") as caught:
        Settings(kafka={"sasl_mechanism": KAFKA_PASSWORD, "sasl_password": KAFKA_PASSWORD})
    assert KAFKA_PASSWORD not in str(caught.value)
