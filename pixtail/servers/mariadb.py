"""A private MariaDB, from the distribution's package, or the newest one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pixtail.servers.parts import Part, PartMissing, program, require
from pixtail.servers.sql import SqlServer, as_user


class MariadbServer(SqlServer):
    """MariaDB with a row binlog and strict GTIDs. `part`: MARIADB (the distribution's: 10.11 or newer) or NEWER (11.8)."""

    name = "mariadb"

    def __init__(
        self,
        folder: Path | None = None,
        port: int = 0,
        extra: Sequence[str] = (),
        server_id: int = 1,
        part: Part = Part.MARIADB,
    ) -> None:
        super().__init__(folder, port, extra, server_id)
        self.part = part

    def command(self) -> list[str]:
        return [
            *self._program(),
            *self.arguments(),
            "--gtid-strict-mode=ON",
            "--innodb-log-file-size=16M",
            *self.extra,
        ]

    def initialise(self, data: Path) -> None:
        method = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        # Relative to the folder, where tools run: the script trips over spaces in a path.
        self.run_tool([*self._installer(), f"--datadir=./{data.relative_to(self.folder)}", *method, *as_user()])

    def _program(self) -> list[str]:
        found = require(self.part)
        if self.part is Part.MARIADB:
            return [str(found), "--no-defaults"]
        share = found / "usr" / "share" / "mariadb"
        return [
            str(found / "usr" / "sbin" / "mariadbd"),
            "--no-defaults",
            f"--basedir={found / 'usr'}",
            f"--lc-messages-dir={share}",
            f"--character-sets-dir={share / 'charsets'}",
        ]

    def _installer(self) -> list[str]:
        if self.part is Part.NEWER:
            base = require(self.part) / "usr"
            return [str(base / "bin" / "mariadb-install-db"), "--no-defaults", f"--basedir={base}"]
        tool = program("mariadb-install-db")
        if tool is None:
            raise PartMissing(Part.MARIADB, "there is no mariadb-install-db")
        return [str(tool), "--no-defaults"]
