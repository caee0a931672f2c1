"""A private MySQL 8.0, from the archive in the parts folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from pixtail.servers.parts import Part, fetched_folder, require
from pixtail.servers.sql import SqlServer, as_user

_LOG_FILES = "--innodb-log-file-size=16M"  # the same when initialising and running, or the first start resizes them
# With --skip-name-resolve a connection from 127.0.0.1 is not `root@localhost`.
_INIT_SQL = "CREATE USER root@127.0.0.1;\nGRANT ALL ON *.* TO root@127.0.0.1 WITH GRANT OPTION;\n"


class MysqlServer(SqlServer):
    """MySQL 8.0 with a row binlog; with `gtid` (the default) in GTID mode, else with file positions only."""

    name = "mysql"

    def __init__(
        self,
        folder: Path | None = None,
        port: int = 0,
        extra: Sequence[str] = (),
        server_id: int = 1,
        gtid: bool = True,
    ) -> None:
        super().__init__(folder, port, extra, server_id)
        self.gtid = gtid

    def command(self) -> list[str]:
        gtid = ["--gtid-mode=ON", "--enforce-gtid-consistency=ON"] if self.gtid else ["--gtid-mode=OFF"]
        program = _program(require(Part.MYSQL))
        return [*program, *self.arguments(), "--mysqlx=OFF", _LOG_FILES, *gtid, *self.extra]

    def initialise(self, data: Path) -> None:
        """Copies the template, if the setup could make one, instead of three seconds of initialising."""
        part = require(Part.MYSQL)
        if os.access(template_folder() / "mysql.ibd", os.R_OK):  # another user's template is not readable
            shutil.copytree(template_folder(), data)
            return
        init = self.folder / "init.sql"
        init.write_text(_INIT_SQL)
        self.run_tool(
            [
                *_program(part),
                *as_user(),
                "--initialize-insecure",
                f"--datadir={data}",
                f"--init-file={init}",
                "--skip-log-bin",
                _LOG_FILES,
            ]
        )
        (data / "auto.cnf").unlink()  # the server's UUID: each copy of this folder makes its own


def template_folder() -> Path:
    """A freshly initialised data folder, to be copied."""
    return fetched_folder(Part.MYSQL) / "template"


def make_template() -> None:
    """Initialises the template unless it is there. A killed run leaves nothing that looks like one."""
    if template_folder().exists():
        return
    fresh = template_folder().with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    maker = MysqlServer()
    try:
        maker.initialise(fresh)
    finally:
        maker.close()
    fresh.rename(template_folder())


def _program(part: Path) -> list[str]:
    share = part / "share"
    return [
        str(part / "bin" / "mysqld"),
        "--no-defaults",
        f"--basedir={part}",
        f"--lc-messages-dir={share}",
        f"--character-sets-dir={share / 'charsets'}",
    ]
