"""Leadership: one listener of a source leads, another takes over when it goes, and nobody else moves it. Real brokers, real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

from pixtail.bus.client import admin_client
from pixtail.bus.leadership import Leadership, listen_group
from pixtail.bus.topics import Topics, ensure_topics
from pixtail.core.errors import SettingError
from pixtail.core.lifecycle import Stop
from pixtail.core.settings import Kafka
from pixtail.servers.kafka import KafkaServer
from tests.integration.listener_kit import wait_for

TAKEOVER_LIMIT_S = 10.0

# A member of its own: says when it leads, and when it does no more. Arguments: Kafka's address, prefix.
PROGRAM = """
import sys, time
from pixtail.bus.leadership import Leadership
from pixtail.bus.topics import Topics
from pixtail.core.lifecycle import Stop
from pixtail.core.settings import Kafka
bootstrap, prefix = sys.argv[1:]
leadership = Leadership(Kafka(bootstrap=bootstrap, prefix=prefix), Topics(prefix, "shop.images"))
leadership.acquire(Stop())
print("leads", flush=True)
while leadership.held:
    time.sleep(0.01)
print("leads no more", flush=True)
time.sleep(60)
"""


class Group:
    """A source, and those who want to listen to it from this process."""

    def __init__(self, kafka: KafkaServer, prefix: str) -> None:
        self.settings = Kafka(bootstrap=kafka.bootstrap, prefix=prefix)
        self.topics = Topics(prefix, "shop.images")
        self.stop = Stop()
        self._members: list[Leadership] = []
        self._waiting: list[threading.Thread] = []
        ensure_topics(self.settings, self.topics)

    def member(self) -> Leadership:
        """One that acquires in a thread of its own, leading or standing by."""
        member = Leadership(self.settings, self.topics)
        self._members.append(member)
        waiting = threading.Thread(target=member.acquire, args=(self.stop,))
        self._waiting.append(waiting)
        waiting.start()
        return member

    def members(self) -> int:
        with admin_client(self.settings) as admin:
            described = admin.describe_groups([listen_group(self.topics)])[listen_group(self.topics)]
        return len(described["members"]) if described["group_state"] == "Stable" else 0

    def close(self) -> None:
        self.stop.set()
        for member in self._members:
            member.close()
        for waiting in self._waiting:
            waiting.join()


@pytest.fixture
def group(kafka: KafkaServer, unique: str) -> Iterator[Group]:
    with closing(Group(kafka, unique)) as group:
        yield group


@pytest.fixture
def leader_process(group: Group) -> Iterator[subprocess.Popen[str]]:
    """A process that leads."""
    command = [sys.executable, "-c", PROGRAM, group.settings.bootstrap, group.settings.prefix]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        wait_for_line(process, "leads")
        yield process
        process.kill()


def wait_for_line(process: subprocess.Popen[str], line: str) -> None:
    """Past what it logs."""
    assert process.stdout is not None
    assert f"{line}\n" in process.stdout, f"it ended without saying: {line}"


def seconds_until(condition: Callable[[], bool]) -> float:
    began = time.monotonic()
    wait_for(condition, "a change of leadership")
    return time.monotonic() - began


def test_the_first_leads_and_newcomers_that_come_and_go_never_move_it(group: Group) -> None:
    first = group.member()
    assert seconds_until(lambda: first.held) < 5
    for others in range(2):
        newcomer = group.member()
        held = [first.held]
        wait_for(lambda: held.append(first.held) or group.members() == others + 2, "the newcomer in the group")  # noqa: B023
        assert not newcomer.held
        assert all(held), "the leader was in doubt"
    group._members[1].close()
    wait_for(lambda: group.members() == 2, "the newcomer gone")
    assert first.held


def test_a_standby_takes_over_within_a_second_when_the_leader_leaves(group: Group) -> None:
    leader = group.member()
    wait_for(lambda: leader.held, "a leader")
    standby = group.member()
    wait_for(lambda: group.members() == 2, "a standby")
    leader.close()
    assert not leader.held
    assert seconds_until(lambda: standby.held) < 1


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_a_standby_takes_over_from_a_leader_that_is(
    how: signal.Signals, group: Group, leader_process: subprocess.Popen[str]
) -> None:
    standby = group.member()
    wait_for(lambda: group.members() == 2, "a standby")
    leader_process.send_signal(how)
    assert seconds_until(lambda: standby.held) < TAKEOVER_LIMIT_S
    if how == signal.SIGSTOP:
        leader_process.send_signal(signal.SIGCONT)
        wait_for_line(leader_process, "leads no more")
        assert standby.held


def test_a_group_that_was_left_can_be_joined_again(group: Group) -> None:
    member = Leadership(group.settings, group.topics)
    with closing(member):
        for _ in range(2):
            assert member.acquire(group.stop)
            member.close()
            assert not member.held


def test_a_standby_stops_waiting_when_it_is_time_to_stop(group: Group) -> None:
    leader = group.member()
    wait_for(lambda: leader.held, "a leader")
    results: list[bool] = []
    standby = Leadership(group.settings, group.topics)
    stop = Stop()
    waiting = threading.Thread(target=lambda: results.append(standby.acquire(stop)))
    with closing(standby):
        waiting.start()
        wait_for(lambda: group.members() == 2, "a standby")
        stop.set()
        waiting.join(2)
    assert results == [False]


@pytest.mark.parametrize("outage", ["killed", "hung"])
def test_after_an_outage_of_the_broker_one_of_them_leads(outage: str, unique: str) -> None:
    with KafkaServer() as server, closing(Group(server, unique)) as group:
        members = [group.member()]
        wait_for(lambda: members[0].held, "a leader")
        members.append(group.member())
        wait_for(lambda: group.members() == 2, "a standby")
        if outage == "killed":
            server.kill()
            server.start()
        else:
            server.pause()
            time.sleep(7)  # longer than a session
            server.resume()
        wait_for(lambda: group.members() == 2, "both back in the group")
        wait_for(lambda: sum(member.held for member in members) == 1, "one leader")


def test_a_group_that_the_brokers_forbid_is_a_wrong_setting(unique: str) -> None:
    rules = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }
    with KafkaServer(properties=rules) as server, closing(Group(server, unique)) as group:
        name = ResourcePattern(ResourceType.GROUP, listen_group(group.topics))
        with admin_client(group.settings) as admin:
            admin.create_acls([ACL("User:ANONYMOUS", "*", ACLOperation.READ, ACLPermissionType.DENY, name)])
        with closing(Leadership(group.settings, group.topics)) as member:
            with pytest.raises(SettingError, match="ACLs"):
                member.acquire(group.stop)
            with pytest.raises(SettingError, match="ACLs"):
                assert not member.held
