"""A child process that serves on 127.0.0.1, lives in a folder of its own and never outlives its parent.

Why not PR_SET_PDEATHSIG: that signal fires when the *thread* that forked ends, not the process, and the kernel drops it when the child
changes its user. Instead a guard (a few kB of `sh`) reads from a pipe whose other end only we hold. When we end, however we end, it reads
end-of-file and kills the process group it shares with the server. A server may thus be started from any thread.
Both stay out of the terminal's foreground group: Ctrl-C reaches us alone, and we stop them in good order.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pixtail.core.errors import ServerUnreachable

HOST = "127.0.0.1"
POLL_S = 0.05
READY_LIMIT_S = 90.0  # a cold, loaded two-core machine; a warm one needs one to three seconds
STOP_LIMIT_S = 20.0
_LOG_TAIL_LINES = 12
# Below Linux' range of ephemeral ports (32768 and up): a client that redials a stopped server's ephemeral port may be given that very
# port as its own, connects to itself, and the server can never have it back.
_PORTS = range(15000, 32768)
# The guard's own folder argument is set for temporary folders only: a killed parent cannot tidy up any more.
_GUARD = 'read -r _; if [ -n "$1" ]; then rm -rf -- "$1"; fi; kill -KILL 0'


class ServerDied(ServerUnreachable):
    """A private server ended, or did not answer in time, while it was being started. `log_tail`: the last lines it wrote."""

    def __init__(self, problem: str, remedy: str = "", log_tail: Sequence[str] = ()) -> None:
        super().__init__(problem, remedy)
        self.log_tail = tuple(log_tail)


def is_free(port: int) -> bool:
    """True if a server could bind `port` on 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is no obstacle
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port nobody listens on. Somebody may take it before you do: start() therefore tries again once."""
    return next(port for port in random.sample(_PORTS, len(_PORTS)) if is_free(port))


class ServerProcess:
    """One private server: start() returns when it answers; its data survive stop() and start() of the same object.

    A context manager: entering starts, leaving closes. Without `folder` it lives in a temporary one that close() removes; a given folder
    is kept and may be used again. Not thread-safe, but start() may run in any thread. `port` is 0 until the first start and then stays.
    """

    name = "server"

    def __init__(self, folder: Path | None = None, port: int = 0) -> None:
        self.port = port
        self._given_folder = folder
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    # What a kind of server says about itself

    def prepare(self) -> None:
        """Makes data folder and configuration. Called before each start; must heal a killed run."""

    def command(self) -> list[str]:
        """The program and its arguments; it stays in the foreground."""
        raise NotImplementedError

    def answers(self) -> bool:
        """True if *this* server, and not another one on its port, does its work. Called again and again; raises nothing."""
        raise NotImplementedError

    # Where it is

    @property
    def folder(self) -> Path:
        """Its folder, absolute; made on first use."""
        if self._given_folder is not None:
            self._given_folder.mkdir(parents=True, exist_ok=True)
            return self._given_folder.resolve()
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix=f"pixtail-{self.name}-", ignore_cleanup_errors=True)
        return Path(self._temporary.name).resolve()

    @property
    def environment(self) -> dict[str, str]:
        """What its programs see. TMPDIR is its own: at each start MariaDB empties it of `#sql*`, a sibling's tables included."""
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        return {**os.environ, "TMPDIR": str(temporary)}

    @property
    def log(self) -> Path:
        """What it wrote to standard output and error, over all its starts."""
        return self.folder / f"{self.name}.log"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Raises `ProcessLookupError` when it was not started."""
        if self._process is None:
            raise ProcessLookupError(f"{self.name} was not started")
        return self._process.pid

    # Its life

    def start(self) -> Self:
        """Blocks until it answers, up to 90 s; does nothing when it runs already.

        Raises:
            PartMissing: the program is not on this machine.
            ServerDied: it ended or did not answer; with the last lines of its log.
        """
        if self.running:
            return self
        may_choose = not self.port
        try:
            self._start_once()
        except ServerDied:
            if not may_choose or is_free(self.port):
                raise
            self.port = 0  # somebody was quicker at the port
            self._start_once()
        return self

    def stop(self) -> None:
        """Ends it in good order, by force after 20 s. Its data stay. Does nothing when it does not run."""
        if self._process is not None and self.running:
            self.resume()
            self._process.terminate()
            try:
                self._process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._bury()

    def kill(self) -> None:
        """A crash: SIGKILL. Its data stay as they are on disk; start() lets it recover."""
        if self._process is not None and self.running:
            self._process.kill()
        self._bury()

    def restart(self) -> Self:
        """Stop and start on the same port and data."""
        self.stop()
        return self.start()

    def pause(self) -> None:
        """A hang: it keeps its connections and answers nothing until resume()."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Stops it and removes its folder if that was a temporary one."""
        self.stop()
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # For the kinds of servers

    def run_tool(self, command: Sequence[str | Path]) -> None:
        """Runs a preparing program to its end, output to the log. Raises `ServerDied` when it fails."""
        with self.log.open("ab") as log:
            status = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self.environment,
                check=False,
            ).returncode
        if status:
            raise self._died(f"{Path(command[0]).name} failed with status {status}")

    # How

    def _start_once(self) -> None:
        self.port = self.port or free_port()
        try:
            self.prepare()
            self._launch()
            self._wait_until_it_answers()
        except BaseException:
            self.kill()
            raise

    def _launch(self) -> None:
        self._bury()  # a former process that ended by itself
        command = self.command()
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "pixtail-guard", self._temporary.name if self._temporary else ""],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            process_group=0,
        )
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self.environment,
                process_group=self._guard.pid,
            )

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + READY_LIMIT_S
        while time.monotonic() < deadline:
            if self.answers():
                return
            try:
                status = self._process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                continue
            raise self._died(f"it ended with status {status}")
        raise self._died(f"it did not answer within {READY_LIMIT_S:.0f} s")

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)  # which itself sees to it that a reaped pid is never hit

    def _bury(self) -> None:
        if self._process is not None:
            self._process.wait()
            self._process = None
        if self._guard is not None:
            self._guard.kill()  # before its pipe closes, or it would remove the temporary folder
            self._guard.communicate()
            self._guard = None

    def _died(self, what: str) -> ServerDied:
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        keep = f"Read {self.log}" if self._given_folder else "Give it a folder of its own to keep the whole log"
        return ServerDied(f"Private {self.name} did not start: {what}. Its log ends: {' | '.join(lines)}", keep, lines)
