"""Who listens to a source: the member of a consumer group to which the state topic's only partition is assigned."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import structlog
from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment, ConsumerProtocolSubscription

from pixtail.bus.client import client_options, reach, translated
from pixtail.bus.joining import finish_joining
from pixtail.bus.topics import Topics
from pixtail.core.errors import PixtailError, ServerUnreachable
from pixtail.core.lifecycle import Stop
from pixtail.core.settings import Kafka

HEARTBEAT_S = 0.5  # how soon a member learns that the leader has left
REJOIN_TIMEOUT_S = 10.0
POLL_S = 0.1
RECONNECT_S = 0.5
LEAVE_TIMEOUT_S = 1.0

_log = structlog.get_logger()


class Leadership:
    """One listener of a source leads, the others are hot standbys, in the group `<prefix>.listen.<db>.<table>`.

    A standby takes over within 0.5 s of a `close` and within 8 s of a kill -9 or a freeze; a newcomer never does. A thread of its own keeps
    the membership, through outages too. A belief in leadership may be wrong for a while, when Kafka or this process was frozen: the
    transactional producer is what makes that harmless (fencing). `acquire` and `close` are for one thread, `held` for any.

    The first member of a group that was empty waits for others as long as the brokers' `group.initial.rebalance.delay.ms` says, 3 s by
    default; one that starts after a leader's kill -9, until that one's session has ended.
    """

    def __init__(self, kafka: Kafka, topics: Topics) -> None:
        self._kafka = kafka
        self._place = TopicPartition(topics.state, 0)
        self._group = listen_group(topics)
        self._verdict = threading.Condition()
        self._held: bool | None = None  # None: the group has not said it yet
        self._failure: PixtailError | None = None
        self._leaving = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def held(self) -> bool:
        """True while this process leads, as far as it knows. Raises `SettingError` when its membership has ended for good."""
        if self._failure is not None:
            raise self._failure
        return self._held is True

    @property
    def standing_by(self) -> bool:
        """True while another member leads."""
        return self._held is False

    def acquire(self, stop: Stop) -> bool:
        """Joins the group, unless it is a member, and blocks until this process leads (True) or `stop` is set (False).

        Waits through outages. Raises `SettingError` when the brokers forbid the group.
        """
        self._join()
        told = False
        while not stop:
            with self._verdict:
                self._verdict.wait_for(lambda: self._failure or self._held, POLL_S)
            if self.held:
                return True
            if self._held is False and not told:
                _log.info("another listener leads, standing by", group=self._group)
                told = True
        return False

    def close(self) -> None:
        """Leaves the group at once, so that a standby takes over. It may be acquired again."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._leaving.set()
            thread.join(REJOIN_TIMEOUT_S)
        self._learn(None)

    def _join(self) -> None:
        if self._thread is not None:
            return
        self._failure, self._leaving = None, threading.Event()
        self._thread = threading.Thread(target=self._keep, args=(self._leaving,), name="leadership", daemon=True)
        self._thread.start()

    def _learn(self, held: bool | None, failure: PixtailError | None = None) -> None:
        with self._verdict:
            self._held, self._failure = held, failure
            self._verdict.notify_all()

    # In the thread. One that is late to leave has no say any more.

    def _decide(self, leaving: threading.Event, held: bool, failure: PixtailError | None = None) -> None:
        if not leaving.is_set():
            self._learn(held, failure)

    def _keep(self, leaving: threading.Event) -> None:
        while not leaving.is_set():
            try:
                with translated(self._kafka):
                    self._be_a_member(leaving)
            except ServerUnreachable as error:
                _log.debug("the group is out of reach", group=self._group, problem=error.problem)
                leaving.wait(RECONNECT_S)
            except PixtailError as error:
                self._decide(leaving, False, error)
                return
            except Exception as error:  # noqa: BLE001 - a mistake of the client must not end a membership that nobody else keeps
                _log.warning("the membership broke off, joining again", group=self._group, error=repr(error))
                leaving.wait(RECONNECT_S)

    def _be_a_member(self, leaving: threading.Event) -> None:
        reach(self._kafka)
        choice = _Choice(self._place)
        consumer = KafkaConsumer(
            **client_options(self._kafka),
            group_id=self._group,
            enable_auto_commit=False,
            partition_assignment_strategy=(choice,),
            session_timeout_ms=int(self._kafka.leader_timeout_s * 1000),
            heartbeat_interval_ms=int(min(HEARTBEAT_S, self._kafka.leader_timeout_s / 4) * 1000),
            max_poll_interval_ms=int(REJOIN_TIMEOUT_S * 1000),
            metrics_enabled=False,
        )
        try:
            consumer.subscribe(
                [self._place.topic], listener=_Verdicts(consumer, choice, partial(self._decide, leaving))
            )
            while not leaving.is_set():
                finish_joining(consumer)
                consumer.poll(timeout_ms=int(POLL_S * 1000))
        finally:
            consumer.close(autocommit=False, timeout_ms=int(LEAVE_TIMEOUT_S * 1000))


class _Choice(AbstractPartitionAssignor):  # type: ignore[misc]
    """Whoever leads goes on; else it is anybody's turn.

    Members say in which generation they were last chosen, since one that was frozen may still think that it leads. The sticky assignor does
    as much, but gives the partition to nobody, and for good, when a member has no metadata of the topic yet.
    """

    name = "pixtail-leader"

    def __init__(self, place: TopicPartition) -> None:
        self._place = place
        self._chosen_in = 0

    def metadata(self, topics: Collection[str]) -> Any:
        return ConsumerProtocolSubscription(0, list(topics), b"%d" % self._chosen_in)

    def assign(self, _cluster: Any, members: Sequence[Any]) -> dict[str, Any]:
        leader = max(members, key=lambda member: (int(member.metadata.user_data), member.member_id))
        topic, partition = self._place
        return {
            member.member_id: ConsumerProtocolAssignment(0, [(topic, [partition])] if member is leader else [], b"")
            for member in members
        }

    def on_assignment(self, assignment: Any, generation: int) -> None:
        self._chosen_in = generation if assignment.partitions() else 0

    def forget(self) -> None:
        self._chosen_in = 0


class _Verdicts(ConsumerRebalanceListener):  # type: ignore[misc]
    """What the group decides. A revocation is no more than the beginning of a rebalance."""

    def __init__(self, consumer: KafkaConsumer, choice: _Choice, decide: Callable[[bool], None]) -> None:
        self._consumer = consumer
        self._choice = choice
        self._decide = decide

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._consumer.pause(*assigned)  # nobody wants to read them here
        self._decide(bool(assigned))

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        pass

    def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        self._choice.forget()
        self._decide(False)


def listen_group(topics: Topics) -> str:
    """The consumer group of a source's listeners, and the transactional id of the one that leads."""
    return f"{topics.prefix}.listen.{topics.source}"
