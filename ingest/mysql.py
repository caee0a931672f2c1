"""The connection to MySQL or MariaDB: address, TLS, what the server says of itself, and what its errors mean to us."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeAlias

import pymysql
from pymysql.err import MySQLError

from pixtail.core.errors import DatabaseUnreachable, PixtailError, SettingError, SourceError
from pixtail.core.settings import Mysql, MysqlAddress
from pixtail.core.tls import Names, client_context, tls_problem

Connection: TypeAlias = "pymysql.connections.Connection[Any]"
Flavour: TypeAlias = Literal["mysql", "mariadb"]
Row: TypeAlias = tuple[Any, ...]

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 15
SSL_MODES = ("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
SSL_OPTIONS = ("ssl_ca", "ssl_cert", "ssl_key", "ssl_mode")
TLS_NAMES = Names("ssl_ca in mysql.url", "ssl_cert in mysql.url", "ssl_key in mysql.url", "mysql.url")

# Error numbers: https://dev.mysql.com/doc/mysql-errors/8.0/en/ and https://mariadb.com/kb/en/mariadb-error-code-reference/
_AWAY = {2002, 2003, 2005, 2006, 2013, 2014, 2055}  # the client could not reach the server, or lost it
_BUSY = {1040, 1053, 1077, 1129, 1152, 1158, 1159, 1160, 1161, 1203, 1205, 1213, 1226, 1317, 1927, 3024, 3168, 3169}
TAKEN_OVER = 4052  # MariaDB: another replica with this server_id came
BINLOG_REFUSED = 1236  # ER_MASTER_FATAL_ERROR_READING_BINLOG: among others, the position was purged
TLS_ONLY = 3159  # ER_SECURE_TRANSPORT_REQUIRED
NO_TLS = 2026  # PyMySQL's word for a server that offers none
NO_PLUGIN = 2059  # PyMySQL does not know the account's authentication plugin
_WRONG_PASSWORD = {1045, 1698, 1862, 3118, 3955}
FORBIDDEN = {1044, 1142, 1143, 1227}
ABSENT = {1049, 1146}  # no such database, no such table


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself. `account` is the one we were let in as, quoted for a GRANT: `'user'@'host'`."""

    flavour: Flavour
    version: str
    account: str
    variables: Mapping[str, str]

    @property
    def gtid(self) -> bool:
        """Does every transaction have a GTID? MariaDB: always; MySQL: with gtid_mode=ON."""
        return self.flavour == "mariadb" or self.variables.get("gtid_mode", "").upper() == "ON"

    @property
    def year_is_numeric(self) -> bool | None:
        """Does its TABLE_MAP count YEAR among the columns that have a sign? MySQL 8.0.15 does not (seen), 8.0.29 does by what is reported;
        None: nobody knows."""
        numbers = tuple(int(part) for part in re.findall(r"\d+", self.version)[:3])
        if self.flavour == "mariadb" or numbers >= (8, 0, 29):
            return True
        return False if numbers <= (8, 0, 15) else None

    def variable(self, name: str) -> str:
        """A global variable in capitals; empty if the server does not know it."""
        return self.variables.get(name, "").upper()

    def __str__(self) -> str:
        return f"{'MariaDB' if self.flavour == 'mariadb' else 'MySQL'} {self.version}"


_VARIABLES = (
    "log_bin",
    "binlog_format",
    "binlog_row_image",
    "binlog_row_metadata",
    "binlog_row_value_options",
    "binlog_transaction_compression",
    "log_bin_compress",
    "gtid_mode",
)


def connect(address: MysqlAddress, **options: Any) -> Connection:
    """A connection in autocommit, with UTC as its time zone. `options` are PyMySQL's and win.

    Raises `DatabaseUnreachable`, `SettingError`. The caller closes it.
    """
    arguments = {**connection_arguments(address), **options}
    try:
        with translated(address):
            connection = open_connection(**arguments)
    except RuntimeError as error:  # PyMySQL lacks a package that the account's authentication needs; it names it
        raise SettingError(
            f"MySQL at {address.host}:{address.port}: {error}", "pip install 'pixtail[listen]'"
        ) from error
    try:
        _confirm_tls(connection, address)
    except PixtailError:
        connection.close()
        raise
    return connection


