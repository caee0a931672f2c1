"""Where the server's binlog stands, and whether it still holds what follows a saved position."""

from __future__ import annotations

import re

from ingest.gtid import DomainPositions, GtidSet, number_of
from ingest.mysql import Connection, Server, query
from ingest.position import Place, Position
from pixtail.core.errors import PositionLost, SourceError

_OWNER = re.compile(r"#\d+")  # the thread behind each GTID of gtid_owned
_TRIES = 5
_SETTLE_S = 1
_FIRST_POS = 4  # of a file; a file is not begun before the transactions of the one before are committed


def now(connection: Connection, server: Server) -> Position:
    """Where a stream may start: the end of the binlog, or slightly before it. Its place and its GTIDs agree: no transaction that lies
    before the place is missing from the GTIDs. It may be ahead of the engine by the transactions in the middle of their commit.

    Raises PyMySQL's errors: call it within `translated`.
    """
    found = place(connection, server)
    if server.flavour == "mariadb":
        return _with_domains(connection, server, found)
    return _with_gtids(connection, server, found) if server.gtid else Position(None, found.file, found.pos)


def _with_domains(connection: Connection, server: Server, found: Place) -> Position:
    """MariaDB changes the end of the binlog and its last GTIDs under one lock: between two looks at the same end they were the same. Where
    the end never stands still, BINLOG_GTID_POS reads the whole file for them."""
    for _ in range(_TRIES):
        gtid = str(query(connection, "SELECT @@GLOBAL.gtid_binlog_pos")[0][0])
        before, found = found, place(connection, server)
        if found == before:
            return Position(gtid, found.file, found.pos)
    return Position(_mariadb_gtid(connection, found.file, found.pos), found.file, found.pos)


def _with_gtids(connection: Connection, server: Server, found: Place) -> Position:
    """A transaction has its place first, and is `gtid_owned` until the engine has committed it and it is `gtid_executed`. What was owned
    behind our look at the place is waited for; a replica's applier may own one for hours, and then only the file's beginning is certain."""
    for _ in range(_TRIES):
        owned = _OWNER.sub("", str(query(connection, "SELECT @@GLOBAL.gtid_owned")[0][0]))
        settled = executed(connection, owned, _SETTLE_S)
        gtid = str(query(connection, "SELECT @@GLOBAL.gtid_executed")[0][0]).replace("\n", "")
        before, found = found, place(connection, server)
        if settled and found == before:
            break
    return Position(gtid, before.file, before.pos if settled else _FIRST_POS)


def passes(saved: Position, wanted: Position, server: Server) -> bool:
    """Has a listener whose saved position is `saved` dealt with everything before `wanted`? Pure. Places are of the server that is
    connected now: between two servers only GTIDs can tell."""
    if saved.gtid is None or wanted.gtid is None:
        return saved.place.reaches(wanted.place)
    if server.flavour == "mariadb":
        return DomainPositions(saved.gtid).covers(DomainPositions(wanted.gtid))
    return GtidSet(saved.gtid).covers(GtidSet(wanted.gtid))


def executed(connection: Connection, gtid: str, timeout_s: int) -> bool:
    """MySQL: waits until the engine has committed these transactions; every read view opened from then on sees them. False: not in time.

    A transaction becomes executed behind the engine's commit, whatever binlog_order_commits says (MYSQL_BIN_LOG::finish_commit).
    """
    return bool(query(connection, "SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, %s)", (gtid, timeout_s))[0][0] == 0)


def place_of_snapshot(connection: Connection) -> Place:
    """MariaDB: exactly what the consistent snapshot of this connection sees. It counts the header events of a new file too, so it is never
    behind what a stream can have read of a server at rest.
    https://mariadb.com/kb/en/enhancements-for-start-transaction-with-consistent-snapshot/"""
    status: dict[str, str] = dict(query(connection, "SHOW STATUS LIKE 'binlog_snapshot_%'"))
    values = {name.lower(): value for name, value in status.items()}
    return Place(values["binlog_snapshot_file"], int(values["binlog_snapshot_position"]))


def place(connection: Connection, server: Server) -> Place:
    """The end of the binlog: everything that a read view opened before can see lies before it."""
    return Place(*_status(connection, server))


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
        raise SourceError(
            f"MariaDB knows no GTID position for {file}:{offset}: an event before it may be longer than max_allowed_packet",
            "SET GLOBAL max_allowed_packet = 1073741824;",
        )
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
    return PositionLost(f"{server} {problem}", "Read the table anew: start with --on-lost-position=snapshot")


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
