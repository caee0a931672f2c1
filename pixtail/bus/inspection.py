"""What `status` and `doctor` want to know of Kafka."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from kafka import KafkaAdminClient, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from pixtail.bus.client import admin_client
from pixtail.bus.consumer import LANES, Lane
from pixtail.bus.leadership import listen_group
from pixtail.bus.producer import TRANSACTION_TIMEOUT_S
from pixtail.bus.reading import reading
from pixtail.bus.state import StateStore
from pixtail.bus.topics import MOST_REPLICAS, SEVEN_DAYS_MS, Topics
from pixtail.core.changes import key_bytes
from pixtail.core.checks import Check
from pixtail.core.errors import SettingError
from pixtail.core.settings import Kafka

OLDEST_BROKER = (2, 5)  # transactions that survive a rebalance of the group (KIP-447)


def lane_group(topics: Topics, lane: Lane, generation: str = "") -> str:
    """The consumer group of the worker's lane that keeps one generation of the index true: how far it is belongs to a collection."""
    return ".".join(filter(None, [topics.prefix, "encode", topics.source, generation, lane]))


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
        ends = _ends(admin, topic)
        if ends is None:
            return None
        done = _committed(admin, group)
    return {tp.partition: max(0, end - done.get(tp, 0)) for tp, end in ends.items()}


def _ends(admin: KafkaAdminClient, topic: str) -> dict[TopicPartition, int] | None:
    if topic not in admin.list_topics():
        return None
    partitions = [p["partition_index"] for p in admin.describe_topics([topic])[0]["partitions"]]
    found = admin.list_partition_offsets({TopicPartition(topic, p): OffsetSpec.LATEST for p in partitions})
    return {tp: end.offset for tp, end in found.items()}


def changes_ends(kafka: Kafka, topics: Topics) -> dict[TopicPartition, int]:
    """Where the topic of changes ends now, in each partition; empty for one that does not exist."""
    with admin_client(kafka) as admin:
        return _ends(admin, topics.changes) or {}


def lane_ends(kafka: Kafka, topics: Topics, generation: str) -> dict[str, dict[TopicPartition, int]]:
    """What the workers of a generation have to reach to have seen all that is there now: the same ends for the group of each lane."""
    ends = changes_ends(kafka, topics)
    return {lane_group(topics, lane, generation): ends for lane in LANES}


def groups_reached(kafka: Kafka, ends: Mapping[str, Mapping[TopicPartition, int]]) -> bool:
    """Has each group finished everything before its `ends`?"""
    with admin_client(kafka) as admin:
        return all(_reached(_committed(admin, group), of_group) for group, of_group in ends.items())


def _reached(done: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]) -> bool:
    return all(done.get(tp, 0) >= end for tp, end in ends.items())


def worker_lag(kafka: Kafka, topics: Topics, generation: str = "") -> int | None:
    """Records that the workers of a generation have not finished, by the lane that is further behind; None for a topic that does not exist.

    An upper bound: each lane reads over the other one's records, and counts them until it has.
    """
    lags = [group_lag(kafka, topics.changes, lane_group(topics, lane, generation)) for lane in LANES]
    return max((sum(lag.values()) for lag in lags if lag is not None), default=None)


def forget_groups(kafka: Kafka, groups: Sequence[str]) -> None:
    """They begin at the topic's start the next time. One that has members now is left as it is: somebody is at work."""
    with admin_client(kafka) as admin:
        for name, outcome in _delete(admin, list(groups)).items():
            structlog.get_logger().debug("consumer group forgotten", group=name, outcome=outcome)


@retry(
    retry=retry_if_exception_type(kafka_errors.RetriableError),
    wait=wait_fixed(0.2),
    stop=stop_after_delay(8),
    reraise=True,
)
def _delete(admin: KafkaAdminClient, groups: list[str]) -> dict[str, str]:
    return {name: str(outcome) for name, outcome in admin.delete_groups(groups).items()}


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


# What doctor looks at