def open_connection(**arguments: Any) -> Connection:
    """What `pymysql.connect` does, a little sooner. Raises PyMySQL's errors."""
    return _Quick(**arguments)


class _Quick(pymysql.connections.Connection):
    """Loads no CAs where nobody asks for any: that takes 25 ms, of every connection."""

    def _create_ssl_ctx(self, sslp: Any) -> ssl.SSLContext:
        context: ssl.SSLContext = super()._create_ssl_ctx(sslp) if sslp else _unverified()  # type: ignore[misc]
        return context


@cache
def _unverified() -> ssl.SSLContext:
    """TLS that keeps listeners away, and does not know whom it talks to: as `mysql` by default."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def connection_arguments(address: MysqlAddress) -> dict[str, Any]:
    """PyMySQL's arguments for an address. Raises `SettingError` for TLS options that are unknown or do not fit together."""
    return {
        "host": address.host,
        "port": address.port,
        "user": address.user,
        "password": address.password.encode(),  # PyMySQL would take text for latin1
        "database": address.database,
        "charset": "utf8mb4",
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": READ_TIMEOUT_S,
        "write_timeout": READ_TIMEOUT_S,
        "autocommit": True,
        "init_command": "SET SESSION time_zone = '+00:00'",
        **_tls(address.options),
    }


def _tls(options: Mapping[str, str]) -> dict[str, Any]:
    mode = _ssl_mode(options)
    if mode == "DISABLED":
        return {"ssl_disabled": True}
    if mode == "PREFERRED":
        return {}
    return {"ssl": _ssl_context(mode, options)}


def _ssl_mode(options: Mapping[str, str]) -> str:
    """As `mysql` has it: files ask for TLS by being there. Those that the mode makes no use of are refused: somebody relies on them."""
    if unknown := sorted(options.keys() - set(SSL_OPTIONS)):
        raise SettingError(f"mysql.url has the unknown option {unknown[0]}", f"Known are {', '.join(SSL_OPTIONS)}")
    files = [name for name in SSL_OPTIONS if name in options and name != "ssl_mode"]
    default = "VERIFY_CA" if "ssl_ca" in files else "REQUIRED" if files else "PREFERRED"
    mode = options.get("ssl_mode", default).upper()
    if mode not in SSL_MODES:
        raise SettingError(f"mysql.url has the unknown ssl_mode {mode}", f"Known are {', '.join(SSL_MODES)}")
    if files and mode in ("DISABLED", "PREFERRED"):
        raise SettingError(f"mysql.url has {files[0]}, of which ssl_mode {mode} makes no use", "Raise ssl_mode")
    if "ssl_key" in files and "ssl_cert" not in files:
        raise SettingError("mysql.url has ssl_key without ssl_cert", "Name the certificate too")
    return mode


def _ssl_context(mode: str, options: Mapping[str, str]) -> ssl.SSLContext:
    context = client_context(TLS_NAMES, options.get("ssl_ca"), options.get("ssl_cert"), options.get("ssl_key"))
    context.check_hostname = mode == "VERIFY_IDENTITY"
    context.verify_mode = ssl.CERT_NONE if mode == "REQUIRED" else ssl.CERT_REQUIRED
    return context


def _confirm_tls(connection: Connection, address: MysqlAddress) -> None:
    """Older PyMySQL falls back to plain text when the server offers no TLS, whatever was asked for."""
    if _ssl_mode(address.options) in ("DISABLED", "PREFERRED"):
        return
    with translated(address):
        rows = query(connection, "SHOW SESSION STATUS LIKE 'Ssl_cipher'")
    if not rows or not rows[0][1]:
        raise _offers_no_tls(address)


def _offers_no_tls(address: MysqlAddress) -> SettingError:
    place = f"{address.host}:{address.port}"
    return SettingError(f"MySQL at {place} offers no TLS", "Give it certificates, or lower ssl_mode in mysql.url")


def query(connection: Connection, statement: str, arguments: tuple[Any, ...] = ()) -> list[Row]:
    """All rows. Raises PyMySQL's errors: call it within `translated`."""
    with connection.cursor() as cursor:
        cursor.execute(statement, arguments or None)
        return list(cursor.fetchall())


