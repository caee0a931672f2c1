"""A demo that runs while several tests look at it."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from pixtail.core.settings import Settings, load
from tests.acceptance.program import Answer, Running, pixtail
from tests.acceptance.site import site

__all__ = ["site"]


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo printed, and where it is."""

    running: Running
    config: Path
    folder: Path
    settings: Settings

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.settings.api.port}"

    def pixtail(self, *words: str) -> Answer:
        return pixtail(*words, "--config", str(self.config), cwd=self.folder)

    def points(self) -> int:
        answer = httpx.get(f"{self.api}/api/v1/stats", timeout=10, trust_env=False)
        return int(answer.raise_for_status().json()["points"])


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """On MariaDB, with all its rows searchable. Tests that change rows put them back or use rows of their own."""
    folder = tmp_path_factory.mktemp("demo")
    with Running("demo", "--database", "mariadb", cwd=folder) as running:
        running.until(lambda: "Ctrl-C stops everything" in running.text(), "the demo says what to try", limit_s=180)
        config = Path(re.search(r"--config (\S+pixtail\.toml)", running.text())[1])  # type: ignore[index]
        yield Demo(running, config, folder, load(config))
        running.send(signal.SIGINT)
        assert running.wait(30) == 0, running.text()[-4000:]
