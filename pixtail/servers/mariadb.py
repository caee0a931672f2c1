"""A private MariaDB, from the distribution's package."""

from __future__ import annotations

from pathlib import Path

from pixtail.servers.parts import Part, PartMissing, program, require
from pixtail.servers.sql import SqlServer, as_user


class MariadbServer(SqlServer):
    """MariaDB 10.11 or newer with a row binlog and strict GTIDs."""

    name = "mariadb"

    def command(self) -> list[str]:
        return [
            str(require(Part.MARIADB)),
            "--no-defaults",
            *self.arguments(),
            "--gtid-strict-mode=ON",
            "--innodb-log-file-size=16M",
            *self.extra,
        ]

    def initialise(self, data: Path) -> None:
        tool = program("mariadb-install-db")
        if tool is None:
            raise PartMissing(Part.MARIADB, "there is no mariadb-install-db")
        method = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        # Relative to the folder, where tools run: the script trips over spaces in a path.
        self.run_tool([tool, "--no-defaults", f"--datadir=./{data.relative_to(self.folder)}", *method, *as_user()])
