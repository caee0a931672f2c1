"""The commit barrier of a MySQL without GTIDs: a tiny write of our own.

The server commits transactions in the engine in the order in which they stand in the binlog (binlog_order_commits=ON, its default). So when
our write returns, everything that was in the binlog before it can be seen. A replica's own write stays on the replica; with read_only there
is no such barrier, and no other that needs neither a lock nor GTIDs.
https://dev.mysql.com/doc/refman/8.0/en/replication-options-binary-log.html#sysvar_binlog_order_commits
"""

from __future__ import annotations

from pymysql.err import MySQLError

from ingest import mysql
from ingest.mysql import Connection, Server, query, quoted
from pixtail.core.errors import SettingError, SourceError

TABLE = "pixtail_watermark"
_READ_ONLY = {1290, 1792, 1836}


def confirm(connection: Connection, server: Server, database: str, table: str) -> str:
    """For `doctor` and the start: can a snapshot of this table be exact? Says how; on MySQL without GTIDs it tries the barrier. Raises as
    `advance` does."""
    if server.gtid:
        return "by consistent snapshots" if server.flavour == "mariadb" else "by GTIDs"
    advance(connection, server, database, table)
    return f"by writes to {database}.{TABLE}"


def advance(connection: Connection, server: Server, database: str, table: str) -> None:
    """Returns when a read view opened from now on sees everything that stood in the binlog before the call. Makes its table at the first
    use.

    Raises `SettingError` with the statements that mend it, and PyMySQL's errors: call it within `translated`.
    """
    if not query(connection, "SELECT @@GLOBAL.binlog_order_commits")[0][0]:
        raise SourceError(
            "binlog_order_commits is OFF, and without GTIDs a snapshot needs it",
            "SET GLOBAL binlog_order_commits = ON; and put binlog_order_commits = ON under [mysqld] in my.cnf",
        )
    try:
        _write(connection, database, table)
    except MySQLError as error:
        number = mysql.number_of(error)
        if number in _READ_ONLY:
            raise _read_only(server) from error
        if number in mysql.FORBIDDEN:
            raise _forbidden(server, database) from error
        raise


def _write(connection: Connection, database: str, table: str) -> None:
    """A row for each listened table; it must really change, or there is nothing to commit."""
    write = f"INSERT INTO {quoted(database, TABLE)} VALUES (%s, 1) ON DUPLICATE KEY UPDATE n = n + 1"  # noqa: S608
    try:
        query(connection, write, (table,))
    except MySQLError as error:
        if mysql.number_of(error) not in mysql.ABSENT:
            raise
        query(connection, _create(database))
        query(connection, write, (table,))


def _create(database: str) -> str:
    return (
        f"CREATE TABLE IF NOT EXISTS {quoted(database, TABLE)}"
        " (source VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY, n BIGINT UNSIGNED NOT NULL) ENGINE = InnoDB"
    )


def _forbidden(server: Server, database: str) -> SettingError:
    return SettingError(
        f"without GTIDs a snapshot writes to {database}.{TABLE}, and {server.account} may not",
        f"{_create(database)}; GRANT SELECT, INSERT, UPDATE ON {quoted(database, TABLE)} TO {server.account};",
    )


def _read_only(server: Server) -> SettingError:
    return SettingError(
        f"{server} is read-only, and without GTIDs a snapshot must write to it",
        "Let mysql.url name a server that may be written to, or turn GTIDs on, each step on all servers:"
        " SET GLOBAL enforce_gtid_consistency = ON; SET GLOBAL gtid_mode = OFF_PERMISSIVE; SET GLOBAL gtid_mode = ON_PERMISSIVE;"
        " SET GLOBAL gtid_mode = ON;",
    )
