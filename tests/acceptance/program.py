"""The product from outside: `pixtail` as a process, as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PIXTAIL = str(Path(sys.executable).with_name("pixtail"))
OURS = ("QDRANT_URL", "QDRANT_COLLECTION", "CLIP_MODEL", "CLIP_REFERENCE_PROJECT", "BATCH_SIZE", "BATCH_DELAY")


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def last_line(self) -> str:
        """The last line on standard error; the whole of it shows when there is none."""
        lines = self.err.strip().splitlines()
        return lines[-1] if lines else f"(nothing on standard error; on standard output: {self.out})"


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Without any setting of the developer's."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PIXTAIL_") or k == "PIXTAIL_PARTS"}
    return {k: v for k, v in clean.items() if k not in OURS} | {"COLUMNS": "200"} | dict(extra or {})


def pixtail(*words: str, cwd: Path, env: Mapping[str, str] | None = None, timeout_s: float = 120) -> Answer:
    """Runs a command to its end."""
    ran = subprocess.run(
        [PIXTAIL, *words], cwd=cwd, env=environment(env), capture_output=True, text=True, timeout=timeout_s, check=False
    )
    return Answer(ran.returncode, ran.stdout, ran.stderr)


class Running:
    """A command that keeps running; killed with its whole process group at the end."""

    def __init__(self, *words: str, cwd: Path) -> None:
        self._words = words
        self._cwd = cwd
        self.log = cwd / f"{'-'.join(words[:1])}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [PIXTAIL, *self._words],
                cwd=self._cwd,
                env=environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL to the process alone: what it started must notice by itself."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def wait(self, timeout_s: float) -> int:
        """Its exit status."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def until(self, done: Callable[[], bool], what: str, limit_s: float = 60) -> None:
        """Waits; fails with the log's end if the process ends or time runs out."""
        assert self.process is not None
        deadline = time.monotonic() + limit_s
        while not done():
            ended = self.process.poll()
            assert ended is None, f"it ended with status {ended} before: {what}\n{self.text()[-4000:]}"
            assert time.monotonic() < deadline, f"not within {limit_s} s: {what}\n{self.text()[-4000:]}"
            time.sleep(0.05)
