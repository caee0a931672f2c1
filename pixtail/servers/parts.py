"""Where the private servers' programs live, and whether they are there.

What Debian does not package (Kafka's jars, MySQL 8) lies in the parts folder, put there by `python -m pixtail.servers.setup`;
the rest is found on the machine. Looking never changes anything.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from xml.etree import ElementTree

from pixtail.core.errors import PixtailError

POM = Path(__file__).with_name("pom.xml")
DEBEZIUM_POM = Path(__file__).with_name("debezium.pom.xml")
_NEWER = Path(__file__).with_name("newer.py")
REMEDY = "Run: python -m pixtail.servers.setup"
JAVA_AT_LEAST = 17
_MARKER = ".pixtail-part"
_POM_NAMESPACE = "{http://maven.apache.org/POM/4.0.0}"


class Part(StrEnum):
    """A program that the private servers are made of; the value is how people call it."""

    JAVA = "Java 17 or newer"
    KAFKA = "Apache Kafka"
    DEBEZIUM = "Debezium"
    MYSQL = "MySQL 8"
    MARIADB = "MariaDB server"
    NEWER = "newer MySQL and MariaDB"
    PROMETHEUS = "Prometheus"
    PROMTOOL = "promtool"
    CHROMIUM = "Chromium"


class PartMissing(PixtailError):
    """A program that a private server needs is not on this machine; the remedy is one line to run."""

    def __init__(self, part: Part, reason: str, remedy: str = REMEDY) -> None:
        super().__init__(f"{part} is missing: {reason}", remedy)
        self.part = part


def parts_folder() -> Path:
    """`PIXTAIL_PARTS`, else `pixtail/parts` in the user's cache folder. It need not exist."""
    if named := os.environ.get("PIXTAIL_PARTS"):
        return Path(named).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "pixtail" / "parts"


def fetched_folder(part: Part) -> Path:
    """Where the setup puts `part` (KAFKA, DEBEZIUM, MYSQL or NEWER)."""
    return parts_folder() / part.name.lower()


def pom(part: Part) -> Path:
    """Which file tells Maven what `part` is made of."""
    return DEBEZIUM_POM if part is Part.DEBEZIUM else POM


def wanted_version(part: Part) -> str:
    """The version of `part` that its pom names, for people. NEWER has none: its suite moves."""
    if part is Part.NEWER:
        return "newest"
    name = f"{_POM_NAMESPACE}properties/{_POM_NAMESPACE}{part.name.lower()}.version"
    element = ElementTree.parse(pom(part)).find(name)
    if element is None or not element.text:
        raise LookupError(f"{pom(part).name} names no version of {part}")
    return element.text


def marker_text(part: Part) -> str:
    """What the done-marker of `part` says when the folder is complete and made from this very recipe."""
    recipe = _NEWER if part is Part.NEWER else pom(part)
    return f"{part.name.lower()} {wanted_version(part)} {hashlib.sha256(recipe.read_bytes()).hexdigest()[:12]}\n"


def mark_done(part: Part, folder: Path) -> None:
    """Declares `folder` a complete `part`. Call it last."""
    (folder / _MARKER).write_text(marker_text(part))


def is_fetched(part: Part) -> bool:
    """True if the parts folder holds a complete `part` of the wanted version."""
    try:
        return (fetched_folder(part) / _MARKER).read_text() == marker_text(part)
    except (FileNotFoundError, NotADirectoryError):
        return False


def program(*names: str) -> Path | None:
    """The first of `names` that can be run. Looks in the sbin folders too, which an ordinary user's PATH leaves out."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    return next((Path(found) for name in names if (found := shutil.which(name, path=path))), None)


def require(part: Part) -> Path:
    """The path of `part`: a program, or the folder of KAFKA and DEBEZIUM (jars), MYSQL (bin, share) and NEWER (usr).

    Raises:
        PartMissing: with the line to run.
    """
    return _FINDERS[part]()


def is_there(part: Part) -> bool:
    try:
        require(part)
    except PartMissing:
        return False
    return True


def missing_libraries(binary: Path) -> list[str]:
    """The shared libraries that `binary` asks for and that the loader does not find."""
    listing = subprocess.run(["ldd", binary], capture_output=True, text=True, check=False).stdout
    return re.findall(r"^\s*(\S+) => not found", listing, re.MULTILINE)


def java_version(text: str) -> int:
    """The feature release in the output of `java -version` (17 for `17.0.15`, 8 for `1.8.0_402`), 0 if there is none."""
    found = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(found.group(1)) if found else 0


@functools.cache
def _version_of(java: Path) -> int:
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    return java_version(answer.stderr + answer.stdout)


def _java() -> Path:
    home = os.environ.get("JAVA_HOME")
    candidates = [program(str(Path(home) / "bin" / "java")) if home else None, program("java")]
    if not any(candidates):
        raise PartMissing(Part.JAVA, "there is no java")
    newest = max((_version_of(java), java) for java in candidates if java)
    if newest[0] < JAVA_AT_LEAST:
        raise PartMissing(Part.JAVA, f"{newest[1]} is version {newest[0]}")
    return newest[1]


def _mysql() -> Path:
    folder = _fetched(Part.MYSQL)
    if lacking := missing_libraries(folder / "bin" / "mysqld"):
        raise PartMissing(Part.MYSQL, f"mysqld needs {', '.join(lacking)}")
    return folder


def _folder(part: Part) -> Callable[[], Path]:
    return lambda: _fetched(part)


def _fetched(part: Part) -> Path:
    folder = fetched_folder(part)
    if not is_fetched(part):
        raise PartMissing(part, f"no complete version {wanted_version(part)} in {folder}")
    return folder


def _on_path(part: Part, *names: str) -> Callable[[], Path]:
    def find() -> Path:
        if found := program(*names):
            return found
        raise PartMissing(part, f"there is no {' or '.join(names)}")

    return find


_FINDERS: dict[Part, Callable[[], Path]] = {
    Part.JAVA: _java,
    Part.KAFKA: _folder(Part.KAFKA),
    Part.DEBEZIUM: _folder(Part.DEBEZIUM),
    Part.MYSQL: _mysql,
    Part.MARIADB: _on_path(Part.MARIADB, "mariadbd"),
    Part.NEWER: _folder(Part.NEWER),
    Part.PROMETHEUS: _on_path(Part.PROMETHEUS, "prometheus"),
    Part.PROMTOOL: _on_path(Part.PROMTOOL, "promtool"),
    Part.CHROMIUM: _on_path(Part.CHROMIUM, "chromium", "chromium-browser", "google-chrome"),
}
