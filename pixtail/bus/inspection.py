"""What `status` and `doctor` want to know of Kafka."""

from __future__ import annotations

from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import OffsetSpec
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from pixtail.bus.client import admin_client
from pixtail.bus.topics import Topics
from pixtail.core.errors import SettingError
from pixtail.core.settings import Kafka

OLDEST_BROKER = (2, 5)  # transactions that survive a rebalance of the group (KIP-447)


def lane_group(topics: Topics, lane: str) -> str:
    """The consumer group of the worker's lane."""
    return f"{topics.prefix}.encode.{topics.source}.{lane}"


def describe_broker(kafka: Kafka) -> str:
    """What answers at the address, in words. Raises `BusUnreachable`; `SettingError` for a broker that is too old."""
    with admin_client(kafka) as admin:
        cluster = admin.describe_cluster()
        version = tuple(admin.get_broker_version_data(cluster["brokers"][0]["broker_id"]).broker_version)
    text = ".".join(str(part) for part in version)
    if version < OLDEST_BROKER:
        needed = ".".join(str(part) for part in OLDEST_BROKER)
        raise SettingError(
            f"Kafka at {kafka.bootstrap} is {text}, too old for exactly-once", f"Use Kafka {needed} or newer"
        )
    return f"Kafka {text} at {kafka.bootstrap}, {len(cluster['brokers'])} broker(s)"


def group_lag(kafka: Kafka, topic: str, group: str) -> dict[int, int] | None:
    """Records per partition that the group has not committed; None for a topic that does not exist."""
    with admin_client(kafka) as admin:
        if topic not in admin.list_topics():
            return None
        partitions = [p["partition_index"] for p in admin.describe_topics([topic])[0]["partitions"]]
        ends = admin.list_partition_offsets({TopicPartition(topic, p): OffsetSpec.LATEST for p in partitions})
        done = _committed(admin, group)
    return {tp.partition: max(0, end.offset - done.get(tp, 0)) for tp, end in ends.items()}


@retry(
    retry=retry_if_exception_type(kafka_errors.RetriableError),
    wait=wait_fixed(0.2),
    stop=stop_after_delay(8),
    reraise=True,
)
def _committed(admin: KafkaAdminClient, group: str) -> dict[TopicPartition, int]:
    """The first request for a group after the broker's start answers COORDINATOR_NOT_AVAILABLE: hence the retries."""
    found: dict[TopicPartition, Any] = admin.list_group_offsets({group: None}).get(group, {})
    return {tp: offset.offset for tp, offset in found.items()}
