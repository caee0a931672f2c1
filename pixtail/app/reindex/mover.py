"""Moves the index to another model, by reading the topic again into a collection beside the one that is searched.

    new collection → replay → catch up → comparison with MySQL, which mends → swap of the alias

How far it is stands in the new collection and in its consumer groups, so it may be killed at any point and goes on where it was. Searches
go on in the former collection until the alias moves, and the former collection stays for `rollback`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

import structlog

from pixtail.app.following import Generation, how_to_load, worker_of
from pixtail.app.jobs import Show
from pixtail.app.reindex.failures import failures
from pixtail.app.reindex.planning import Options, Plan, plan, require_sense
from pixtail.app.verify.report import Report
from pixtail.app.wiring import embedder
from pixtail.bus.consumer import LANES
from pixtail.bus.inspection import forget_groups, groups_reached, lane_ends, lane_group, worker_lag
from pixtail.bus.lookups import lookup_group
from pixtail.bus.topics import Topics, ensure_topics
from pixtail.core.backoff import Stopping
from pixtail.core.errors import SettingError
from pixtail.core.lifecycle import Service, Stop
from pixtail.core.metrics import Metrics
from pixtail.core.ports import Embedder, Index, PictureSource
from pixtail.core.settings import Settings
from sink.gate import Facts, objections, recall

LOOK_EVERY_S = 0.5
LOOK_AT_LIMIT_EVERY_S = 0.05
WINDOWS_BEHIND = 4
"""So many batches behind the topic's end count as near it. What is its end then has to be passed, and no later one: new changes come all
the time."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`finished`: the new collection has all there is. `records`: what a dry run would read of the topic.

    `completed`: rows that the topic had lost, and that came from MySQL. `objections`: why it was not swapped. `failures`: pictures that
    could not be had. `swap_s`: how long the alias took to move.
    """

    generation: str
    former: str | None
    points: int
    finished: bool = False
    swapped: bool = False
    records: int = 0
    completed: int = 0
    objections: tuple[str, ...] = ()
    failures: tuple[dict[str, Any], ...] = ()
    swap_s: float | None = None
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


Verify: TypeAlias = Callable[[Generation, Show, Stop], Report]
"""Compares the table with a generation that has a worker, and repairs."""


@dataclass(frozen=True, slots=True)
class Judged:
    objections: tuple[str, ...]
    completed: int


class Reindex:
    """One move of the index to another model. For one thread; the stop of `run` pauses it: the same command goes on."""

    def __init__(
        self,
        settings: Settings,
        index: Index,
        pictures: PictureSource,
        options: Options,
        *,
        verify: Verify,
        show: Show,
        model: Embedder | None = None,
    ) -> None:
        self._settings = _with_model(settings, options)
        self._index = index
        self._pictures = pictures
        self._options = options
        self._verify = verify
        self._show = show
        self._model = model
        self._topics = Topics(settings.kafka.prefix, settings.source)
        self._about = 0

    def run(self, stop: Stop) -> Outcome:
        """Raises `UsageError` if there is nothing to do, `ModelError`, `SettingError`, `StoreUnreachable`, `BusUnreachable`."""
        begun = time.monotonic()
        require_sense(self._options)
        _require_alias(self._index, self._settings)
        ensure_topics(self._settings.kafka, self._topics)
        model = self._model or embedder(self._settings)
        index = self._index
        todo = plan(model.fingerprint, index.current(), index.previous(), index.generations(), self._options)
        store = index.store(todo.generation)
        if self._options.dry_run:
            behind = worker_lag(self._settings.kafka, self._topics, todo.generation) or 0
            return Outcome(todo.generation, todo.former, store.count(), records=behind)
        for generation in todo.obsolete:
            self._drop(generation)
        store.prepare(model.dimension, model.fingerprint, how_to_load(self._settings.model))
        groups = f"{todo.generation}.fill" if self._options.only_missing else todo.generation
        log = structlog.get_logger().bind(to=todo.generation, model=model.name)
        log.info("reindex begun", former=todo.former, points=store.count())
        outcome = self._move(todo, Generation(groups, store, model), stop)
        log.info("reindex ended", swapped=outcome.swapped, points=outcome.points, objections=outcome.objections)
        return replace(outcome, seconds=round(time.monotonic() - begun, 3))

    def _move(self, todo: Plan, new: Generation, stop: Stop) -> Outcome:
        how = {} if self._options.concurrency is None else {"fetchers": self._options.concurrency}
        worker = worker_of(self._settings, self._topics, self._pictures, Metrics(), new, **how)
        beside = todo.generation != todo.former  # nobody searches it yet
        if beside:
            new.store.begin_bulk()
        with at_work(worker, stop) as failed:
            finished = self._catch_up(new, stop, failed)
            while finished and beside and not stop and not new.store.end_bulk():
                self._show("Building the index of the vectors", 0, 0)
                stop.wait(LOOK_EVERY_S)
            judged = None
            with suppress(Stopping):
                judged = self._judge(todo, new, stop) if finished and todo.swaps else None
            against = () if judged is None else judged.objections
            swap_s = None
            if judged is not None and not stop and not failed and (not against or self._options.accept):
                swap_s = self._swap(todo)
        if finished and self._options.only_missing:
            self._forget(new.name)
        return Outcome(
            generation=todo.generation,
            former=todo.former,
            points=new.store.count(),
            finished=finished and not stop,
            swapped=swap_s is not None,
            completed=0 if judged is None else judged.completed,
            objections=against,
            failures=tuple(failures(self._settings, new.store)),
            swap_s=swap_s,
        )

    def _catch_up(self, new: Generation, stop: Stop, failed: Sequence[BaseException]) -> bool:
        """Waits until the workers of the new generation are at the topic's end. False: told to stop, or the limit is reached."""
        kafka, limit = self._settings.kafka, self._options.limit
        ends = None
        while not stop and not failed:
            if limit is not None and new.store.count() >= limit:
                return False
            behind = worker_lag(kafka, self._topics, new.name) or 0
            self._about = max(self._about, behind)
            self._show("Reading the topic", self._about - behind, self._about)
            if ends is None and behind <= WINDOWS_BEHIND * self._settings.model.batch:
                ends = lane_ends(kafka, self._topics, new.name)
            if ends is not None and groups_reached(kafka, ends):
                return True
            stop.wait(LOOK_EVERY_S if limit is None else LOOK_AT_LIMIT_EVERY_S)
        return False

    def _judge(self, todo: Plan, new: Generation, stop: Stop) -> Judged:
        """The new collection is compared with MySQL while its worker goes on. What the topic has lost is sent again."""
        report = self._verify(new, self._show, stop)
        if report.repaired:
            structlog.get_logger().warning("what the topic had lost was read from MySQL", rows=report.repaired)
        sampled, found = recall(new.store)
        facts = Facts(
            former=0 if todo.former is None else self._index.store(todo.former).count(),
            points=new.store.count(),
            failed=report.failed,
            drift=report.by_kind(),
            sampled=sampled,
            found=found,
        )
        return Judged((*report.notes, *objections(facts)), report.repaired)

    def _swap(self, todo: Plan) -> float:
        """Seconds. Of the former collections one is kept."""
        before = self._index.previous()
        begun = time.perf_counter()
        self._index.swap(todo.generation)
        seconds = time.perf_counter() - begun
        if before is not None and before not in (todo.generation, todo.former):
            self._drop(before)
        return seconds

    def _drop(self, generation: str) -> None:
        self._index.drop(generation)
        self._forget(generation)

    def _forget(self, groups: str) -> None:
        lanes = [lane_group(self._topics, lane, groups) for lane in LANES]
        forget_groups(self._settings.kafka, [*lanes, lookup_group(self._topics, groups)])


@contextmanager
def at_work(service: Service, stop: Stop) -> Iterator[Sequence[BaseException]]:
    """Runs the service in a thread until the block is left; raises what it raised. The list fills when it fails."""
    failures: list[BaseException] = []
    until = stop.imply(Stop())

    def work() -> None:
        try:
            service.run(until)
        except BaseException as error:  # noqa: BLE001 - raised again below, in the caller's thread
            failures.append(error)

    thread = threading.Thread(target=work, name=service.name)
    thread.start()
    try:
        yield failures
    finally:
        until.set()
        thread.join()
    if failures:
        raise failures[0]


def _with_model(settings: Settings, options: Options) -> Settings:
    changed = {k: v for k, v in (("name", options.model), ("batch", options.batch)) if v is not None}
    return settings.model_copy(update={"model": settings.model.model_copy(update=changed)})


def _require_alias(index: Index, settings: Settings) -> None:
    if "" in index.generations():
        raise SettingError(
            f"{settings.qdrant.collection} is a collection and no alias: no other one can take its place",
            "Set qdrant.collection to a new name, and `pixtail run` builds it; or delete the collection first",
        )
