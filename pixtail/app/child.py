"""The listener as a child process of `run`: neither outlives the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from pixtail.core.errors import PixtailError
from pixtail.core.lifecycle import DRAIN_LIMIT_S, Stop, drain

POLL_S = 0.2
_STDIN = 0


def command(*words: str, config: Path | None) -> list[str]:
    """The command line that runs this very program."""
    return [sys.executable, "-m", "pixtail.app", *words, *(["--config", str(config)] if config else [])]


class ListenerProcess:
    """Runs `pixtail listen` beside this process, from entering the context until it is left. A `Service` that watches over it.

    The child is out of the terminal's process group, so that Ctrl-C reaches us alone and it is asked to stop once. It notices our own
    death, however sudden, by the end of its standard input (`--with-parent`).
    """

    name = "listener"

    def __init__(self, config: Path | None, on_lost_position: str) -> None:
        self._config = config
        self._on_lost_position = on_lost_position
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        words = command("listen", "--with-parent", f"--on-lost-position={self._on_lost_position}", config=self._config)
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, process_group=0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with process:
            process.terminate()
            try:
                process.wait(DRAIN_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()

    def run(self, stop: Stop) -> None:
        """Raises `PixtailError` with the child's exit status when it ends by itself."""
        while not stop.wait(POLL_S):
            if self._process is not None and (status := self._process.poll()) is not None:
                raise _ended(status)

    def ready(self) -> bool:
        return self._process is not None and self._process.poll() is None


def _ended(status: int) -> PixtailError:
    how = f"with status {status}" if status >= 0 else f"by {signal.Signals(-status).name}"
    error = PixtailError(f"the listener ended {how}", "Its last words stand above")
    error.exit_status = max(status, 1)
    return error


def stop_with_parent(stop: Stop) -> None:
    """Drains when standard input ends, which it does when the parent process is gone."""

    def wait() -> None:
        while os.read(_STDIN, 4096):  # not sys.stdin: its lock, held by this thread, would abort the interpreter's end
            continue
        drain(stop, "the parent process has gone")

    threading.Thread(target=wait, daemon=True, name="parent").start()
