"""Debian packages that the private servers need: which are missing, and installing them without starting a service."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pixtail.core.errors import PixtailError
from pixtail.servers.parts import Part, is_there, program

_POLICY = Path("/usr/sbin/policy-rc.d")
_POLICY_TEXT = "#!/bin/sh\n# pixtail: no service may start while its package is installed\nexit 101\n"
_INSTALL = ("apt-get", "install", "-y", "-q", "--no-install-recommends")


@dataclass(frozen=True, slots=True)
class Need:
    """Something that a package brings. `packages` are alternatives: the first that the distribution has is installed."""

    packages: tuple[str, ...]
    is_met: Callable[[], bool]


def needs() -> list[Need]:
    """Everything the servers and the browser tests take from the distribution."""
    return [
        Need(
            ("openjdk-17-jre-headless", "openjdk-21-jre-headless", "default-jre-headless"), lambda: is_there(Part.JAVA)
        ),
        Need(("maven",), lambda: program("mvn") is not None),
        # Debian 13 and Ubuntu 24.04 renamed it when time_t grew to 64 bits.
        _installed("libaio1t64", "libaio1"),
        _installed("libnuma1"),
        Need(("mariadb-server",), lambda: is_there(Part.MARIADB)),
        Need(("prometheus",), lambda: is_there(Part.PROMETHEUS) and is_there(Part.PROMTOOL)),
        Need(("chromium", "chromium-browser"), lambda: is_there(Part.CHROMIUM)),
        _installed("fonts-noto-cjk"),  # the captions are Chinese too
    ]


def is_debian() -> bool:
    return bool(shutil.which("apt-get") and shutil.which("dpkg-query"))


def packages_for(unmet: Sequence[Need], has: Callable[[str], bool]) -> tuple[list[str], list[Need]]:
    """The packages to install, each need's first that the distribution `has`; and the needs for which it has none."""
    chosen = {need: next(filter(has, need.packages), None) for need in unmet}
    return [name for name in chosen.values() if name], [need for need, name in chosen.items() if not name]


def has_package(name: str) -> bool:
    """True if the package lists, as they are on this machine now, offer `name` itself (not as another package's alias)."""
    answer = subprocess.run(["apt-cache", "show", "--quiet", name], capture_output=True, check=False)
    return answer.returncode == 0


def install_line(packages: Sequence[str]) -> str:
    """What a person may run instead."""
    return f"sudo apt-get update && sudo {' '.join(_INSTALL)} {' '.join(packages)}"


def update() -> None:
    """Fetches the package lists; as root."""
    _apt(["apt-get", "update", "-q"], "The package lists cannot be fetched")


def install(packages: Sequence[str]) -> None:
    """Installs as root, asks nothing and starts no service. Lists that are out of date are fetched once."""
    with no_service_starts():
        try:
            _apt([*_INSTALL, *packages], "The packages cannot be installed")
        except PixtailError:
            update()
            _apt([*_INSTALL, *packages], "The packages cannot be installed")


@contextmanager
def no_service_starts(policy: Path = _POLICY) -> Iterator[None]:
    """Keeps packages from starting their services, by Debian's own means: policy-rc.d. One that is there already is left alone."""
    if policy.exists() and policy.read_text() != _POLICY_TEXT:  # ours may be left over from a killed run
        yield
        return
    policy.write_text(_POLICY_TEXT)
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def _installed(*names: str) -> Need:
    return Need(names, lambda: any(_is_installed(name) for name in names))


def _is_installed(name: str) -> bool:
    if not is_debian():
        return True  # nobody to ask; what is really missing shows when a part is looked for
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", name]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout == "installed"


def _apt(command: Sequence[str], problem: str) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    # apt waits for another apt's lock instead of failing at once.
    command = [command[0], "-o", "DPkg::Lock::Timeout=300", *command[1:]]
    answer = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if answer.returncode:
        lines = answer.stdout.strip().splitlines()[-3:]
        raise PixtailError(
            f"{problem}: {' | '.join(lines)}", f"Mend that and run again, or by hand: {' '.join(command)}"
        )
