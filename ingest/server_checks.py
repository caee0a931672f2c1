"""The server: does it write a binlog that has everything, keep it long enough, and may we read it?"""

from __future__ import annotations

import ipaddress
import math
import re
import ssl

from pymysql.err import MySQLError

from ingest import mysql
from ingest.managed import NO_BINLOG, WEEK_HOURS, Platform
from ingest.subject import Advice, Look, Probe, Subject
from pixtail.core.errors import SettingError, SourceError
from pixtail.core.settings import MysqlAddress

CLOCK_TOLERANCE_S = 1.0
LEAST_RETENTION_HOURS = 1
GOOD_RETENTION_HOURS = 24
LEAST_PACKET_BYTES = 4 << 20
GOOD_PACKET_BYTES = 64 << 20
_NO_SUCH_PROCEDURE = {1305, 1370}  # not there, or not allowed


# The connection


def _connection(subject: Subject) -> str:
    subject.connect()
    if subject.hosting.platform is Platform.PLANETSCALE:
        raise SourceError(
            f"{Platform.PLANETSCALE} lets nobody read its binlog, so no table of it can be followed", NO_BINLOG
        )
    managed = "" if subject.hosting.platform is Platform.OWN else f" on {subject.hosting.platform}"
    return f"{subject.server}{managed} at {subject.settings.mysql.address}"


