"""Who runs the server, and the statement or command that changes one of its settings there. Pure.

A managed server has no SUPER, no my.cnf and no SET PERSIST. How each is changed instead:
Amazon RDS and Aurora: parameter groups and the procedures of
https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/mysql-stored-proc-configuring.html;
Google Cloud SQL: https://cloud.google.com/sql/docs/mysql/flags; Azure:
https://learn.microsoft.com/azure/mysql/flexible-server/how-to-configure-server-parameters-cli.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ingest.mysql import Flavour, quoted
from ingest.watermark import TABLE

WEEK_HOURS = 168
NO_BINLOG = (
    "Nothing opens it: use a MySQL or MariaDB whose binlog may be read (your own, RDS, Aurora, Cloud SQL, Azure)"
)

# The steps of https://dev.mysql.com/doc/refman/8.0/en/replication-mode-change-online-enable-gtids.html
_GTID_STEPS = ("OFF", "OFF_PERMISSIVE", "ON_PERMISSIVE", "ON")
# A session takes these from the global ones when it begins.
_OF_SESSIONS = {"binlog_format", "binlog_row_image", "binlog_row_value_options", "max_allowed_packet"}


class Platform(StrEnum):
    OWN = "a server of your own"
    RDS = "Amazon RDS"
    AURORA = "Amazon Aurora"
    CLOUD_SQL = "Google Cloud SQL"
    AZURE = "Azure Database"
    PLANETSCALE = "PlanetScale (Vitess)"


def recognise(host: str, version: str, variables: Mapping[str, str]) -> Platform:
    """By the address, the version and the global variables (names in small letters)."""
    host, said = host.lower().rstrip("."), f"{version} {variables.get('version_comment', '')}".lower()
    if host.endswith(".psdb.cloud") or "vitess" in said or "planetscale" in said:
        return Platform.PLANETSCALE
    if "aurora_version" in variables or (".cluster-" in host and _on_amazon(host)):
        return Platform.AURORA
    if _on_amazon(host) or variables.get("datadir", "").startswith("/rdsdbdata"):
        return Platform.RDS
    if "google" in said:
        return Platform.CLOUD_SQL
    if host.endswith((".mysql.database.azure.com", ".mariadb.database.azure.com")) or "aad_auth_only" in variables:
        return Platform.AZURE
    return Platform.OWN


def _on_amazon(host: str) -> bool:
    return host.endswith((".rds.amazonaws.com", ".rds.amazonaws.com.cn"))


@dataclass(frozen=True, slots=True)
class Hosting:
    """What mends a setting there: SQL for an administrator, or a command of the platform's own tool."""

    platform: Platform
    flavour: Flavour

    def set(self, name: str, value: str) -> str:
        """A variable that can be changed while the server runs, for good."""
        if self.platform is not Platform.OWN:
            return self._parameter(name, value, restart=False)
        note = "; sessions that are open keep the old value" if name in _OF_SESSIONS else ""
        if self.flavour == "mysql":  # https://dev.mysql.com/doc/refman/8.0/en/persisted-system-variables.html
            return f"SET PERSIST {name} = {value};{note[1:]}"
        return f"SET GLOBAL {name} = {value}; and put {name} = {value} under [mysqld] in my.cnf{note}"

    def set_at_start(self, name: str, value: str) -> str:
        """A variable that only a start of the server reads."""
        if self.platform is not Platform.OWN:
            return self._parameter(name, value, restart=True)
        return f"Put {name} = {value} under [mysqld] in my.cnf, and restart the server"

    def binlog_on(self) -> str:
        match self.platform:
            case Platform.RDS:
                return (
                    "Turn on automated backups: aws rds modify-db-instance --db-instance-identifier INSTANCE"
                    " --backup-retention-period 7 --apply-immediately"
                )
            case Platform.AURORA:
                return self._parameter("binlog_format", "ROW", restart=True)
            case Platform.CLOUD_SQL:
                return "gcloud sql instances patch INSTANCE --backup-start-time=03:00 --enable-bin-log; it restarts"
            case Platform.AZURE:
                return "Azure always writes one: look whether this address is the right server"
            case Platform.PLANETSCALE:
                return NO_BINLOG
        return "Put log_bin = binlog and server_id = 1 under [mysqld] in my.cnf, and restart the server"

    def keep_binlogs(self, hours: int) -> str:
        """How to keep them for so long."""
        if self.platform in (Platform.RDS, Platform.AURORA):
            return f"CALL mysql.rds_set_configuration('binlog retention hours', {hours});"
        if self.platform is Platform.CLOUD_SQL:
            days = max(1, -(-hours // 24))
            return (
                f"gcloud sql instances patch INSTANCE --retained-transaction-log-days={days}; the flag"
                f" {self._retention_variable} must not be smaller"
            )
        if self._retention_variable == "expire_logs_days":
            return self.set("expire_logs_days", str(max(1, -(-hours // 24))))
        return self.set(self._retention_variable, str(hours * 3600))

    @property
    def _retention_variable(self) -> str:
        """MariaDB knows the one in seconds from 10.6 on only, and keeps the one in days beside it."""
        return "binlog_expire_logs_seconds" if self.flavour == "mysql" else "expire_logs_days"

    def gtid_on(self, mode: str) -> str:
        """From the `gtid_mode` that is set now to ON, while the server runs."""
        steps = _GTID_STEPS[_GTID_STEPS.index(mode) + 1 :] if mode in _GTID_STEPS else ("ON",)
        wanted = [("enforce_gtid_consistency", "ON"), *(("gtid_mode", step) for step in steps)]
        if self.platform is Platform.OWN:
            return f"{' '.join(f'SET PERSIST {name} = {value};' for name, value in wanted)} one after the other"
        return self._parameter("gtid_mode", "ON", restart=True) + "; enforce_gtid_consistency = ON before it"

    def account(self, user: str, password: str) -> str:
        """A new account; from where it may connect is for the administrator to narrow."""
        escaped = password.replace("\\", "\\\\").replace("'", "''")
        return f"CREATE USER {account_name(user, '%')} IDENTIFIED BY '{escaped}';"

    def grants(self, account: str, database: str, tables: Iterable[str], *, gtid: bool = True) -> list[str]:
        """Exactly what the listener needs. `account` is quoted: `'user'@'host'`. Without GTIDs a snapshot writes to a table of its own."""
        client = "REPLICATION CLIENT" if self.flavour == "mysql" else "BINLOG MONITOR"
        return [
            f"GRANT REPLICATION SLAVE, {client} ON *.* TO {account};",
            *(f"GRANT SELECT ON {quoted(database, table)} TO {account};" for table in tables),
            *([] if gtid else [f"GRANT CREATE, SELECT, INSERT, UPDATE ON {quoted(database, TABLE)} TO {account};"]),
        ]

    def _parameter(self, name: str, value: str, *, restart: bool) -> str:
        match self.platform:
            case Platform.RDS:
                return _amazon("db-parameter-group", name, value, restart=restart)
            case Platform.AURORA:
                return _amazon("db-cluster-parameter-group", name, value, restart=restart)
            case Platform.CLOUD_SQL:
                return (
                    f"gcloud sql instances patch INSTANCE --database-flags={name}={_bare(value)}; name the flags you have"
                    " as well, since the list replaces them"
                )
            case Platform.AZURE:
                command = (
                    "az mysql flexible-server parameter set --resource-group GROUP --server-name SERVER"
                    f' --name {name} --value "{_bare(value)}"'
                )
                return f"{command}, then az mysql flexible-server restart" if restart else command
        return NO_BINLOG


def account_name(user: str, host: str) -> str:
    """For a CREATE USER or GRANT."""
    return "@".join("'" + part.replace("\\", "\\\\").replace("'", "''") + "'" for part in (user, host))


def _amazon(group: str, name: str, value: str, *, restart: bool) -> str:
    method = "pending-reboot" if restart else "immediate"
    command = (
        f"aws rds modify-{group} --{group}-name GROUP"
        f' --parameters "ParameterName={name},ParameterValue={_bare(value)},ApplyMethod={method}"'
    )
    return f"{command}, then reboot the instance" if restart else command


def _bare(value: str) -> str:
    return value.strip("'")