_TRANSACTIONS, _OFFSETS = "__transaction_state", "__consumer_offsets"
# An event holds a row twice, and base64 adds a third to binary values.
_EVENT_PER_ROW = 3
_EVENT_OVERHEAD_BYTES = 2048


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """A topic that is there. `replicas`: of its poorest partition; `configs` is empty if we may not see them."""

    partitions: int
    replicas: int
    leaderless: int
    configs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Cluster:
    """`configs` are one broker's; empty if we may not see them."""

    brokers: int
    configs: Mapping[str, str]
    topics: Mapping[str, TopicFacts]


def look_at_cluster(kafka: Kafka, topics: Topics) -> Cluster:
    """Raises `BusUnreachable`, `SettingError`."""
    ours = (topics.changes, topics.state, topics.dead_letters)
    with admin_client(kafka) as admin:
        brokers = admin.describe_cluster()["brokers"]
        existing = set(admin.list_topics())
        names = [name for name in (*ours, _TRANSACTIONS, _OFFSETS) if name in existing]
        described = admin.describe_topics(names) if names else []
        first = str(brokers[0]["broker_id"])
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        found = admin.describe_configs(
            [*resources, ConfigResource(ConfigResourceType.BROKER, first)], config_filter="all"
        )
    configs = {name: _values(config) for name, config in found.get("topic", {}).items()}
    return Cluster(
        brokers=len(brokers),
        configs=_values(found.get("broker", {}).get(first, {})),
        topics={topic["name"]: _facts(topic["partitions"], configs.get(topic["name"], {})) for topic in described},
    )


def _values(config: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(entry["value"]) for name, entry in config.items()}


def _facts(partitions: list[dict[str, Any]], configs: Mapping[str, str]) -> TopicFacts:
    replicas = min((len(p["replica_nodes"]) for p in partitions), default=0)
    return TopicFacts(len(partitions), replicas, sum(p["leader_id"] < 0 for p in partitions), configs)


def judge_cluster(kafka: Kafka, topics: Topics, cluster: Cluster, row_bytes: int | None) -> Iterator[Check]:
    """Pure. A check that is `ok` and has a remedy is a warning. `row_bytes`: a large row's size in MySQL."""
    yield _security(kafka)
    yield _transactions(cluster)
    wanted = {topics.changes: kafka.partitions, topics.state: 1, topics.dead_letters: 1}
    for name, partitions in wanted.items():
        facts = cluster.topics.get(name)
        if facts is None:
            yield _to_be_made(kafka, cluster, name, partitions)
            continue
        yield _topic(name, facts)
        yield _partitions(name, facts, partitions, topics)
        yield from _settings(_Topic(kafka, name, facts), topics, cluster, row_bytes)


def _security(kafka: Kafka) -> Check:
    hosts = [server.strip().rpartition(":")[0] for server in kafka.bootstrap.split(",")]
    away = [host for host in hosts if not _is_loopback(host)]
    if kafka.security_protocol.endswith("SSL") or not away:
        return Check(
            "Kafka TLS", True, kafka.security_protocol if away else f"{kafka.security_protocol}, on this machine"
        )
    return Check(
        "Kafka TLS",
        True,
        f"{kafka.security_protocol}: rows go to {away[0]} unencrypted",
        f'Set kafka.security_protocol = "{"SASL_SSL" if "SASL" in kafka.security_protocol else "SSL"}" and kafka.ssl_cafile',
    )


