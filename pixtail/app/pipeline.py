"""What the topic tells about the pipeline, for the statistics page: lag and dead letters."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
import structlog

from pixtail.bus.dead_letters import DeadLetter, DeadLetters
from pixtail.bus.inspection import worker_lag
from pixtail.bus.topics import Topics
from pixtail.core.errors import ServerUnreachable
from pixtail.core.lifecycle import Stop
from pixtail.core.settings import Settings

REFRESH_S = 0.5
LAG_EVERY_S = 5.0
RETRY_S = 2.0


class PipelineWatch:
    """Keeps the newest facts at hand, so that a request never waits for Kafka. `facts` and `failures` are thread-safe."""

    name = "pipeline-watch"

    def __init__(self, settings: Settings, generation: Callable[[], str]) -> None:
        self._settings = settings
        self._generation = generation
        self._topics = Topics(settings.kafka.prefix, settings.source)
        self._lag: int | None = None
        self._failures: tuple[dict[str, Any], ...] = ()
        self._reachable = False

    def facts(self) -> Mapping[str, Any]:
        """`lag_records` is None while unknown."""
        return {
            "lag_records": self._lag,
            "dead_letters": len(self._failures),
            "kafka": self._reachable,
            "generation": self._generation(),
        }

    def failures(self) -> Sequence[Mapping[str, Any]]:
        return self._failures

    def ready(self) -> bool:
        return True  # searching works without Kafka

    def run(self, stop: Stop) -> None:
        """Reads on until `stop`; while Kafka is away the last facts stay, and `kafka` says so."""
        while not stop:
            try:
                self._watch(stop)
            except ServerUnreachable as error:
                if self._reachable:
                    structlog.get_logger().warning("pipeline facts are old", error=str(error))
                self._reachable = False
                stop.wait(RETRY_S)

    def _watch(self, stop: Stop) -> None:
        letters = DeadLetters(self._settings.kafka, self._topics)
        next_lag = 0.0
        try:
            letters.open()
            while not stop:
                letters.refresh()
                self._failures = tuple(describe(letter) for letter in letters.letters.values())
                if time.monotonic() >= next_lag:
                    self._lag = self._read_lag()
                    next_lag = time.monotonic() + LAG_EVERY_S
                self._reachable = True
                stop.wait(REFRESH_S)
        finally:
            letters.close()

    def _read_lag(self) -> int | None:
        return worker_lag(self._settings.kafka, self._topics, self._generation())


def describe(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter as people and programs read it."""
    try:
        key = orjson.loads(letter.key)
    except orjson.JSONDecodeError:
        key = letter.key.decode(errors="replace")
    return {
        "key": key,
        "reason": letter.reason.value,
        "message": letter.message,
        "attempts": letter.attempts,
        "first_failed": letter.first_failed,
        "origin": letter.origin,
    }
