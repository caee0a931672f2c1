"""Whatever doctor finds wrong with a server, what it prints mends: each remedy is applied to the real server, and doctor looks again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pymysqlreplication.binlogstream import ReportSlave

from ingest.managed import Hosting, Platform
from ingest.preflight import PROBES, examine, require
from ingest.sequence import now_ms
from ingest.server_checks import SERVER
from ingest.subject import Subject, attempt
from pixtail.core.checks import Check
from pixtail.core.errors import SourceError
from pixtail.core.settings import Settings
from pixtail.servers.mariadb import MariadbServer
from pixtail.servers.mysql import MysqlServer
from pixtail.servers.sql import SqlServer
from tests.conftest import serve
from tests.integration.doctor_kit import (
    IMAGES,
    apply_setting,
    named,
    restart_with,
    run_sql,
    running,
    settings_of,
    troubles,
)

KINDS = {"mysql": MysqlServer, "mariadb": MariadbServer}


@pytest.fixture(scope="module", params=list(KINDS))
def own(request: pytest.FixtureRequest) -> Iterator[SqlServer]:
    """A server of this file alone: its global variables may be spoilt, as long as they are mended."""
    yield from serve(KINDS[request.param]())


@pytest.fixture
def name(own: SqlServer, unique: str) -> str:
    """A database with the table `images`."""
    return prepared(own, unique)


def prepared(server: SqlServer, name: str) -> str:
    server.create_database(name)
    server.execute(IMAGES, database=name)
    return name


def check(given: Settings, name: str) -> Check:
    return named(examine(given).checks, name)


def assert_all_well(given: Settings) -> None:
    assert troubles(examine(given).checks) == []
    require(given)


def test_doctor_makes_many_checks_and_finds_nothing_wrong_with_a_sound_server(own: SqlServer, name: str) -> None:
    assert len(PROBES) >= 20
    assert_all_well(settings_of(own, name))


@pytest.mark.parametrize(
    ("spoil", "found", "ok"),
    [
        ("SET GLOBAL binlog_expire_logs_seconds = 600", "binlog retention", False),
        ("SET GLOBAL binlog_expire_logs_seconds = 7200", "binlog retention", True),
        ("SET GLOBAL max_allowed_packet = 1048576", "max_allowed_packet", True),
        ("SET GLOBAL binlog_row_image = MINIMAL", "binlog_row_image", False),
    ],
)
def test_a_bad_variable_is_mended_by_the_printed_statement(
    own: SqlServer, name: str, spoil: str, found: str, ok: bool
) -> None:
    own.execute(spoil)
    bad = check(settings_of(own, name), found)
    assert (bad.ok, bool(bad.remedy)) == (ok, True)
    run_sql(own, bad.remedy)
    assert_all_well(settings_of(own, name))


def test_a_statement_for_mysql_holds_beyond_the_next_start(unique: str) -> None:
    with running(MysqlServer()) as server:
        given = settings_of(server, prepared(server, unique))
        server.execute("SET GLOBAL binlog_expire_logs_seconds = 600")
        run_sql(server, check(given, "binlog retention").remedy)
        server.stop()
        server.start()
        assert_all_well(given)


def test_partial_json_is_refused_and_mended(mysql: MysqlServer, unique: str) -> None:
    given = settings_of(mysql, prepared(mysql, unique))
    mysql.execute("SET GLOBAL binlog_row_value_options = PARTIAL_JSON")
    try:
        with pytest.raises(SourceError):
            require(given)
        run_sql(mysql, check(given, "binlog_row_value_options").remedy)
        assert_all_well(given)
    finally:
        mysql.execute("SET GLOBAL binlog_row_value_options = ''", "RESET PERSIST")


def test_loose_gtids_of_mariadb_are_a_warning_and_mended(mariadb: MariadbServer, unique: str) -> None:
    given = settings_of(mariadb, prepared(mariadb, unique))
    mariadb.execute("SET GLOBAL gtid_strict_mode = OFF")
    try:
        bad = check(given, "GTIDs")
        assert bad.ok
        run_sql(mariadb, bad.remedy)
        assert_all_well(given)
    finally:
        mariadb.execute("SET GLOBAL gtid_strict_mode = ON")


def test_mysql_without_gtids_is_warned_of_and_led_to_them_without_a_restart(unique: str) -> None:
    with running(MysqlServer(gtid=False, extra=["--binlog-order-commits=OFF"])) as server:
        given = settings_of(server, prepared(server, unique))
        found = examine(given).checks
        assert troubles(found) == ["GTIDs", "exact snapshots"]
        run_sql(server, named(found, "exact snapshots").remedy)
        assert troubles(examine(given).checks) == ["GTIDs"]
        run_sql(server, named(found, "GTIDs").remedy)
        assert_all_well(given)


def test_the_grants_that_a_snapshot_without_gtids_needs_are_printed(unique: str) -> None:
    with running(MysqlServer(gtid=False)) as server:
        name = prepared(server, unique)
        account = "'pixtail'@'%'"
        server.execute(
            f"CREATE USER {account}",
            f"GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {account}",
            f"GRANT SELECT ON {name}.images TO {account}",
        )
        given = Settings(mysql={"url": server.url(name, "pixtail")})
        bad = check(given, "exact snapshots")
        assert not bad.ok
        run_sql(server, bad.remedy)
        assert check(given, "exact snapshots").ok


def test_a_server_without_an_id_is_mended(mysql: MysqlServer, unique: str) -> None:
    given = settings_of(mysql, prepared(mysql, unique))
    mysql.execute("SET GLOBAL server_id = 0")
    try:
        bad = check(given, "server_id")
        assert not bad.ok
        run_sql(mysql, bad.remedy)
        assert_all_well(given)
    finally:
        mysql.execute("SET GLOBAL server_id = 1", "RESET PERSIST")


def test_the_servers_own_id_is_refused_with_one_that_is_free(own: SqlServer, name: str) -> None:
    given = settings_of(own, name, mysql={"url": own.url(name), "server_id": 1})
    bad = check(given, "server_id")
    assert "the server itself" in bad.detail
    assert check(apply_setting(given, bad.remedy), "server_id").ok


def test_another_replica_with_our_id_is_found(own: SqlServer, name: str) -> None:
    given = settings_of(own, name)
    with own.connect() as replica:
        replica._write_bytes(ReportSlave("other").encoded(given.server_id))  # type: ignore[attr-defined]
        replica._next_seq_id = 1  # type: ignore[attr-defined]
        replica._read_packet()  # type: ignore[attr-defined]
        bad = check(given, "server_id")
        assert "another replica" in bad.detail
        assert check(apply_setting(given, bad.remedy), "server_id").ok


@pytest.mark.parametrize("kind", KINDS)
def test_a_binlog_that_leaves_the_database_out_is_refused_and_mended(kind: str, unique: str) -> None:
    with running(KINDS[kind](extra=["--binlog-ignore-db=shop"])) as server:
        given = settings_of(server, prepared(server, "shop"))
        bad = check(given, "binlog filters")
        assert "Take binlog_ignore_db = shop out" in bad.remedy
        server.stop()
        server.extra = ("--binlog-do-db=other",)
        server.start()
        bad = check(given, "binlog filters")
        assert not bad.ok
        restart_with(server, bad.remedy)
        assert_all_well(given)


@pytest.mark.parametrize("kind", KINDS)
def test_a_replica_that_keeps_its_updates_to_itself_is_refused_and_mended(kind: str, unique: str) -> None:
    with running(KINDS[kind](extra=["--log-slave-updates=OFF"])) as server:
        given = settings_of(server, prepared(server, unique))
        assert check(given, "updates of a replica").ok  # it is none
        server.execute("CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = 1, MASTER_USER = 'nobody'")
        bad = check(given, "updates of a replica")
        assert not bad.ok
        restart_with(server, bad.remedy)
        assert_all_well(given)


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_without_a_binlog_is_mended_by_the_printed_lines(kind: str, unique: str) -> None:
    with running(KINDS[kind](extra=["--skip-log-bin"])) as server:
        given = settings_of(server, prepared(server, unique))
        bad = check(given, "binlog")
        server.extra = ()
        restart_with(server, bad.remedy)
        assert check(given, "binlog").ok
        require(given)


def test_clocks_that_disagree_are_a_warning(own: SqlServer, name: str) -> None:
    assert "ahead of" in named(examine(settings_of(own, name), lambda: now_ms() - 5000).checks, "clock").detail
    behind = named(examine(settings_of(own, name), lambda: now_ms() + 5000).checks, "clock")
    assert behind.ok
    assert "behind" in behind.detail
    assert behind.remedy


def test_amazons_retention_is_asked_of_its_procedure_and_set_by_it(mysql: MysqlServer, unique: str) -> None:
    """The procedures of Amazon's servers, rebuilt here with the two columns that count."""
    mysql.create_database(unique)
    mysql.execute(
        f"CREATE TABLE {unique}.configuration (name VARCHAR(60), value VARCHAR(60), description VARCHAR(60))",
        f"INSERT INTO {unique}.configuration VALUES ('source delay', '0', ''), ('binlog retention hours', NULL, '')",
        f"CREATE PROCEDURE mysql.rds_show_configuration() SELECT * FROM {unique}.configuration",
        "CREATE PROCEDURE mysql.rds_set_configuration(IN n VARCHAR(60), IN v INT)"
        f" UPDATE {unique}.configuration SET value = v WHERE name = n",
    )
    (probe,) = (probe for probe in SERVER if probe.name == "binlog retention")
    subject = Subject(settings_of(mysql, unique))
    try:
        subject.connect()
        subject.hosting = Hosting(Platform.RDS, "mysql")
        bad = attempt(probe, subject)
        assert not bad.ok
        run_sql(mysql, bad.remedy)
        assert attempt(probe, subject) == Check("binlog retention", True, "binlogs are kept for 7 days")
        mysql.execute("DROP PROCEDURE mysql.rds_show_configuration", "DROP PROCEDURE mysql.rds_set_configuration")
        untold = attempt(probe, subject)
        assert untold.ok
        assert "rds_set_configuration" in untold.remedy
    finally:
        subject.close()


