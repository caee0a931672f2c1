"""TLS and accounts against the real databases: what is safe goes through, what is wrong is one line that names what to correct."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from ingest import mysql as database_access
from ingest.preflight import require
from pixtail.core.errors import DatabaseUnreachable, PixtailError, SettingError
from pixtail.core.settings import Mysql, Settings
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.mariadb import MariadbServer
from pixtail.servers.mysql import MysqlServer
from pixtail.servers.sql import SqlServer
from tests.conftest import serve
from tests.integration.listener_kit import IMAGES, Source
from tests.support.certificates import Authority, Pair
from tests.support.forwarder import Forwarder

PASSWORD = "pä ss/w:rd@文"
MARKER = "words-that-only-this-row-holds"
SHA2 = f"WITH caching_sha2_password BY '{PASSWORD}'"
SHA256 = f"WITH sha256_password BY '{PASSWORD}'"
NATIVE = f"WITH mysql_native_password BY '{PASSWORD}'"
VIA_NATIVE = f"VIA mysql_native_password USING PASSWORD('{PASSWORD}')"
ED25519 = f"VIA ed25519 USING PASSWORD('{PASSWORD}')"


class Pki:
    """Who trusts whom in this module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.stranger = Authority(folder, "stranger-ca")  # nobody was told of it
        self.server = self.authority.pair("server", "localhost")
        self.client = self.authority.pair("client")
        self.foreign_client = self.stranger.pair("foreign-client")
        self.locked = self.authority.pair("locked", passphrase=b"sesame")
        self.shown = Pair(folder / "shown.pem", folder / "shown-key.pem", folder / "shown-both.pem")
        self.show(self.server)

    def show(self, pair: Pair) -> None:
        """Puts the pair where the databases read theirs."""
        shutil.copy(pair.certificate, self.shown.certificate)
        shutil.copy(pair.key, self.shown.key)

    @property
    def arguments(self) -> list[str]:
        shown = self.shown
        return [f"--ssl-ca={self.authority.certificate}", f"--ssl-cert={shown.certificate}", f"--ssl-key={shown.key}"]

    @property
    def trusting(self) -> str:
        return f"ssl_ca={self.authority.certificate}"

    def showing(self, pair: Pair) -> str:
        return f"ssl_cert={pair.certificate}&ssl_key={pair.key}"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def safe_mysql(pki: Pki) -> Iterator[MysqlServer]:
    yield from serve(MysqlServer(extra=pki.arguments))


@pytest.fixture(scope="module")
def safe_mariadb(pki: Pki) -> Iterator[MariadbServer]:
    yield from serve(MariadbServer(extra=[*pki.arguments, "--plugin-load-add=auth_ed25519"]))


@pytest.fixture(params=["safe_mysql", "safe_mariadb"])
def safe(request: pytest.FixtureRequest) -> SqlServer:
    server = request.getfixturevalue(request.param)
    assert isinstance(server, SqlServer)
    return server


def account(server: SqlServer, name: str, identified: str, required: str = "NONE") -> None:
    """Made anew, so that no hash of its password is in the server's cache: the first login is a full one."""
    server.execute(
        f"CREATE USER '{name}'@'%' IDENTIFIED {identified} REQUIRE {required}",
        f"GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO '{name}'@'%'",
    )


def url(name: str, port: int, options: str, host: str = "127.0.0.1", password: str = PASSWORD) -> str:
    return f"mysql://{name}:{quote(password, safe='')}@{host}:{port}/{name}?{options}"


def follow_a_row(source: Source, address: str) -> None:
    """The listener's whole way with the account: its checks, its snapshot, its stream."""
    source.settings = source.settings.model_copy(update={"mysql": Mysql(url=address)})
    with source.listening() as listening:
        listening.wait_until_ready()
        source.sql(f"INSERT INTO images VALUES (1, '{MARKER}', 1)")
        assert source.wait_for_entries(1)
    assert source.story() == [("c", 1)]


def follow_over(server: SqlServer, kafka: KafkaServer, name: str, options: str, host: str = "127.0.0.1") -> bytes:
    """What was sent to the listener over the wire, every connection of it."""
    source = Source(server, kafka, name)
    source.sql(IMAGES)
    with Forwarder(server.port) as forwarder:
        follow_a_row(source, url(name, forwarder.port, options, host))
        return bytes(forwarder.heard)


def refusal(address: str) -> str:
    """What is said of an address that cannot be right: one line."""
    with pytest.raises(PixtailError) as caught:
        require(Settings(mysql={"url": address}))
    assert isinstance(caught.value, SettingError), caught.value
    assert caught.value.exit_status == 3
    assert caught.value.remedy
    assert PASSWORD not in str(caught.value)
    return str(caught.value)