def close(connection: Connection) -> None:
    """Closes it, whatever state it is in."""
    with suppress(MySQLError, OSError):
        connection.close()


def look(connection: Connection, settings: Mysql) -> Server:
    """What the server says of itself. Raises PyMySQL's errors: call it within `translated`."""
    version, account = query(connection, "SELECT VERSION(), CURRENT_USER()")[0]
    wanted = ", ".join(f"'{name}'" for name in _VARIABLES)
    rows = query(connection, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({wanted})")
    found: Flavour = "mariadb" if "mariadb" in version.lower() else "mysql"
    user, _, host = account.rpartition("@")
    return Server(
        flavour=found if settings.flavour == "auto" else settings.flavour,
        version=version,
        account=f"'{user}'@'{host}'",
        variables={str(name).lower(): str(value) for name, value in rows},
    )


def quoted(*names: str) -> str:
    """An identifier for a statement: `db`.`table`."""
    return ".".join(f"`{name.replace('`', '``')}`" for name in names)


@contextmanager
def translated(address: MysqlAddress) -> Iterator[None]:
    """Turns PyMySQL's errors into ours, by number."""
    try:
        yield
    except MySQLError as error:
        raise translate(error, address) from error
    except (OSError, EOFError) as error:
        raise _unreachable(address, str(error)) from error


def number_of(error: BaseException) -> int:
    """The server's or client's error number; 0 if there is none."""
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0


def translate(error: MySQLError, address: MysqlAddress) -> PixtailError:
    """The error of ours that says the same."""
    number, message = number_of(error), str(error.args[-1]) if error.args else type(error).__name__
    place = f"{address.host}:{address.port}"
    if problem := tls_problem(error, f"MySQL at {place}", TLS_NAMES):
        return problem
    if number in _AWAY or number in _BUSY or number in (0, TAKEN_OVER):  # 0: PyMySQL's own, on a torn connection
        return _unreachable(address, f"{number} {message}" if number else message)
    if number in _WRONG_PASSWORD:
        return SettingError(
            f"MySQL at {place} refuses {address.user} (wrong user or password)",
            "Correct mysql.url (PIXTAIL_MYSQL__URL), or give what the account REQUIREs: TLS, a client certificate",
        )
    if number in FORBIDDEN:
        return SettingError(f"MySQL at {place} refuses {address.user}: {message}", _grants(address))
    return _known_problem(number, message, address) or SourceError(f"MySQL at {place} refuses: {number} {message}")


def _known_problem(number: int, message: str, address: MysqlAddress) -> PixtailError | None:
    place = f"{address.host}:{address.port}"
    if number == 1049:
        return SettingError(f"MySQL at {place} has no database {address.database}", "Correct the path of mysql.url")
    if number == 1146:
        return SettingError(f"database {address.database} at {place} has no such table", "Correct table.name")
    if number == NO_PLUGIN:
        problem = f"MySQL at {place} asks {address.user} to log in by a method that PyMySQL does not know: {message}"
        return SettingError(problem, "ALTER USER … IDENTIFIED WITH caching_sha2_password (MariaDB: VIA ed25519)")
    if number == TLS_ONLY:
        return SettingError(f"MySQL at {place} takes no connection without TLS", "Raise ssl_mode in mysql.url")
    if number == NO_TLS:
        return _offers_no_tls(address)
    return None


def _unreachable(address: MysqlAddress, why: str) -> DatabaseUnreachable:
    remedy = "Start it, or correct mysql.url (PIXTAIL_MYSQL__URL)"
    if "ssl_cert" in address.options:
        # The alert that says so may be lost: a write meets the closed connection before it is read.
        remedy += "; a server that does not accept ssl_cert may just hang up"
    return DatabaseUnreachable(f"MySQL at {address.host}:{address.port} does not answer: {why}", remedy)


def _grants(address: MysqlAddress) -> str:
    return (
        f"GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO '{address.user}'@'%'; "
        f"GRANT SELECT ON {quoted(address.database)}.* TO '{address.user}'@'%';"
    )
