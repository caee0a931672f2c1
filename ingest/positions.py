"""Where the server's binlog stands, and whether it still holds what follows a saved position."""

from __future__ import annotations

from ingest.gtid import DomainPositions, number_of
from ingest.mysql import Connection, Server, query
from ingest.position import Position
from pixtail.core.errors import PositionLost, SourceError


def now(connection: Connection, server: Server) -> Position:
    """The end of the binlog. On MySQL, every transaction of its GTID set is visible to a read view opened from now on: the server adds
    it after the engine's commit. The file position may run ahead of that by the transactions in the middle of their commit.

    Raises PyMySQL's errors: call it within `translated`.
    """
    file, offset = _status(connection, server)
    if server.flavour == "mariadb":
        return Position(_mariadb_gtid(connection, file, offset), file, offset)
    if not server.gtid:
        return Position(None, file, offset)
    return Position(str(query(connection, "SELECT @@GLOBAL.gtid_executed")[0][0]).replace("\n", ""), file, offset)


def of_snapshot(connection: Connection) -> Position:
    """MariaDB: exactly what the consistent snapshot of this connection sees. https://mariadb.com/kb/en/enhancements-for-start-transaction-with-consistent-snapshot/"""
    status: dict[str, str] = dict(query(connection, "SHOW STATUS LIKE 'binlog_snapshot_%'"))
    values = {name.lower(): value for name, value in status.items()}
    file, offset = values["binlog_snapshot_file"], int(values["binlog_snapshot_position"])
    return Position(_mariadb_gtid(connection, file, offset), file, offset)


def _status(connection: Connection, server: Server) -> tuple[str, int]:
    rows = query(connection, "SHOW BINARY LOG STATUS" if _has_new_names(server) else "SHOW MASTER STATUS")
    if not rows:
        raise SourceError(f"{server} writes no binlog", "Start it with log_bin")
    return str(rows[0][0]), int(rows[0][1])


def _has_new_names(server: Server) -> bool:
    """MySQL 8.2 brought SHOW BINARY LOG STATUS, 8.4 took SHOW MASTER STATUS away."""
    major, minor = (int(part) for part in server.version.split(".")[:2])
    return server.flavour == "mysql" and (major, minor) >= (8, 2)


def _mariadb_gtid(connection: Connection, file: str, offset: int) -> str:
    found = query(connection, "SELECT BINLOG_GTID_POS(%s, %s)", (file, offset))[0][0]
    if found is None:
        raise SourceError(f"MariaDB knows no GTID position for {file}:{offset}")
    return str(found)


def confirm(connection: Connection, server: Server, position: Position) -> None:
    """Raises `PositionLost` unless the server can go on from `position`. It does not always say so itself: of a GTID domain that MariaDB
    does not know, it sends everything from the start."""
    if position.gtid and server.flavour == "mariadb":
        problem = _mariadb_problem(connection, position.gtid)
    elif position.gtid and server.gtid:
        problem = _mysql_problem(connection, position.gtid)
    else:
        problem = _file_problem(connection, position)
    if problem:
        raise lost(server, problem)


def lost(server: Server, problem: str) -> PositionLost:
    return PositionLost(f"{server} {problem}", "Take a new snapshot: choose another kafka.prefix")


def _mysql_problem(connection: Connection, gtid: str) -> str:
    statement = "SELECT GTID_SUBSET(@@GLOBAL.gtid_purged, %s), GTID_SUBSET(%s, @@GLOBAL.gtid_executed)"
    has_the_rest, knows_it = query(connection, statement, (gtid, gtid))[0]
    if not knows_it:
        return "does not know the transactions we have read: it is another server, or was reset or restored"
    return "" if has_the_rest else "has purged binlogs that we have not read"


def _mariadb_problem(connection: Connection, gtid: str) -> str:
    """Purged binlogs are not seen here: MariaDB refuses them itself, with error 1236, before it sends anything."""
    newest: dict[int, int] = {}
    for known in str(query(connection, "SELECT @@GLOBAL.gtid_binlog_state")[0][0]).split(","):
        for domain, text in DomainPositions(known).last.items():
            newest[domain] = max(newest.get(domain, 0), number_of(text))
    ahead = [text for domain, text in DomainPositions(gtid).last.items() if newest.get(domain, 0) < number_of(text)]
    return (
        f"does not know {ahead[0]}, which we have read: it is another server, or was reset or restored" if ahead else ""
    )


def _file_problem(connection: Connection, position: Position) -> str:
    sizes = {str(row[0]): int(row[1]) for row in query(connection, "SHOW BINARY LOGS")}
    if position.file not in sizes:
        return f"no longer has the binlog file {position.file}"
    if position.pos > sizes[position.file]:
        return f"has a shorter binlog file {position.file} than we have read: it was reset or restored"
    return ""