def _tls(subject: Subject) -> str | Advice:
    address = subject.settings.mysql.address
    rows = subject.query("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
    cipher = str(rows[0][1]) if rows else ""
    offered = (
        subject.variables.get("have_ssl", "YES").upper() == "YES"
    )  # newer servers have no such variable, and always offer it
    context = mysql.connection_arguments(address).get("ssl")
    return judge_tls(address, cipher, offered, context)


def judge_tls(address: MysqlAddress, cipher: str, offered: bool, context: ssl.SSLContext | None) -> str | Advice:
    """`cipher` is empty for plain text. `context` is what we verify the server's certificate by, if at all."""
    verified = context is not None and context.verify_mode is ssl.CERT_REQUIRED
    if cipher and verified:
        return f"encrypted ({cipher}), the certificate is verified"
    said = f"encrypted ({cipher}), but nobody verifies whose certificate it is" if cipher else "not encrypted"
    if is_loopback(address.host):
        return f"{said}; it does not leave this machine"
    if not cipher and not offered:
        return Advice(
            f"{said}: {address.host} offers no TLS",
            "Put ssl_cert, ssl_key and ssl_ca under [mysqld] in my.cnf, and restart it",
        )
    return Advice(said, "Append ?ssl_ca=/path/to/ca.pem&ssl_mode=VERIFY_IDENTITY to mysql.url")


def is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _clock(subject: Subject) -> str | Advice:
    """Half of the question's time is the error of this measurement."""
    before = subject.clock_ms()
    server_ms = float(subject.query("SELECT UNIX_TIMESTAMP(NOW(6))")[0][0]) * 1000
    after = subject.clock_ms()
    ahead_s = (server_ms - (before + after) / 2) / 1000
    doubt_s = (after - before) / 2000
    if abs(ahead_s) - doubt_s <= CLOCK_TOLERANCE_S:
        return f"it agrees with ours within {max(abs(ahead_s), doubt_s):.2f} s"
    which = "ahead of" if ahead_s > 0 else "behind"
    return Advice(
        f"the server's clock is {abs(ahead_s):.1f} s {which} ours: lag and freshness will be wrong by that",
        "timedatectl set-ntp true, on the machine whose clock is wrong",
    )


# The binlog


def _binlog(subject: Subject) -> str:
    if subject.variable("log_bin") not in ("ON", "1"):
        raise SourceError(f"{subject.server} writes no binlog", subject.hosting.binlog_on())
    return "it writes one"


def _variable(name: str, wanted: str) -> Look:
    def look(subject: Subject) -> str:
        found = subject.variable(name)
        if not found:
            raise SourceError(f"{subject.server} does not know {name}", "Use MySQL 8.0.1, MariaDB 10.5, or newer")
        if found != wanted:
            raise SourceError(f"{name} is {found}", subject.hosting.set(name, wanted))
        return found

    return look


def _partial_json(subject: Subject) -> str:
    if "PARTIAL_JSON" in subject.variable("binlog_row_value_options"):
        raise SourceError(
            "binlog_row_value_options is PARTIAL_JSON: an update of a JSON column holds only what changed in it",
            subject.hosting.set("binlog_row_value_options", "''"),
        )
    return "rows are written whole"


def _compression(subject: Subject) -> str:
    names = ("binlog_transaction_compression", "log_bin_compress")
    on = [name for name in names if subject.variable(name) == "ON"]
    return f"{on[0]} is ON, which is decoded" if on else "off"


def _filters(subject: Subject) -> str:
    """What the server leaves out of its binlog, nobody can follow. https://dev.mysql.com/doc/refman/8.0/en/replication-rules.html"""
    rows = subject.query_if_allowed("SHOW BINARY LOG STATUS", "SHOW MASTER STATUS")
    if not rows:
        return "cannot be seen before the grants are there"
    database = subject.settings.mysql.address.database
    only, never = (_names(text) for text in rows[0][2:4])
    if database in never:
        raise SourceError(
            f"the server leaves {database} out of its binlog (binlog_ignore_db)",
            f"Take binlog_ignore_db = {database} out of my.cnf, and restart the server",
        )
    if only and database not in only:
        raise SourceError(
            f"the server writes only {', '.join(sorted(only))} to its binlog (binlog_do_db)",
            subject.hosting.set_at_start("binlog_do_db", database),
        )
    return f"{database} is written"


def _names(text: str) -> set[str]:
    return {name for name in str(text or "").split(",") if name}


def _replica_updates(subject: Subject) -> str:
    """A replica writes what it replicates to its own binlog only if it is told to."""
    name = next((name for name in ("log_replica_updates", "log_slave_updates") if name in subject.variables), "")
    if subject.variables.get(name, "ON") == "ON":
        return "a replica writes what it replicates"
    replicates = subject.query_if_allowed("SHOW REPLICA STATUS", "SHOW SLAVE STATUS")
    if replicates or subject.variables.get("gtid_slave_pos"):
        raise SourceError(
            f"{subject.server} is a replica and does not write what it replicates to its binlog ({name} is OFF)",
            subject.hosting.set_at_start(name, "ON") + "; or name its source in mysql.url",
        )
    return "it is no replica"


def _retention(subject: Subject) -> str | Advice:
    hours = retention_hours(subject)
    remedy = subject.hosting.keep_binlogs(WEEK_HOURS)
    if hours is None:
        return Advice(f"{subject.hosting.platform} does not tell this account for how long it keeps binlogs", remedy)
    if hours == math.inf:
        return "binlogs are kept until somebody purges them"
    if hours >= GOOD_RETENTION_HOURS:
        return f"binlogs are kept for {hours / 24:.3g} days"
    said = f"binlogs are kept for {hours:.3g} hours only: a listener that is away for longer needs a new snapshot"
    if hours < LEAST_RETENTION_HOURS:
        raise SourceError(said, remedy)
    return Advice(said, remedy)


def retention_hours(subject: Subject) -> float | None:
    """For how long binlogs are kept, infinity included; None if the account is not told. Raises PyMySQL's errors."""
    if subject.hosting.platform in (Platform.RDS, Platform.AURORA):
        return _amazon_retention(subject)
    if subject.variable("binlog_expire_logs_auto_purge") == "OFF":
        return math.inf
    seconds = float(subject.variables.get("binlog_expire_logs_seconds") or 0)
    days = float(subject.variables.get("expire_logs_days") or 0)
    return seconds / 3600 or days * 24 or math.inf


def _amazon_retention(subject: Subject) -> float | None:
    """Theirs is kept beside the variables, and NULL means: as short as possible."""
    try:
        rows = subject.query("CALL mysql.rds_show_configuration")
    except MySQLError as error:
        if mysql.number_of(error) not in mysql.FORBIDDEN | _NO_SUCH_PROCEDURE:
            raise
        return None
    return next((float(row[1] or 0) for row in rows if row[0] == "binlog retention hours"), 0.0)


def _gtid(subject: Subject) -> str | Advice:
    if subject.server.flavour == "mariadb":
        if subject.variable("gtid_strict_mode") == "ON":
            return "GTIDs, strictly in order"
        return Advice(
            "gtid_strict_mode is OFF: a server that writes GTIDs out of order cannot be resumed by them",
            subject.hosting.set("gtid_strict_mode", "ON"),
        )
    mode = subject.variable("gtid_mode")
    if mode == "ON":
        return "GTIDs: the listener goes on after a failover"
    return Advice(
        f"gtid_mode is {mode}: after a failover to another server the listener needs a new snapshot",
        subject.hosting.gtid_on(mode),
    )


def _server_id(subject: Subject) -> str:
    """Two replicas with one id throw each other out for ever. Our own dump does not register, so whoever is listed is another."""
    ours, own = subject.settings.server_id, subject.variables.get("server_id", "1")
    if own == "0":
        raise SourceError("the server has no server_id, and refuses replicas", subject.hosting.set("server_id", "1"))
    rows = subject.query_if_allowed("SHOW REPLICAS", "SHOW SLAVE HOSTS")
    taken = {int(own), *(int(row[0]) for row in rows or ())}
    if ours in taken:
        who = "the server itself" if ours == int(own) else "another replica"
        free = next(number for number in range(ours + 1, ours + len(taken) + 2) if number not in taken)
        raise SettingError(f"{who} has our server_id {ours}", f"Set mysql.server_id = {free}")
    seen = "no other replica has it" if rows is not None else "the account may not ask who else has it"
    return f"{ours}; {seen}"


def _packet(subject: Subject) -> str | Advice:
    found = int(subject.variables.get("max_allowed_packet") or GOOD_PACKET_BYTES)
    if found >= LEAST_PACKET_BYTES:
        return f"{found >> 20} MiB"
    return Advice(
        f"max_allowed_packet is {found >> 10} KiB: larger rows can be neither written nor read",
        subject.hosting.set("max_allowed_packet", str(GOOD_PACKET_BYTES)),
    )


# The grants


def _grant_replication_slave(subject: Subject) -> str:
    try:
        granted = _may_replicate(subject)
    except MySQLError as error:
        if mysql.number_of(error) not in mysql.FORBIDDEN:
            raise
        granted = False
    if not granted:
        raise SettingError(
            f"{subject.server.account} may not read the binlog",
            f"GRANT REPLICATION SLAVE ON *.* TO {subject.server.account};",
        )
    return "granted"


def _may_replicate(subject: Subject) -> bool:
    """MySQL asks for the same privilege when binlog events are shown. MariaDB does not, but its SHOW GRANTS looks into roles."""
    if subject.server.flavour == "mysql":
        subject.query("SHOW BINLOG EVENTS LIMIT 1")
        return True
    lines = (re.match(r"GRANT (.+?) ON \*\.\* TO", str(row[0])) for row in subject.query("SHOW GRANTS"))
    return any({"ALL PRIVILEGES", "REPLICATION SLAVE"} & set(line[1].split(", ")) for line in lines if line)


def _grant_replication_client(subject: Subject) -> str:
    try:
        subject.query("SHOW BINARY LOGS")
    except MySQLError as error:
        if mysql.number_of(error) not in mysql.FORBIDDEN:
            raise
        privilege = "REPLICATION CLIENT" if subject.server.flavour == "mysql" else "BINLOG MONITOR"
        raise SettingError(
            f"{subject.server.account} may not ask where the binlog stands",
            f"GRANT {privilege} ON *.* TO {subject.server.account};",
        ) from error
    return "granted"


SERVER = [
    Probe("connection", _connection, essential=True),
    Probe("TLS", _tls),
    Probe("clock", _clock),
    Probe("binlog", _binlog, essential=True),
    Probe("binlog_format", _variable("binlog_format", "ROW"), essential=True),
    Probe("binlog_row_image", _variable("binlog_row_image", "FULL"), essential=True),
    Probe("binlog_row_metadata", _variable("binlog_row_metadata", "FULL"), essential=True),
    Probe("binlog_row_value_options", _partial_json, essential=True),
    Probe("binlog compression", _compression),
    Probe("grant REPLICATION SLAVE", _grant_replication_slave, essential=True),
    Probe("grant REPLICATION CLIENT", _grant_replication_client, essential=True),
    Probe("binlog filters", _filters, essential=True),
    Probe("updates of a replica", _replica_updates, essential=True),
    Probe("binlog retention", _retention),
    Probe("GTIDs", _gtid),
    Probe("server_id", _server_id),
    Probe("max_allowed_packet", _packet),
]
