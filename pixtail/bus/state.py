"""What the listener remembers, in the compacted topic `<prefix>.state`, one record per source.

The record is written in the same transaction as the events it speaks of, so the two can never disagree (docs/adr/0003).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from pixtail.bus.reading import reading
from pixtail.bus.topics import Topics
from pixtail.core.changes import Record, key_bytes
from pixtail.core.errors import SettingError
from pixtail.core.settings import Kafka


def state_record(source: str, state: Mapping[str, Any]) -> Record:
    return Record(key_bytes({"source": source}), orjson.dumps(dict(state)))


def parsed(value: bytes | None) -> dict[str, Any] | None:
    """The JSON object of a record; None if it is none."""
    try:
        body = orjson.loads(value or b"null")
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def state_of(value: bytes | None, topics: Topics) -> dict[str, Any] | None:
    """What a state record says; None for a source that never started. Raises `SettingError` if it is not ours."""
    state = parsed(value)
    if value is not None and state is None:
        raise SettingError(
            f"the state of {topics.source} in topic {topics.state} is unreadable", "Choose another kafka.prefix"
        )
    return state


class StateStore:
    """The last committed state of a source. Thread-safe: each read has its own connection."""

    def __init__(self, kafka: Kafka, topics: Topics) -> None:
        self._kafka = kafka
        self._topics = topics

    def read(self, source: str) -> dict[str, Any] | None:
        """The state, or None for a source that never started. Call it after fencing, never before.

        Raises `BusUnreachable`; `SettingError` if the record is not ours.
        """
        wanted = key_bytes({"source": source})
        with reading(self._kafka, self._topics.state) as reader:
            values = [record.value for record in reader.read() if record.key == wanted]
        return state_of(values[-1] if values else None, self._topics)
