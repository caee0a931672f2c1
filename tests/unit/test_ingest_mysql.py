"""The database's address, TLS options, and errors."""

from __future__ import annotations

import ssl

import pytest
from pymysql.err import InterfaceError, MySQLError, OperationalError, ProgrammingError

from ingest.mysql import connection_arguments, quoted, translate, translated
from pixtail.core.errors import DatabaseUnreachable, PixtailError, SettingError, SourceError
from pixtail.core.settings import parse_mysql_url

URL = "mysql://app:s3cret@db.example:3307/shop"
ADDRESS = parse_mysql_url(URL)


@pytest.mark.parametrize(
    ("error", "kind", "named"),
    [
        (OperationalError(2003, "Can't connect"), DatabaseUnreachable, "db.example:3307"),
        (OperationalError(2006, "gone away"), DatabaseUnreachable, "does not answer"),
        (OperationalError(2013, "Lost connection"), DatabaseUnreachable, "Lost connection"),
        (InterfaceError(0, ""), DatabaseUnreachable, "db.example:3307"),
        (OperationalError(1040, "Too many connections"), DatabaseUnreachable, "Too many"),
        (OperationalError(1053, "Server shutdown in progress"), DatabaseUnreachable, "shutdown"),
        (OperationalError(1045, "Access denied"), SettingError, "mysql.url"),
        (OperationalError(1049, "Unknown database"), SettingError, "shop"),
        (ProgrammingError(1146, "no table"), SettingError, "table.name"),
        (OperationalError(1044, "denied"), SettingError, "GRANT SELECT ON `shop`.*"),
        (OperationalError(1227, "denied"), SettingError, "GRANT REPLICATION SLAVE"),
        (OperationalError(2026, "no SSL"), SettingError, "ssl_mode"),
        (OperationalError(2059, "plugin 'parsec' not configured"), SettingError, "parsec"),
        (OperationalError(3159, "insecure transport"), SettingError, "ssl_mode"),
        (OperationalError(1381, "no binary logging"), SourceError, "1381"),
    ],
)
def test_each_vendor_error_is_ours(error: MySQLError, kind: type[PixtailError], named: str) -> None:
    ours = translate(error, ADDRESS)
    assert type(ours) is kind
    assert named in str(ours)
    assert "s3cret" not in str(ours)


def test_a_torn_socket_is_an_unreachable_database() -> None:
    with pytest.raises(DatabaseUnreachable), translated(ADDRESS):
        raise ConnectionResetError("reset by peer")


@pytest.mark.parametrize(
    ("options", "verified", "by_name"),
    [
        ("ssl_mode=REQUIRED", ssl.CERT_NONE, False),
        ("ssl_mode=verify_ca", ssl.CERT_REQUIRED, False),
        ("ssl_mode=VERIFY_IDENTITY", ssl.CERT_REQUIRED, True),
    ],
)
def test_ssl_mode_says_what_is_verified(options: str, verified: ssl.VerifyMode, by_name: bool) -> None:
    context = connection_arguments(parse_mysql_url(f"{URL}?{options}"))["ssl"]
    assert (context.verify_mode, context.check_hostname) == (verified, by_name)


def test_without_options_tls_is_used_if_it_is_offered() -> None:
    arguments = connection_arguments(ADDRESS)
    assert "ssl" not in arguments
    assert "ssl_disabled" not in arguments
    assert connection_arguments(parse_mysql_url(f"{URL}?ssl_mode=DISABLED"))["ssl_disabled"] is True


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("ssl_mod=REQUIRED", "ssl_mod"),
        ("ssl_mode=SOMETIMES", "SOMETIMES"),
        ("ssl_ca=/no/such/file", "ssl_ca in mysql.url: /no/such/file"),
        ("ssl_ca=/ca.pem&ssl_mode=PREFERRED", "ssl_ca"),
        ("ssl_key=/key.pem", "ssl_cert"),
        ("charset=latin1", "charset"),
    ],
)
def test_an_option_that_cannot_be_is_a_setting_error(options: str, named: str) -> None:
    with pytest.raises(SettingError, match=named):
        connection_arguments(parse_mysql_url(f"{URL}?{options}"))


def test_a_name_is_quoted_against_its_own_backticks() -> None:
    assert quoted("a`b", "c") == "`a``b`.`c`"