def _is_loopback(host: str) -> bool:
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _transactions(cluster: Cluster) -> Check:
    """Kafka makes its own topics at the first transaction, and answers "not available" for ever if it has too few brokers for them."""
    name = "Kafka transactions"
    for topic, prefix in ((_TRANSACTIONS, "transaction.state.log"), (_OFFSETS, "offsets.topic")):
        factor = int(cluster.configs.get(f"{prefix}.replication.factor", 1))
        if topic not in cluster.topics and factor > cluster.brokers:
            minimum = f", {prefix}.min.isr = 1" if topic == _TRANSACTIONS else ""
            return Check(
                name,
                False,
                f"{topic} wants {factor} replicas, and there are {cluster.brokers} brokers: no transaction can begin",
                f"Put {prefix}.replication.factor = {cluster.brokers}{minimum} into server.properties, and restart the broker",
            )
    longest_ms = int(cluster.configs.get("transaction.max.timeout.ms", 900_000))
    if longest_ms < TRANSACTION_TIMEOUT_S * 1000:
        needed = int(TRANSACTION_TIMEOUT_S * 1000)
        return Check(
            name,
            False,
            f"transaction.max.timeout.ms is {longest_ms}, below our {needed}",
            f"Put transaction.max.timeout.ms = {needed} into server.properties, and restart the broker",
        )
    return Check(name, True, "they can begin")


def _to_be_made(kafka: Kafka, cluster: Cluster, name: str, partitions: int) -> Check:
    replicas = min(MOST_REPLICAS, cluster.brokers) if kafka.replication == "auto" else kafka.replication
    if replicas > cluster.brokers:
        problem = f"it is to have {replicas} replicas, and there are {cluster.brokers} brokers"
        return Check(name, False, problem, f"Set kafka.replication = {cluster.brokers}")
    in_sync = int(cluster.configs.get("min.insync.replicas", 1))
    if in_sync > replicas:
        remedy = f"--entity-type brokers --entity-default --add-config min.insync.replicas={max(1, replicas - 1)}"
        problem = (
            f"it will have {replicas} replicas, and by default {in_sync} must take every write: none would go through"
        )
        return Check(name, False, problem, _configs_command(kafka, remedy))
    return Check(name, True, f"not there yet; it will be made with {partitions} partitions, {replicas} replicas")


def _topic(name: str, facts: TopicFacts) -> Check:
    if facts.leaderless:
        return Check(name, False, f"{facts.leaderless} partitions have no leader", "Start the broker that holds them")
    return Check(name, True, f"{facts.partitions} partitions, {facts.replicas} replicas")


def _partitions(name: str, facts: TopicFacts, wanted: int, topics: Topics) -> Check:
    label, found = f"{name} partitions", facts.partitions
    if found == wanted or name == topics.dead_letters:
        return Check(label, True, str(found))
    if name == topics.state:
        return Check(label, False, f"{found}, and it must have one", "Choose another kafka.prefix")
    return Check(label, True, f"{found}, while kafka.partitions is {wanted}", f"Set kafka.partitions = {found}")


@dataclass(frozen=True, slots=True)
class _Topic:
    kafka: Kafka
    name: str
    facts: TopicFacts

    def check(self, config: str, found: str, *, ok: bool, better: object = None, because: str = "") -> Check:
        """`better` is the value to set; without one all is well."""
        label = f"{self.name} {config}"
        if better is None:
            return Check(label, ok, found)
        remedy = f"--entity-type topics --entity-name {self.name} --add-config {config}={better}"
        return Check(label, ok, f"{found}: {because}", _configs_command(self.kafka, remedy))


def _configs_command(kafka: Kafka, rest: str) -> str:
    return f"kafka-configs.sh --bootstrap-server {kafka.bootstrap} --alter {rest}"


def _settings(topic: _Topic, topics: Topics, cluster: Cluster, row_bytes: int | None) -> Iterator[Check]:
    configs = topic.facts.configs
    if not configs:
        remedy = (
            f"kafka-acls.sh --bootstrap-server {topic.kafka.bootstrap} --add --allow-principal User:NAME"
            f" --operation DescribeConfigs --topic {topic.name}"
        )
        yield Check(f"{topic.name} settings", True, "we may not see them", remedy)
        return
    yield _cleanup(topic, configs)
    yield _in_sync(topic, configs, cluster)
    if topic.name == topics.changes:
        yield _delete_retention(topic, configs)
        yield _message_size(topic, configs, row_bytes)


