"""Each check fails for its reason, with the right error, and what it prints mends it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from ingest.preflight import PROBES, examine, require
from pixtail.core.checks import Check
from pixtail.core.errors import DatabaseUnreachable, PixtailError, SettingError, SourceError
from pixtail.core.settings import Settings
from pixtail.servers.mariadb import MariadbServer
from pixtail.servers.mysql import MysqlServer
from pixtail.servers.process import free_port
from pixtail.servers.sql import SqlServer
from tests.conftest import serve
from tests.integration.listener_kit import IMAGES


def settings(server: SqlServer, name: str, url: str | None = None, **table: str) -> Settings:
    return Settings(mysql={"url": url or server.url(name)}, table=table)


@pytest.fixture
def name(database: SqlServer, unique: str) -> str:
    """A database with the table `images`."""
    database.create_database(unique)
    database.execute(IMAGES, database=unique)
    return unique


def checks(given: Settings) -> list[Check]:
    return examine(given).checks


def failed(given: Settings) -> list[Check]:
    return [check for check in checks(given) if not check.ok]


def refusal(given: Settings) -> PixtailError:
    with pytest.raises(PixtailError) as caught:
        require(given)
    return caught.value


def statements(remedy: str) -> list[str]:
    """The SQL in it: what ends with a semicolon."""
    return [part.strip() for part in remedy.split(";")[:-1] if re.match(r"\s*(SET|GRANT|ALTER|CALL) ", part)]


def assert_mended(server: SqlServer, given: Settings, name: str, check: str) -> None:
    """The check fails alone, and running the SQL of its remedy is enough."""
    (found,) = failed(given)
    assert found.name == check
    assert found.status == 3
    server.execute(*statements(found.remedy))
    assert failed(given) == []
    require(given)


def test_a_sound_table_passes_every_check(database: SqlServer, name: str) -> None:
    results = checks(settings(database, name))
    assert [check.name for check in results] == [probe.name for probe in PROBES]
    assert all(check.ok for check in results), results
    require(settings(database, name))


@pytest.mark.parametrize(
    ("variable", "wrong"),
    [("binlog_row_metadata", "MINIMAL"), ("binlog_row_image", "MINIMAL"), ("binlog_format", "MIXED")],
)
def test_a_wrong_server_variable_is_mended_by_the_printed_statement(
    database: SqlServer, name: str, variable: str, wrong: str
) -> None:
    right = database.query(f"SELECT @@GLOBAL.{variable}")[0][0]
    database.execute(f"SET GLOBAL {variable} = '{wrong}'")
    try:
        assert isinstance(refusal(settings(database, name)), SourceError)
        assert_mended(database, settings(database, name), name, variable)
    finally:
        database.execute(f"SET GLOBAL {variable} = '{right}'", *forgotten(database))


def forgotten(server: SqlServer) -> list[str]:
    """The server is shared, and its next life must not remember."""
    return ["RESET PERSIST"] if server.name == "mysql" else []


@pytest.mark.parametrize("missing", ["REPLICATION SLAVE", "REPLICATION CLIENT", "SELECT"])
def test_a_missing_grant_is_mended_by_the_printed_statement(database: SqlServer, name: str, missing: str) -> None:
    grants = {
        "REPLICATION SLAVE": f"GRANT REPLICATION SLAVE ON *.* TO '{name}'@'127.0.0.1'",
        "REPLICATION CLIENT": f"GRANT REPLICATION CLIENT ON *.* TO '{name}'@'127.0.0.1'",
        "SELECT": f"GRANT SELECT ON {name}.images TO '{name}'@'127.0.0.1'",
    }
    database.execute(f"CREATE USER '{name}'@'127.0.0.1' IDENTIFIED BY 'secret word'")
    database.execute(*(grant for privilege, grant in grants.items() if privilege != missing))
    given = settings(database, name, database.url(name, name, "secret%20word"))
    try:
        if missing == "SELECT":  # without it the table is invisible, too
            found = failed(given)
            assert found[0].name == "grant SELECT"
            database.execute(found[0].remedy)
            assert failed(given) == []
        else:
            assert isinstance(refusal(given), SettingError)
            assert_mended(database, given, name, f"grant {missing}")
    finally:
        database.execute(f"DROP USER '{name}'@'127.0.0.1'")


def test_a_wrong_password_is_a_setting_and_is_not_repeated(database: SqlServer, name: str) -> None:
    given = settings(database, name, database.url(name, "root", "wr0ng-s3cret"))
    results = checks(given)
    assert [check.ok for check in results] == [False] * len(PROBES)
    assert results[0].status == 3
    assert "mysql.url" in results[0].remedy
    assert "wr0ng" not in str(results)
    assert isinstance(refusal(given), SettingError)


def test_a_server_that_is_not_there_is_unreachable(unique: str) -> None:
    port = free_port()
    given = Settings(mysql={"url": f"mysql://root@127.0.0.1:{port}/{unique}"})
    first, second, *_ = checks(given)
    assert first.status == 4
    assert f"127.0.0.1:{port}" in first.detail
    assert "not checked" in second.detail
    assert isinstance(refusal(given), DatabaseUnreachable)


@pytest.mark.parametrize(
    ("changes", "table", "check", "remedy"),
    [
        (["DROP TABLE images"], {}, "table", "table.name"),
        (["ALTER TABLE images MODIFY id BIGINT, DROP PRIMARY KEY"], {}, "primary key", "ADD PRIMARY KEY"),
        ([], {"key": "n"}, "primary key", 'table.key = "id"'),
        (
            ["ALTER TABLE images DROP PRIMARY KEY, ADD PRIMARY KEY (id, file_path)"],
            {},
            "primary key",
            'Set table.key = ["id", "file_path"]',
        ),
        ([], {"picture": "path"}, "picture column", "file_path"),
        ([], {"picture": "n"}, "picture column", "file_path"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    database: SqlServer, name: str, changes: list[str], table: dict[str, str], check: str, remedy: str
) -> None:
    database.execute(*changes, database=name)
    found = failed(settings(database, name, **table))[0]
    assert found.name == check
    assert remedy in found.remedy
    assert isinstance(refusal(settings(database, name, **table)), SettingError)


def test_a_missing_database_is_named(database: SqlServer, unique: str) -> None:
    found = failed(settings(database, unique))[0]
    assert unique in found.detail
    assert found.status == 3


def test_a_foreign_key_that_changes_rows_is_refused(database: SqlServer, name: str) -> None:
    database.execute(
        "CREATE TABLE models (id INT PRIMARY KEY)",
        "ALTER TABLE images ADD CONSTRAINT fk FOREIGN KEY (n) REFERENCES models (id) ON DELETE CASCADE",
        database=name,
    )
    given = settings(database, name)
    assert "fk" in failed(given)[0].detail
    assert_mended(database, given, name, "foreign keys")


def test_a_mariadb_uuid_is_refused(mariadb: MariadbServer, unique: str) -> None:
    mariadb.create_database(unique)
    mariadb.execute(IMAGES, "ALTER TABLE images ADD u UUID", database=unique)
    (found,) = failed(settings(mariadb, unique))
    assert found.name == "column types"
    mariadb.execute(*statements(found.remedy))
    assert failed(settings(mariadb, unique)) == []


@pytest.fixture(params=[MysqlServer, MariadbServer], ids=["mysql", "mariadb"])
def without_binlog(request: pytest.FixtureRequest) -> Iterator[SqlServer]:
    yield from serve(request.param(extra=["--skip-log-bin"]))


def test_a_server_without_a_binlog_is_refused(without_binlog: SqlServer, unique: str) -> None:
    without_binlog.create_database(unique)
    found = failed(settings(without_binlog, unique))[0]
    assert found.name == "binlog"
    assert "log_bin" in found.remedy
    assert isinstance(refusal(settings(without_binlog, unique)), SourceError)


def test_tls_that_must_be_is_used_and_its_certificate_is_checked(mysql: MysqlServer, unique: str) -> None:
    mysql.create_database(unique)
    mysql.execute(IMAGES, database=unique)
    url = mysql.url(unique)
    require(settings(mysql, unique, f"{url}?ssl_mode=REQUIRED"))
    require(settings(mysql, unique, f"{url}?ssl_ca={mysql.data / 'ca.pem'}"))
    unverified = refusal(settings(mysql, unique, f"{url}?ssl_mode=VERIFY_CA"))  # no CA of the system signed it
    assert isinstance(unverified, SettingError)


def test_tls_that_the_server_does_not_offer_is_refused(mariadb: MariadbServer, unique: str) -> None:
    mariadb.create_database(unique)
    given = settings(mariadb, unique, f"{mariadb.url(unique)}?ssl_mode=REQUIRED")
    assert isinstance(refusal(given), SettingError)