# Accounts


@pytest.mark.parametrize("identified", [SHA2, SHA256, NATIVE], ids=["caching_sha2", "sha256", "native"])
def test_mysqls_ways_to_log_in_work_over_plain_tcp(
    safe_mysql: MysqlServer, kafka: KafkaServer, unique: str, identified: str
) -> None:
    account(safe_mysql, unique, identified)
    assert MARKER.encode() in follow_over(safe_mysql, kafka, unique, "ssl_mode=DISABLED")


@pytest.mark.parametrize("identified", [SHA2, SHA256, NATIVE], ids=["caching_sha2", "sha256", "native"])
def test_mysqls_ways_to_log_in_work_over_tls_and_so_does_the_stream(
    safe_mysql: MysqlServer, kafka: KafkaServer, pki: Pki, unique: str, identified: str
) -> None:
    account(safe_mysql, unique, identified, required="SSL")
    wire = follow_over(safe_mysql, kafka, unique, f"{pki.trusting}&ssl_mode=VERIFY_IDENTITY", "localhost")
    assert MARKER.encode() not in wire


def test_mariadbs_native_password_works_over_tls_and_so_does_the_stream(
    safe_mariadb: MariadbServer, kafka: KafkaServer, pki: Pki, unique: str
) -> None:
    account(safe_mariadb, unique, VIA_NATIVE, required="SSL")
    assert MARKER.encode() not in follow_over(safe_mariadb, kafka, unique, pki.trusting)


def test_a_large_transaction_comes_whole_over_tls(
    safe_mariadb: MariadbServer, kafka: KafkaServer, pki: Pki, unique: str
) -> None:
    """Events and TLS records end at different bytes."""
    source = Source(safe_mariadb, kafka, unique)
    source.sql(IMAGES)
    address = f"mysql://root@127.0.0.1:{safe_mariadb.port}/{unique}?{pki.trusting}"
    source.settings = source.settings.model_copy(update={"mysql": Mysql(url=address)})
    with source.listening() as listening:
        listening.wait_until_ready()
        source.sql("INSERT INTO images SELECT seq, REPEAT('p', seq % 200), seq FROM seq_1_to_5000")
        source.wait_for_entries(5000)
    assert [key for _, key in source.story()] == list(range(1, 5001))


def test_mariadbs_ed25519_works(safe_mariadb: MariadbServer, kafka: KafkaServer, unique: str) -> None:
    pytest.importorskip("nacl", reason="PyMySQL signs by PyNaCl")
    account(safe_mariadb, unique, ED25519)
    follow_over(safe_mariadb, kafka, unique, "ssl_mode=DISABLED")


