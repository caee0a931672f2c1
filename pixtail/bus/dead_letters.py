"""The pictures that fail now, in the compacted topic `<prefix>.<db>.<table>.dlq`: one record per row, null once it is mended.

Every process that opens them sees all of them (like Kafka Streams' global tables): they are few, or something is very wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kafka import KafkaProducer

from pixtail.bus.client import client_options, discard, reach, translated
from pixtail.bus.reading import TopicReader
from pixtail.bus.topics import Topics
from pixtail.core.changes import Headers, seq_header
from pixtail.core.errors import Reason
from pixtail.core.settings import Kafka

WRITE_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A row whose picture cannot be had. `value` is the change as it came; `origin` is `topic/partition/offset`."""

    key: bytes
    value: bytes | None
    seq: int
    reason: Reason
    message: str
    attempts: int
    first_failed: str
    origin: str

    def headers(self) -> list[tuple[str, bytes]]:
        return [
            seq_header(self.seq),
            ("reason", self.reason.value.encode()),
            ("message", self.message.encode()),
            ("attempts", b"%d" % self.attempts),
            ("first_failed", self.first_failed.encode()),
            ("origin", self.origin.encode()),
        ]


class DeadLetters:
    """Reads and writes them. For one thread."""

    def __init__(self, kafka: Kafka, topics: Topics) -> None:
        self._kafka = kafka
        self._topic = topics.dead_letters
        self._reader = TopicReader(kafka, self._topic)
        self._producer: KafkaProducer | None = None
        self._letters: dict[bytes, DeadLetter] = {}

    @property
    def letters(self) -> Mapping[bytes, DeadLetter]:
        """Those open at the last `open` or `refresh`, and what was put and cleared here since, by record key."""
        return self._letters

    def open(self) -> None:
        """Raises `BusUnreachable`, `SettingError`."""
        self._reader.open()
        self.refresh()

    def refresh(self) -> None:
        """Takes in what any process wrote since."""
        for record in self._reader.read():
            if record.value is None and not list(record.headers or ()):
                self._letters.pop(record.key, None)
            else:
                self._letters[record.key] = _letter(record)

    def put(self, letters: Sequence[DeadLetter]) -> None:
        """Writes them; returns when the brokers have them all."""
        self._write([(letter.key, letter.value, letter.headers()) for letter in letters])
        self._letters.update({letter.key: letter for letter in letters})

    def clear(self, keys: Collection[bytes]) -> None:
        """Says that these rows are well or gone."""
        self._write([(key, None, []) for key in keys])
        for key in keys:
            self._letters.pop(key, None)

    def _write(self, records: Sequence[tuple[bytes, bytes | None, list[tuple[str, bytes]]]]) -> None:
        if not records:
            return
        with translated(self._kafka):
            producer = self._writer()
            sent = [producer.send(self._topic, value, key, headers, 0) for key, value, headers in records]
            producer.flush(timeout=WRITE_TIMEOUT_S)
            for future in sent:
                future.get(timeout=WRITE_TIMEOUT_S)

    def _writer(self) -> Any:
        if self._producer is None:
            reach(self._kafka)
            self._producer = KafkaProducer(
                **client_options(self._kafka), acks="all", linger_ms=5, compression_type="lz4"
            )
        return self._producer

    def close(self) -> None:
        self._reader.close()
        producer, self._producer = self._producer, None
        discard(producer)


def _letter(record: Any) -> DeadLetter:
    headers = _texts(record.headers or ())
    return DeadLetter(
        key=record.key,
        value=record.value,
        seq=int(headers.get("seq", record.offset)),
        reason=_reason(headers.get("reason", "")),
        message=headers.get("message", ""),
        attempts=int(headers.get("attempts", 1)),
        first_failed=headers.get("first_failed", ""),
        origin=headers.get("origin", ""),
    )


def _reason(text: str) -> Reason:
    return Reason(text) if text in set(Reason) else Reason.MALFORMED


def _texts(headers: Headers) -> dict[str, str]:
    return {name: value.decode(errors="replace") for name, value in headers}
