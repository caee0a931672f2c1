"""A private MySQL: 8.0, from the archive in the parts folder, or the newest one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from pixtail.servers.parts import Part, fetched_folder, require
from pixtail.servers.sql import SqlServer, as_user

# The same when initialising and running, or the first start resizes them. Each version knows one of the names.
_LOG_FILES = ("--loose-innodb-log-file-size=16M", "--loose-innodb-redo-log-capacity=16M")
# With --skip-name-resolve a connection from 127.0.0.1 is not `root@localhost`.
_INIT_SQL = "CREATE USER root@127.0.0.1;\nGRANT ALL ON *.* TO root@127.0.0.1 WITH GRANT OPTION;\n"


class MysqlServer(SqlServer):
    """MySQL with a row binlog; with `gtid` (the default) in GTID mode, else with file positions only. `part`: MYSQL (8.0) or NEWER (9)."""

    name = "mysql"

    def __init__(
        self,
        folder: Path | None = None,
        port: int = 0,
        extra: Sequence[str] = (),
        server_id: int = 1,
        gtid: bool = True,
        part: Part = Part.MYSQL,
    ) -> None:
        super().__init__(folder, port, extra, server_id)
        self.gtid = gtid
        self.part = part

    def command(self) -> list[str]:
        gtid = ["--gtid-mode=ON", "--enforce-gtid-consistency=ON"] if self.gtid else ["--gtid-mode=OFF"]
        return [*_program(self.part), *self.arguments(), "--mysqlx=OFF", *_LOG_FILES, *gtid, *self.extra]

    def initialise(self, data: Path) -> None:
        """Copies the template, if the setup could make one, instead of three seconds of initialising."""
        require(self.part)
        template = template_folder(self.part)
        if os.access(template / "mysql.ibd", os.R_OK):  # another user's template is not readable
            shutil.copytree(template, data)
            return
        init = self.folder / "init.sql"
        init.write_text(_INIT_SQL)
        self.run_tool(
            [
                *_program(self.part),
                *as_user(),
                "--initialize-insecure",
                f"--datadir={data}",
                f"--init-file={init}",
                "--skip-log-bin",
                *_LOG_FILES,
            ]
        )
        (data / "auto.cnf").unlink()  # the server's UUID: each copy of this folder makes its own


def template_folder(part: Part = Part.MYSQL) -> Path:
    """A freshly initialised data folder, to be copied."""
    return fetched_folder(part) / "template"


def make_template(part: Part = Part.MYSQL) -> None:
    """Initialises the template unless it is there. A killed run leaves nothing that looks like one."""
    template = template_folder(part)
    if template.exists():
        return
    fresh = template.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    maker = MysqlServer(part=part)
    try:
        maker.initialise(fresh)
    finally:
        maker.close()
    fresh.rename(template)


def _program(part: Part) -> list[str]:
    base = require(part)
    program, share = base / "bin" / "mysqld", base / "share"
    if part is Part.NEWER:
        base /= "usr"
        program, share = base / "sbin" / "mysqld", base / "share" / "mysql"
    return [
        str(program),
        "--no-defaults",
        f"--basedir={base}",
        f"--lc-messages-dir={share}",
        f"--character-sets-dir={share / 'charsets'}",
        "--secure-file-priv=NULL",  # else a folder that only the installed package has
    ]
