"""`pixtail listen` as processes that are killed and started again."""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from kafka.admin import MemberToRemove
from kafka.errors import KafkaError

from pixtail.bus.client import admin_client
from pixtail.bus.leadership import listen_group
from pixtail.bus.topics import Topics
from pixtail.core.errors import ServerUnreachable
from pixtail.core.settings import Kafka
from tests.acceptance.program import PIXTAIL, environment

FOLLOWS = b"following the binlog"
STANDS_BY = b"another listener leads"
SERVER_AWAY = 4
POLL_S = 0.02


class ListenerProcess:
    """One life."""

    def __init__(self, folder: Path, number: int) -> None:
        self.log = folder / f"listener-{number:04}.log"
        self.started_at = time.monotonic()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [PIXTAIL, "listen"],
                cwd=folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def status(self) -> int | None:
        """Of its end, once it has come."""
        return self._process.poll()

    def says(self, text: bytes) -> bool:
        return text in self.log.read_bytes()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def stop(self, limit_s: float) -> int:
        """In good order; its status. Raises `subprocess.TimeoutExpired`."""
        self._process.terminate()
        return self._process.wait(limit_s)


class Listeners:
    """The one that should lead, `leader`, and those that stand by. `ends`: how those ended that nobody killed, by status.

    A listener that finds a server away at its start ends with status 4 (design.md): it is started again, as a service manager would.
    """

    def __init__(self, folder: Path, kafka: Kafka, topics: Topics) -> None:
        self.started = 0
        self.ends: Counter[int] = Counter()
        self.unwanted_ends: list[str] = []
        self._folder = folder
        self._kafka = kafka
        self._group = listen_group(topics)
        self._all: list[ListenerProcess] = []
        self.leader = self.another()
        self.standby: ListenerProcess | None = None

    def another(self) -> ListenerProcess:
        self.started += 1
        self._all.append(ListenerProcess(self._folder, self.started))
        return self._all[-1]

    def replace(self, *, may_ask_broker: bool = True) -> None:
        """kill -9 for the leader, and a new one. The broker need not wait six seconds for the end of the dead one's session: we tell it."""
        self.leader.kill()
        self.leader = self.another()
        if may_ask_broker:
            self._remove_the_dead()

    def stand_by(self) -> ListenerProcess:
        """A second one, by mistake."""
        self.standby = self.another()
        return self.standby

    def fall_over(self) -> None:
        """The one that stands by is now the one that should lead; the former one is left to the caller."""
        assert self.standby is not None
        self.leader, self.standby = self.standby, None

    def look_after(self) -> None:
        """Starts again what has ended."""
        if (status := self.leader.status) is None:
            return
        self.ends[status] += 1
        if status != SERVER_AWAY:
            self.unwanted_ends.append(f"{self.leader.log.name} ended with status {status}: {self._last_words()}")
            time.sleep(1)  # whatever it is, it may come again
        self.leader = self.another()

    def _last_words(self) -> str:
        return self.leader.log.read_text(errors="replace")[-800:]

    def _remove_the_dead(self) -> None:
        """Whoever is in the group before the new one can be."""
        with suppress(KafkaError, ServerUnreachable), admin_client(self._kafka) as admin:
            members = admin.describe_groups([self._group])[self._group]["members"]
            if members:
                admin.remove_group_members(self._group, [MemberToRemove(member_id=m["member_id"]) for m in members])

    def close(self) -> None:
        for process in self._all:
            process.kill()