def test_a_login_that_needs_a_missing_package_names_it(
    safe_mariadb: MariadbServer, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nacl", None)
    monkeypatch.setattr("pymysql._auth._nacl_bindings", False)
    account(safe_mariadb, unique, ED25519)
    assert "pynacl" in refusal(url(unique, safe_mariadb.port, ""))


def test_an_account_that_must_show_a_certificate_shows_it_in_the_stream_too(
    safe: SqlServer, kafka: KafkaServer, pki: Pki, unique: str
) -> None:
    account(safe, unique, NATIVE if safe.name == "mysql" else VIA_NATIVE, required="X509")
    wire = follow_over(safe, kafka, unique, f"{pki.trusting}&{pki.showing(pki.client)}")
    assert MARKER.encode() not in wire


@pytest.mark.parametrize("required", ["SSL", "X509"])
def test_an_account_that_is_not_given_what_it_requires_is_told(
    safe: SqlServer, pki: Pki, unique: str, required: str
) -> None:
    safe.create_database(unique)
    account(safe, unique, NATIVE if safe.name == "mysql" else VIA_NATIVE, required=required)
    options = "ssl_mode=DISABLED" if required == "SSL" else pki.trusting
    assert "a client certificate" in refusal(url(unique, safe.port, options))


def test_without_a_word_about_tls_it_is_used_where_it_is_offered(safe: SqlServer, unique: str) -> None:
    safe.create_database(unique)
    account(safe, unique, NATIVE if safe.name == "mysql" else VIA_NATIVE)
    address = Mysql(url=url(unique, safe.port, "")).address
    with database_access.connect(address) as connection:
        assert database_access.query(connection, "SHOW SESSION STATUS LIKE 'Ssl_cipher'")[0][1]


# What is wrong

Mistake = Callable[[Pki], str]
MISTAKES: dict[str, tuple[Mistake, tuple[str, ...]]] = {
    "unknown-ca": (lambda pki: f"ssl_ca={pki.stranger.certificate}", ("signed by no CA that we trust", "ssl_ca")),
    "system-cas": (lambda _: "ssl_mode=VERIFY_CA", ("signed by no CA that we trust", "ssl_ca")),
    "other-host": (lambda pki: f"{pki.trusting}&ssl_mode=VERIFY_IDENTITY", ("for another host", "127.0.0.1")),
    "missing-ca": (lambda _: "ssl_ca=/no/ca.pem", ("ssl_ca in mysql.url: /no/ca.pem", "No such file")),
    "missing-certificate": (lambda _: "ssl_cert=/no/c.pem", ("ssl_cert in mysql.url: /no/c.pem", "No such file")),
    "missing-key": (
        lambda pki: f"ssl_cert={pki.client.certificate}&ssl_key=/no/k.pem",
        ("ssl_key in mysql.url: /no/k.pem", "No such file"),
    ),
    "no-pem": (lambda _: f"ssl_ca={__file__}", ("ssl_ca in mysql.url", "no PEM certificate")),
    "no-key": (lambda pki: f"ssl_cert={pki.client.certificate}", ("ssl_cert in mysql.url", "no PEM certificate")),
    "key-of-another": (
        lambda pki: f"ssl_cert={pki.client.certificate}&ssl_key={pki.server.key}",
        ("ssl_key in mysql.url", "does not belong"),
    ),
    "encrypted-key": (lambda pki: pki.showing(pki.locked), ("ssl_key in mysql.url", "is encrypted")),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_one_line_that_names_it(safe: SqlServer, pki: Pki, unique: str, mistake: str) -> None:
    options, words = MISTAKES[mistake]
    safe.create_database(unique)
    account(safe, unique, NATIVE if safe.name == "mysql" else VIA_NATIVE)
    said = refusal(url(unique, safe.port, options(pki)))
    for word in words:
        assert word in said
    assert "\n" not in said


def test_a_certificate_that_the_server_does_not_accept_is_named(safe: SqlServer, pki: Pki, unique: str) -> None:
    """The server tells after the handshake, and hangs up: what we have begun to write may meet that first."""
    safe.create_database(unique)
    account(safe, unique, NATIVE if safe.name == "mysql" else VIA_NATIVE)
    source = Settings(mysql={"url": url(unique, safe.port, pki.showing(pki.foreign_client))})
    with pytest.raises((SettingError, DatabaseUnreachable), match=r"does not accept (our certificate|ssl_cert)"):
        require(source)


def test_a_certificate_that_ran_out_is_named_and_a_new_one_is_enough(
    safe_mariadb: MariadbServer, pki: Pki, unique: str
) -> None:
    source = Settings(mysql={"url": f"{safe_mariadb.create_database(unique)}?{pki.trusting}"})
    safe_mariadb.execute(IMAGES, database=unique)
    pki.show(pki.authority.pair("expired", "localhost", lifetime=timedelta(days=-1)))
    safe_mariadb.execute("FLUSH SSL")
    try:
        with pytest.raises(SettingError, match="has expired"):
            require(source)
    finally:
        pki.show(pki.server)
        safe_mariadb.execute("FLUSH SSL")
    require(source)


def test_a_server_that_has_no_tls_is_never_spoken_to_in_plain(mariadb: MariadbServer, unique: str) -> None:
    mariadb.create_database(unique)
    assert "offers no TLS" in refusal(f"{mariadb.url(unique)}?ssl_mode=REQUIRED")


def test_a_handshake_that_is_cut_off_is_an_absence_and_no_mistake(pki: Pki, unique: str) -> None:
    with Forwarder(0) as nobody, pytest.raises(DatabaseUnreachable):
        require(Settings(mysql={"url": url(unique, nobody.port, pki.trusting)}))


def test_the_program_ends_with_the_line_and_the_exit_status(
    safe_mysql: MysqlServer, pki: Pki, unique: str, tmp_path: Path
) -> None:
    wrong = url(unique, safe_mysql.port, f"ssl_ca={pki.stranger.certificate}")
    (tmp_path / "pixtail.toml").write_text(f'[mysql]\nurl = "{wrong}"\n[metrics]\nport = 0\n')
    program = [sys.executable, "-m", "pixtail.app", "listen"]
    ended = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    said = ended.stdout + ended.stderr
    assert ended.returncode == 3, said
    assert "signed by no CA that we trust" in said
    assert "Traceback" not in said
    assert PASSWORD not in said
