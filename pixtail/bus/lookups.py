"""Reading the tables that are looked up, each from a topic of its own, and remembering how far the index has followed them.

Every process reads all of them (like Kafka Streams' global tables). How far it has followed is the committed offset of a group without
members, so that whoever starts next does the rest; what it means stands beside the offset, and one that was committed for other settings
counts for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata

from pixtail.bus.client import client_options, reach, translated
from pixtail.bus.reading import read_to
from pixtail.bus.topics import Topics
from pixtail.core.changes import Entry, decode
from pixtail.core.errors import BusUnreachable
from pixtail.core.settings import Kafka

COMMIT_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class LookedUp:
    """What a record of the table's topic says. `followed`: the index shows it, or something newer, already."""

    table: str
    entry: Entry
    followed: bool


def lookup_group(topics: Topics, generation: str = "") -> str:
    """The group whose offsets say how far one generation of a source's index has followed its lookups."""
    return ".".join(filter(None, [topics.prefix, "encode", topics.source, generation, "lookups"]))


class LookupTopics:
    """All committed records of the topics, each once. For one thread. `topics`: topic → table; `meaning`: what is taken from them."""

    def __init__(self, kafka: Kafka, topics: Mapping[str, str], group: str, meaning: str) -> None:
        self._kafka = kafka
        self._topics = topics
        self._group = group
        self._meaning = meaning
        self._consumer: KafkaConsumer | None = None
        self._followed: dict[TopicPartition, int] = {}  # next offsets

    def open(self) -> None:
        """Connects. Raises `BusUnreachable`, also for a topic that is not there; `SettingError`."""
        reach(self._kafka)
        with translated(self._kafka):
            self._consumer = consumer = KafkaConsumer(
                **client_options(self._kafka),
                group_id=self._group,
                enable_auto_commit=False,
                isolation_level="read_committed",
                fetch_max_wait_ms=50,
                metadata_max_age_ms=30_000,
            )
            places = [place for topic in self._topics for place in self._places(topic)]
            consumer.assign(places)
            consumer.seek_to_beginning(*places)
            self._followed = {place: self._committed(place) for place in places}

    def read(self) -> list[LookedUp]:
        """What has come since the last call, all of it; at first, everything. Raises `BusUnreachable`."""
        consumer = self._open()
        with translated(self._kafka):
            places = {place for topic in self._topics for place in self._places(topic)}
            if places != consumer.assignment():
                raise BusUnreachable("the partitions of a lookup's topic are others than before", "They are read anew")
            return [self._looked_up(record) for record in read_to(consumer, consumer.end_offsets(places), self._kafka)]

    def commit(self) -> None:
        """Says that the index has followed all that was read. Raises `BusUnreachable`."""
        consumer = self._open()
        with translated(self._kafka):
            followed = {
                place: OffsetAndMetadata(consumer.position(place), self._meaning, -1) for place in consumer.assignment()
            }
            consumer.commit(followed, timeout_ms=int(COMMIT_TIMEOUT_S * 1000))

    def _places(self, topic: str) -> list[TopicPartition]:
        partitions = self._open().partitions_for_topic(topic)
        if not partitions:
            raise BusUnreachable(f"the topic {topic} is not there", "Start the listener: pixtail listen")
        return [TopicPartition(topic, partition) for partition in sorted(partitions)]

    def _committed(self, place: TopicPartition) -> int:
        """0 for an offset that is of other settings. With a topic that is deleted Kafka forgets the group's offsets in it."""
        found = self._open().committed(place, metadata=True, timeout_ms=int(COMMIT_TIMEOUT_S * 1000))
        return found.offset if found is not None and found.metadata == self._meaning else 0

    def _looked_up(self, record: Any) -> LookedUp:
        place = TopicPartition(record.topic, record.partition)
        partitions = len(self._places(record.topic))
        entry = decode(record.key, record.value, record.headers or (), record.offset, partitions)
        return LookedUp(self._topics[record.topic], entry, record.offset < self._followed[place])

    def _open(self) -> KafkaConsumer:
        if self._consumer is None:
            raise BusUnreachable("the lookups' topics are not open")
        return self._consumer

    def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close(autocommit=False, timeout_ms=3000)
