"""Membership of a consumer group, mended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kafka import KafkaConsumer


def finish_joining(consumer: KafkaConsumer) -> None:
    """Call it before each poll: a join that is under way is finished by the polls to come, however short they are.

    kafka-python 3.0 may forget to, if the group answers between two polls. Then the member joins once more, and all others with it, again
    and again; or reads on without a heartbeat, is thrown out, and can never commit again.
    """
    coordinator = consumer._coordinator
    if coordinator._join_task is not None:
        coordinator._join_task = _Join.of(coordinator._join_task)
        coordinator.request_rejoin()  # it waits for the join that is under way, and begins no other


@dataclass(frozen=True, slots=True)
class _Join:
    """A join that is under way, or was answered. kafka-python takes what the group said only from one that is not done yet."""

    task: Any
    is_done: bool = False

    @classmethod
    def of(cls, task: Any) -> _Join:
        return task if isinstance(task, cls) else cls(task)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def __await__(self) -> Any:
        return self.task.__await__()
