"""Who runs the server, and what mends a setting there."""

from __future__ import annotations

import ssl

import pytest

from ingest.managed import Hosting, Platform, recognise
from ingest.server_checks import is_loopback, judge_tls
from ingest.subject import Advice
from pixtail.core.settings import parse_mysql_url

MYSQL = "8.0.35"


@pytest.mark.parametrize(
    ("host", "version", "variables", "expected"),
    [
        ("db.internal", MYSQL, {"version_comment": "MySQL Community Server - GPL"}, Platform.OWN),
        ("shop.abc123.eu-central-1.rds.amazonaws.com", MYSQL, {}, Platform.RDS),
        ("shop.abc123.rds.cn-north-1.rds.amazonaws.com.cn", MYSQL, {}, Platform.RDS),
        ("10.0.0.7", MYSQL, {"datadir": "/rdsdbdata/db/"}, Platform.RDS),
        ("10.0.0.7", "10.6.14-MariaDB-log", {"datadir": "/rdsdbdata/db/"}, Platform.RDS),
        ("10.0.0.7", MYSQL, {"aurora_version": "3.04.1", "datadir": "/rdsdbdata/db/"}, Platform.AURORA),
        ("shop.cluster-abc123.eu-central-1.rds.amazonaws.com", MYSQL, {}, Platform.AURORA),
        ("10.0.0.7", "8.0.31-google", {"version_comment": "(Google)"}, Platform.CLOUD_SQL),
        ("shop.mysql.database.azure.com", MYSQL, {}, Platform.AZURE),
        ("10.0.0.7", MYSQL, {"aad_auth_only": "OFF"}, Platform.AZURE),
        ("aws.connect.psdb.cloud", MYSQL, {}, Platform.PLANETSCALE),
        ("10.0.0.7", "8.0.30-Vitess", {}, Platform.PLANETSCALE),
        ("cluster-7.shop.example", MYSQL, {}, Platform.OWN),
    ],
)
def test_a_server_is_recognised(host: str, version: str, variables: dict[str, str], expected: Platform) -> None:
    assert recognise(host, version, variables) is expected


@pytest.mark.parametrize(
    ("platform", "words"),
    [
        (Platform.OWN, ["SET PERSIST binlog_row_metadata = FULL;"]),
        (Platform.RDS, ["modify-db-parameter-group", "ParameterName=binlog_row_metadata", "ParameterValue=FULL"]),
        (Platform.AURORA, ["modify-db-cluster-parameter-group", "ApplyMethod=immediate"]),
        (Platform.CLOUD_SQL, ["gcloud sql instances patch", "--database-flags=binlog_row_metadata=FULL"]),
        (Platform.AZURE, ["az mysql flexible-server parameter set", '--value "FULL"']),
        (Platform.PLANETSCALE, ["whose binlog may be read"]),
    ],
)
def test_a_variable_is_set_as_its_platform_wants_it(platform: Platform, words: list[str]) -> None:
    remedy = Hosting(platform, "mysql").set("binlog_row_metadata", "FULL")
    assert [word for word in words if word not in remedy] == []
    if platform is not Platform.OWN:
        assert "SET " not in remedy, "nobody has SUPER there"


@pytest.mark.parametrize("platform", [platform for platform in Platform if platform is not Platform.OWN])
def test_no_managed_server_is_sent_to_a_file_or_a_privilege_it_does_not_have(platform: Platform) -> None:
    hosting = Hosting(platform, "mysql")
    remedies = [
        hosting.set("binlog_row_value_options", "''"),
        hosting.set_at_start("log_replica_updates", "ON"),
        hosting.binlog_on(),
        hosting.keep_binlogs(168),
        hosting.gtid_on("OFF"),
    ]
    assert [remedy for remedy in remedies if "my.cnf" in remedy or "PERSIST" in remedy or "GLOBAL" in remedy] == []
    assert all(remedies)


def test_amazon_keeps_binlogs_by_its_procedure() -> None:
    expected = "CALL mysql.rds_set_configuration('binlog retention hours', 168);"
    assert Hosting(Platform.RDS, "mysql").keep_binlogs(168) == expected
    assert Hosting(Platform.AURORA, "mysql").keep_binlogs(168) == expected


def test_mariadb_has_no_set_persist() -> None:
    remedy = Hosting(Platform.OWN, "mariadb").set("binlog_row_metadata", "FULL")
    assert remedy.startswith("SET GLOBAL binlog_row_metadata = FULL; and put binlog_row_metadata = FULL")


def test_a_session_variable_comes_with_a_word_about_open_sessions() -> None:
    for flavour in ("mysql", "mariadb"):
        assert "sessions that are open" in Hosting(Platform.OWN, flavour).set("binlog_format", "ROW")  # type: ignore[arg-type]


@pytest.mark.parametrize(("mode", "steps"), [("OFF", 3), ("OFF_PERMISSIVE", 2), ("ON_PERMISSIVE", 1), ("?", 1)])
def test_gtids_are_turned_on_step_by_step(mode: str, steps: int) -> None:
    assert Hosting(Platform.OWN, "mysql").gtid_on(mode).count("SET PERSIST gtid_mode") == steps


def test_a_password_cannot_leave_its_quotes() -> None:
    statement = Hosting(Platform.OWN, "mysql").account("o'brien", "a'b\\c")
    assert statement == "CREATE USER 'o''brien'@'%' IDENTIFIED BY 'a''b\\\\c';"


def test_the_grants_are_the_flavours() -> None:
    def grants(flavour: str) -> list[str]:
        return Hosting(Platform.OWN, flavour).grants("'p'@'%'", "a`b", ["images"])  # type: ignore[arg-type]

    assert grants("mysql") == [
        "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'p'@'%';",
        "GRANT SELECT ON `a``b`.`images` TO 'p'@'%';",
    ]
    assert "BINLOG MONITOR" in grants("mariadb")[0]


# TLS


def context(mode: ssl.VerifyMode) -> ssl.SSLContext:
    found = ssl.create_default_context()
    found.check_hostname = False
    found.verify_mode = mode
    return found


@pytest.mark.parametrize(
    ("host", "cipher", "offered", "verifies", "warns"),
    [
        ("127.0.0.1", "", False, None, None),
        ("db.example", "AES", True, ssl.CERT_REQUIRED, None),
        ("db.example", "AES", True, ssl.CERT_NONE, "ssl_mode=VERIFY_IDENTITY"),
        ("db.example", "AES", True, None, "ssl_ca="),
        ("db.example", "", True, None, "ssl_mode=VERIFY_IDENTITY"),
        ("db.example", "", False, None, "my.cnf"),
        ("10.0.0.7", "", False, None, "my.cnf"),
    ],
)
def test_plain_text_to_another_machine_is_a_warning(
    host: str, cipher: str, offered: bool, verifies: ssl.VerifyMode | None, warns: str | None
) -> None:
    address = parse_mysql_url(f"mysql://u@{host}/app")
    found = judge_tls(address, cipher, offered, None if verifies is None else context(verifies))
    assert isinstance(found, Advice) == bool(warns)
    assert not isinstance(found, Advice) or str(warns) in found.remedy


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("127.0.0.53", True), ("::1", True), ("db", False), ("192.168.0.1", False)],
)
def test_loopback_is_told_by_the_address(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