def test_a_view_is_no_table(own: SqlServer, name: str) -> None:
    own.execute("CREATE VIEW pictures AS SELECT * FROM images", database=name)
    bad = check(settings_of(own, name, table={"name": "pictures"}), "table")
    assert "view" in bad.detail


def test_an_engine_without_transactions_is_a_warning_and_mended(own: SqlServer, name: str) -> None:
    own.execute("ALTER TABLE images ENGINE = MyISAM", database=name)
    run_sql(own, check(settings_of(own, name), "engine").remedy)
    assert_all_well(settings_of(own, name))


def test_a_name_in_other_letters_than_the_binlogs_is_refused_and_mended(unique: str) -> None:
    with running(MariadbServer(extra=["--lower-case-table-names=1"])) as server:
        given = settings_of(server, prepared(server, unique), table={"name": "Images"})
        bad = check(given, "table")
        assert not bad.ok
        assert_all_well(apply_setting(given, bad.remedy))


@pytest.mark.parametrize("table", [{"payload": ["title"]}, {"only": {"status": "published"}}])
def test_a_column_that_the_settings_alone_know_is_named(own: SqlServer, name: str, table: dict[str, object]) -> None:
    bad = check(settings_of(own, name, table=table), "columns of the settings")
    assert not bad.ok
    assert "file_path" in bad.remedy


def test_the_largest_row_and_the_newest_pictures_are_looked_at(own: SqlServer, name: str) -> None:
    own.execute("INSERT INTO images (file_path) VALUES ('a.jpg'), (NULL), (REPEAT('x', 190))", "COMMIT", database=name)
    found = examine(settings_of(own, name))
    assert (found.row_bytes, found.pictures) == (191, ["x" * 190, "a.jpg"])


def test_a_table_without_a_key_fails_for_that_alone(own: SqlServer, name: str) -> None:
    own.execute("ALTER TABLE images MODIFY id BIGINT NOT NULL, DROP PRIMARY KEY", database=name)
    assert troubles(examine(settings_of(own, name)).checks) == ["primary key"]
    run_sql(own, check(settings_of(own, name), "primary key").remedy)
    assert_all_well(settings_of(own, name))
