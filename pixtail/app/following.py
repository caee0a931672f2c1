"""Which collection is searched and written, and by which model: the alias decides, and a running process follows it.

A model, its collection and its consumer groups belong together: a *generation*. A process works on one at a time. When the alias names
another one, the process loads that one's model, and goes on where its groups are.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from pixtail.app.wiring import needs
from pixtail.bus.consumer import LANES, ChangeConsumer, Lane
from pixtail.bus.dead_letters import DeadLetters
from pixtail.bus.inspection import forget_groups, lane_group
from pixtail.bus.lookups import LookupTopics, lookup_group
from pixtail.bus.topics import Topics, ensure_topics
from pixtail.core.backoff import Backoff, Stopping
from pixtail.core.errors import ModelError, ModelMismatch, SettingError, StoreUnreachable
from pixtail.core.lifecycle import Service, Stop
from pixtail.core.metrics import Metrics
from pixtail.core.ports import Embedder, Index, PictureSource, VectorStore
from pixtail.core.settings import Model, Settings

LOOK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Generation:
    """A collection and the model whose vectors it holds. `name` as `Index` has it."""

    name: str
    store: VectorStore
    model: Embedder


class Following:
    """A `Service` that keeps `current` the generation that the alias names. Thread-safe."""

    name = "index"

    def __init__(self, settings: Settings, index: Index, metrics: Metrics, first: Generation) -> None:
        self.current = first
        self.index = index
        self._settings = settings
        self._metrics = metrics
        self._moved: list[Callable[[Generation], None]] = []
        self._refused: str | None = None  # a generation whose model cannot be had here
        self._looking = threading.Lock()  # a model is loaded once, however many look meanwhile

    def on_move(self, do: Callable[[Generation], None]) -> None:
        """`do` is called with each new generation, by whoever looks first."""
        self._moved.append(do)

    def ready(self) -> bool:
        """False while the alias names a generation that this process cannot follow: it goes on with the former one."""
        return self._refused is None

    def run(self, stop: Stop) -> None:
        while not stop.wait(LOOK_EVERY_S):
            try:
                self.look()
            except StoreUnreachable as error:
                structlog.get_logger().debug("the alias cannot be looked up", error=str(error))

    def look(self) -> None:
        """Follows the alias if it has moved. Raises `StoreUnreachable`."""
        with self._looking:
            named = self.index.current()
            if named is None or named == self.current.name:
                self._refused = None
            elif named != self._refused:
                self._follow(named)

    def _follow(self, name: str) -> None:
        try:
            generation = open_generation(self._settings, self.index, self._metrics, name)
        except SettingError as error:
            structlog.get_logger().error(
                "the index has moved, and this process cannot follow", to=name, error=str(error)
            )
            self._refused = name
            return
        structlog.get_logger().info("the index has moved", to=name, model=generation.model.name)
        self._refused, self.current = None, generation
        for do in self._moved:
            do(generation)


class FollowingWorker:
    """A `Service`: the worker of the current generation. `make` builds one for each, and is asked again while a server is away."""

    name = "worker"

    def __init__(self, following: Following, make: Callable[[Generation], Service]) -> None:
        self._following = following
        self._make = make
        self._worker: Service | None = None
        self._away = Backoff("Kafka or the store")

    def ready(self) -> bool:
        return self._worker is not None and self._worker.ready()

    def run(self, stop: Stop) -> None:
        until = stop.imply(Stop())

        def moved(_generation: Generation) -> None:
            until.set()

        self._following.on_move(moved)
        while not stop:
            until = stop.imply(Stop())
            self._worker = None
            with suppress(Stopping):
                self._worker = self._away.call(lambda: self._make(self._following.current), until)
                self._worker.run(until)


def open_generation(settings: Settings, index: Index, metrics: Metrics, name: str | None) -> Generation:
    """The generation `name` with its model loaded; None: the first one, by the settings' model.

    Raises `ModelError`, `ModelMismatch`, `DimensionMismatch`, `StoreUnreachable`.
    """
    with needs("encode"):
        from sink.measured import MeasuredStore
    model = index_model(settings, index, name)
    name = model.fingerprint if name is None else name
    store = MeasuredStore(index.store(name), metrics)
    store.prepare(model.dimension, model.fingerprint, how_to_load(settings.model))
    metrics.model_info.clear()
    metrics.model_info.labels(model.name, model.fingerprint, str(model.dimension)).set(1)
    return Generation(name, store, model)


def worker_of(
    settings: Settings,
    topics: Topics,
    pictures: PictureSource,
    metrics: Metrics,
    generation: Generation,
    **how: Any,
) -> Service:
    """The worker that keeps a generation true, in consumer groups of its own. An empty collection is filled from the topic's start: whoever
    loses a collection, or removes it, has it made anew. `how`: further arguments of `Worker`."""
    with needs("encode"):
        from encoder.worker import Worker
    if generation.store.count() == 0:
        forget_groups(settings.kafka, [lane_group(topics, name, generation.name) for name in LANES])

    def lane(name: Lane) -> ChangeConsumer:
        return ChangeConsumer(settings.kafka, topics.changes, lane_group(topics, name, generation.name), name)

    return Worker(
        topic=topics.changes,
        live=lane("live"),
        backlog=lane("backlog"),
        dead_letters=DeadLetters(settings.kafka, topics),
        store=generation.store,
        pictures=pictures,
        embedder=generation.model,
        table=settings.table,
        model=settings.model,
        metrics=metrics,
        lookups=lookup_topics(settings, topics, generation.name),
        **how,
    )


def lookup_topics(settings: Settings, topics: Topics, generation: str) -> LookupTopics | None:
    """Their topics, which are made if they are not there yet: they fill when the listener comes."""
    if not settings.table.lookups:
        return None
    tables = {Topics(topics.prefix, one.source): one.table.name for one in settings.of_lookups}
    for of_lookup in tables:
        ensure_topics(settings.kafka, of_lookup, dead_letters=False)
    meaning = hashlib.sha256(repr(settings.table.lookups).encode()).hexdigest()
    named = {of_lookup.changes: name for of_lookup, name in tables.items()}
    return LookupTopics(settings.kafka, named, lookup_group(topics, generation), meaning)


def index_model(settings: Settings, index: Index, name: str | None) -> Embedder:
    """The model of generation `name`, wherever it can be had: as the collection remembers it, or as the settings say.

    The index decides, not the settings: its vectors can be compared with no other model's. Raises `ModelError`, `ModelMismatch`.
    """
    with needs("encode"):
        from encoder.clip import load
        from sink.collection import fingerprint_of, require_model
    wanted = fingerprint_of(name or "")
    failure: SettingError | None = None
    for model in _candidates(settings.model, index.made_by(name) if name else {}):
        try:
            loaded = load(model, settings.pictures)
            if wanted:
                require_model(name, loaded.fingerprint, settings.qdrant.collection, "the index")
        except (ModelError, ModelMismatch) as error:
            failure = failure or error
            continue
        if model != settings.model:
            structlog.get_logger().warning(
                "the index has another model than the settings, until `pixtail reindex`",
                index=model.name,
                settings=settings.model.name,
            )
        return loaded
    assert failure is not None, "the settings name a model"
    raise failure


def _candidates(by_settings: Model, made_by: Mapping[str, str]) -> Iterator[Model]:
    remembered = by_settings.model_copy(update={k: made_by[k] for k in ("name", "dtype") if k in made_by})
    if how_to_load(remembered) != how_to_load(by_settings):
        yield remembered
    yield by_settings


def how_to_load(model: Model) -> dict[str, str]:
    """What is kept with a collection, for other processes to load its model."""
    return {"name": name_elsewhere(model.name), "dtype": model.dtype}


def name_elsewhere(model: str) -> str:
    """A model as other processes find it too: a folder by its full path."""
    folder = Path(model).expanduser()
    return str(folder.resolve()) if folder.is_dir() else model