def _cleanup(topic: _Topic, configs: Mapping[str, str]) -> Check:
    """With `delete` in it, what is older than retention.ms goes, and with it the only record of a row that rests."""
    policy = configs.get("cleanup.policy", "delete")
    if policy == "compact":
        return topic.check("cleanup.policy", policy, ok=True)
    return topic.check(
        "cleanup.policy", policy, ok=False, better="compact", because="records that are still needed would be deleted"
    )


def _in_sync(topic: _Topic, configs: Mapping[str, str], cluster: Cluster) -> Check:
    name, found, replicas = "min.insync.replicas", int(configs.get("min.insync.replicas", 1)), topic.facts.replicas
    if found > replicas:
        better = max(1, replicas - 1)
        return topic.check(
            name, str(found), ok=False, better=better, because=f"no write goes through with {replicas} replicas"
        )
    if replicas >= 3 and found < 2:
        return topic.check(
            name, str(found), ok=True, better=2, because="a write that one broker alone took can be lost with it"
        )
    alone = f", and {cluster.brokers} brokers could hold it" if replicas == 1 < cluster.brokers else ""
    return topic.check(name, f"{found} of {replicas}{alone}", ok=True)


def _delete_retention(topic: _Topic, configs: Mapping[str, str]) -> Check:
    name, found = "delete.retention.ms", int(configs.get("delete.retention.ms", 0))
    if found >= SEVEN_DAYS_MS:
        return topic.check(name, f"{found / SEVEN_DAYS_MS * 7:.3g} days", ok=True)
    return topic.check(
        name, str(found), ok=True, better=SEVEN_DAYS_MS, because="a worker that was away for longer misses deletes"
    )


def _message_size(topic: _Topic, configs: Mapping[str, str], row_bytes: int | None) -> Check:
    name, found = "max.message.bytes", int(configs.get("max.message.bytes", 1 << 20))
    if row_bytes is None:
        return topic.check(name, str(found), ok=True)
    event = row_bytes * _EVENT_PER_ROW + _EVENT_OVERHEAD_BYTES
    if event <= found:
        return topic.check(name, f"{found}; events have up to about {event} bytes", ok=True)
    because = (
        f"a row has {row_bytes} bytes, its event up to {event}; one that does not fit, compressed, stops the listener"
    )
    return topic.check(name, str(found), ok=True, better=event * 2, because=because)


@dataclass(frozen=True, slots=True)
class Saved:
    """The listener's state as it stands in its topic; `written_ms` since the epoch, by the clock of the machine that wrote it."""

    body: dict[str, Any] | None
    written_ms: int


def saved_state(kafka: Kafka, topics: Topics) -> Saved:
    """Raises `BusUnreachable`; `SettingError` if the record is not ours."""
    wanted = key_bytes({"source": topics.source})
    with reading(kafka, topics.state) as reader:
        times = [int(record.timestamp) for record in reader.read() if record.key == wanted]
    return Saved(StateStore(kafka, topics).read(topics.source), times[-1] if times else 0)


def leaders(kafka: Kafka, topics: Topics) -> list[str]:
    """The hosts of the listeners that run for the source, the standbys among them."""
    with admin_client(kafka) as admin:
        return _members(admin, listen_group(topics))


def workers(kafka: Kafka, topics: Topics, generation: str = "") -> list[str]:
    """The hosts of the workers that run for the source, and for this generation of the index."""
    with admin_client(kafka) as admin:
        return [host for lane in LANES for host in _members(admin, lane_group(topics, lane, generation))]


@retry(
    retry=retry_if_exception_type(kafka_errors.RetriableError),
    wait=wait_fixed(0.2),
    stop=stop_after_delay(8),
    reraise=True,
)
def _members(admin: KafkaAdminClient, group: str) -> list[str]:
    """Empty for a group that does not exist."""
    found: dict[str, Any] = admin.describe_groups([group])
    return [str(member["client_host"]).lstrip("/") for member in found.get(group, {}).get("members") or ()]
