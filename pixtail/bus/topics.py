"""The three topics of a table, and their making."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from zlib import crc32

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType

from pixtail.bus.client import REQUEST_TIMEOUT_S, admin_client
from pixtail.core.errors import BusUnreachable
from pixtail.core.settings import Kafka

SEVEN_DAYS_MS = 7 * 24 * 3600 * 1000
MOST_REPLICAS = 3
# Each Kafka transaction writes a state, and each start of a listener reads all that are left: compaction must come soon, and it spares the
# newest segment.
_SMALL = {"segment.bytes": str(4 << 20), "segment.ms": str(600_000), "min.cleanable.dirty.ratio": "0.1"}
DEFAULT_MESSAGE_BYTES = 1048588  # https://kafka.apache.org/documentation/#brokerconfigs_message.max.bytes


@dataclass(frozen=True, slots=True)
class Topics:
    """Their names: `source` is `<db>.<table>`."""

    prefix: str
    source: str

    @property
    def changes(self) -> str:
        return f"{self.prefix}.{self.source}"

    @property
    def state(self) -> str:
        return f"{self.prefix}.state"

    @property
    def dead_letters(self) -> str:
        return f"{self.changes}.dlq"


def partition_of(key: bytes, partitions: int) -> int:
    """CRC-32 of the key, as librdkafka's `consistent` partitioner does it (kafka-python's murmur2 is pure Python and slow)."""
    return crc32(key) % partitions


def ensure_topics(kafka: Kafka, topics: Topics, *, dead_letters: bool = True) -> None:
    """Makes the topics that are missing; leaves those that are there as they are. Waits until each has its leaders. Without
    `dead_letters` only the other two: what is looked up has no pictures that could fail."""
    compact = {"cleanup.policy": "compact"}
    wanted = {
        topics.changes: (kafka.partitions, {**compact, "delete.retention.ms": str(SEVEN_DAYS_MS)}),
        topics.state: (1, {**compact, **_SMALL}),
    }
    if dead_letters:
        wanted[topics.dead_letters] = (1, compact)
    with admin_client(kafka) as admin:
        existing = set(admin.list_topics())
        replicas = _replicas(admin, kafka)
        for name, (partitions, configs) in wanted.items():
            if name not in existing:
                _create(admin, name, {"num_partitions": partitions, "replication_factor": replicas, "configs": configs})
        _wait_for_leaders(admin, list(wanted), kafka)


def message_limits(kafka: Kafka, names: Collection[str]) -> dict[str, int]:
    """`max.message.bytes` of each topic: what a record batch may take, compressed. The brokers' default where we may not see it.

    Raises `BusUnreachable`, `SettingError`.
    """
    wanted = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    with admin_client(kafka) as admin:
        try:
            found = admin.describe_configs(wanted, config_filter="all").get("topic", {})
        except kafka_errors.AuthorizationError:
            found = {}
    limits = {name: int(config["max.message.bytes"]["value"]) for name, config in found.items() if config}
    return {name: limits.get(name, DEFAULT_MESSAGE_BYTES) for name in names}


def _replicas(admin: KafkaAdminClient, kafka: Kafka) -> int:
    if kafka.replication != "auto":
        return kafka.replication
    return min(MOST_REPLICAS, len(admin.describe_cluster()["brokers"]))


def _create(admin: KafkaAdminClient, name: str, spec: dict[str, object]) -> None:
    try:
        admin.create_topics({name: spec})
    except kafka_errors.TopicAlreadyExistsError:  # a sibling was quicker
        return


def _wait_for_leaders(admin: KafkaAdminClient, names: list[str], kafka: Kafka) -> None:
    deadline = time.monotonic() + REQUEST_TIMEOUT_S
    while time.monotonic() < deadline:
        partitions = [p for topic in admin.describe_topics(names) for p in topic["partitions"] or [{"leader_id": -1}]]
        if all(p["leader_id"] >= 0 for p in partitions):
            return
        time.sleep(0.05)
    raise BusUnreachable(
        f"the topics {', '.join(names)} at {kafka.bootstrap} have no leader", "Look at the broker's log"
    )
