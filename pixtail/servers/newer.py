"""A newer MySQL and MariaDB than the distribution's own: those of Debian's newest suite, in a folder, with every library they need.

Nothing is installed and no package list of the machine changes: apt works in folders of its own, as any user. The programs bring their
own C library and its loader, so they run on an older Debian too. The suite moves: what comes today is MySQL 9.7 and MariaDB 11.8.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pixtail.core.errors import PixtailError

SUITE = "sid"
PACKAGES = ("mysql-server-core", "mariadb-server-core")
_WRAPPED = ("sbin/mysqld", "sbin/mariadbd", "bin/my_print_defaults", "bin/resolveip")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_LOADER, _LIBRARIES = "lib64/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu"
_WRAPPER = f"""#!/bin/sh
# Runs the program beside this file with the libraries that came with it.
here=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
exec "$here/{_LOADER}" --library-path "$here/{_LIBRARIES}" "$0.elf" "$@"
"""


def is_possible() -> bool:
    """True on a Debian on x86-64, which knows the suite's signatures."""
    return platform.machine() == "x86_64" and _KEYRING.exists() and _distribution() == "debian"


def fetch(folder: Path) -> None:
    """Fills `folder` with `usr/sbin/mysqld`, `usr/sbin/mariadbd` and what they need (55 MB to fetch). Raises `PixtailError`."""
    work = folder / "apt"
    apt = _prepared(work)
    _run([*apt("apt-get"), "update", "-q"], work)
    _run([*apt("apt-get"), "download", "-q", *_with_libraries(apt("apt-cache"), work)], work)
    for package in sorted(work.glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(package), str(folder)], work)
    shutil.rmtree(work)
    for name in _WRAPPED:
        _wrap(folder / "usr" / name)
    for server in _WRAPPED[:2]:
        _run([str(folder / "usr" / server), "--version"], folder)


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("ID", "")
    except OSError:
        return ""


class _Apt:
    """An apt whose sources, lists and cache lie in a folder; `status` is empty, so nothing counts as installed."""

    def __init__(self, work: Path) -> None:
        self._work = work

    def __call__(self, program: str) -> list[str]:
        settings = {
            "Dir::Etc::sourcelist": self._work / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::Etc::preferences": "-",
            "Dir::Etc::preferencesparts": "-",
            "Dir::State": self._work / "state",
            "Dir::State::status": self._work / "status",
            "Dir::Cache": self._work / "cache",
            "APT::Sandbox::User": "root",  # do not try to become another user, who could not write here
            "Acquire::Languages": "none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        }
        return [program, *(f"-o{name}={value}" for name, value in settings.items())]


def _prepared(work: Path) -> _Apt:
    for name in ("state/lists/partial", "cache/archives/partial"):
        (work / name).mkdir(parents=True)
    (work / "status").touch()
    (work / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {_mirror()} {SUITE} main\n")
    return _Apt(work)


def _mirror() -> str:
    """The one that the machine's own sources name."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    mirror = next((uri for uri in found if "security" not in uri), None)
    if mirror is None:
        raise PixtailError("apt names no source to fetch newer servers from", "Look at /etc/apt/sources.list.d")
    return mirror


def _with_libraries(apt_cache: Sequence[str], work: Path) -> list[str]:
    """The packages and, of all they depend on, the libraries. Their Perl scripts are not needed."""
    relations = [f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")]
    lines = _run([*apt_cache, "depends", "--recurse", *relations, *PACKAGES], work).splitlines()
    names = {line for line in lines if line.startswith(("lib", "zlib"))}
    return [*PACKAGES, *sorted(name for name in names if not name.startswith("libperl"))]


def _wrap(program: Path) -> None:
    program.rename(program.with_name(f"{program.name}.elf"))
    program.write_text(_WRAPPER)
    program.chmod(0o755)


def _run(command: Sequence[str], folder: Path) -> str:
    """What it says. Raises `PixtailError`."""
    answer = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        said = " | ".join(answer.stderr.strip().splitlines()[-2:])
        raise PixtailError(
            f"newer MySQL and MariaDB cannot be had: {Path(command[0]).name} says {said}",
            "Tests that need them are skipped; to try again run: python -m pixtail.servers.setup",
        )
    return answer.stdout
