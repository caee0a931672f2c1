"""The worker: changes of the topic to points of the index. What has just been changed overtakes what was there before.

    poll → collapse → plan → fetch, decode → encode → apply → names → dead letters → finish

Offsets are saved last, and now and then; writes are idempotent. So a crash anywhere costs nothing but the same work again. While Kafka, the
store or the picture server is away, the worker holds what it has: nothing is lost, nothing is given up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from encoder.forgetting import Forgetting
from encoder.gauges import Gauges
from encoder.held_store import HeldStore
from encoder.letters import filing_key, letter, malformed, outdated_by, to_clear, to_file
from encoder.loading import FETCHERS, Loader
from encoder.lookups import LookupChanges, Lookups
from encoder.outage import Outage
from encoder.plan import Collapsed, collapse
from encoder.rows import Results, Row
from encoder.stages import Stages
from pixtail.bus.consumer import Consumed
from pixtail.bus.dead_letters import DeadLetter
from pixtail.core.backoff import Backoff, Stopping
from pixtail.core.changes import Malformed
from pixtail.core.errors import BusUnreachable, PictureError, PixtailError, Reason
from pixtail.core.lifecycle import Stop
from pixtail.core.metrics import Metrics
from pixtail.core.points import Delete, Truncate, now_text, point_id
from pixtail.core.ports import Embedder, PictureSource, VectorStore
from pixtail.core.settings import Model, Table

IDLE_POLL_S = 0.5  # also how long a stop may go unnoticed
BATCHES_PER_WINDOW = 4
# Of records that need no picture. If they suddenly do, and each takes as long as it may (10 s, 16 at a time), the window still ends well
# before the consumer's max.poll.interval.
LARGEST_WINDOW = 256
# Well below the consumer's max.poll.interval: a worker that held on for longer would lose its partitions and start over for ever.
OUTAGE_LIMIT_S = 300.0


class Changes(Protocol):
    """What the worker needs of `pixtail.bus.consumer.ChangeConsumer`."""

    def open(self) -> None: ...
    def poll(self, timeout_s: float, max_records: int) -> list[Consumed]: ...
    def finish(self, next_offsets: Mapping[int, int]) -> None: ...
    def lag(self) -> dict[int, int]: ...
    def ends(self) -> dict[int, int]: ...
    def committed(self) -> dict[int, int]: ...
    def close(self) -> None: ...


class Letters(Protocol):
    """What the worker needs of `pixtail.bus.dead_letters.DeadLetters`."""

    @property
    def letters(self) -> Mapping[bytes, DeadLetter]: ...
    def open(self) -> None: ...
    def refresh(self) -> None: ...
    def put(self, letters: Sequence[DeadLetter]) -> None: ...
    def clear(self, keys: Collection[bytes]) -> None: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class Lane:
    """What one of the two reads, and how its rows are worked on. `room`: the most records that its next window may have."""

    consumer: Changes
    store: HeldStore
    stages: Stages
    stop: Stop
    room: int


class Worker:
    """A `Service`. `live` goes first, `backlog` takes what capacity is left; None: `live` has everything.

    Opens and closes consumers and dead letters itself; store, pictures and embedder are the caller's, who may share them.

    Raises from `run` what no waiting mends: a `SettingError` (the vectors do not fit the collection, …) or a fault of this program.
    """

    name = "worker"

    def __init__(
        self,
        *,
        topic: str,
        live: Changes,
        backlog: Changes | None = None,
        dead_letters: Letters,
        store: VectorStore,
        pictures: PictureSource,
        embedder: Embedder,
        table: Table,
        model: Model,
        metrics: Metrics,
        lookups: LookupChanges | None = None,
        outage_limit_s: float = OUTAGE_LIMIT_S,
        fetchers: int = FETCHERS,
    ) -> None:
        self._topic = topic
        self._consumers = [live] if backlog is None else [live, backlog]
        self._dead = dead_letters
        self._store = store
        self._pictures = pictures
        self._embedder = embedder
        self._table = table
        self._model = model
        self._metrics = metrics
        self._outage_limit_s = outage_limit_s
        self._fetchers = fetchers
        self._lookups = Lookups(table, lookups)
        self._outage = Outage()
        self._gauges = Gauges(metrics, store)
        self._forgetting = Forgetting(store, self._consumers)
        self._waits = {
            "kafka": Backoff("Kafka"),
            "store": Backoff("the store"),
            "pictures": Backoff("the pictures' server", first_s=0.5, longest_s=30.0),
        }
        self._open = False

    def ready(self) -> bool:
        """True while it is connected and holds for nothing."""
        return self._open and not any(wait.waiting for wait in self._waits.values())

    def run(self, stop: Stop) -> None:
        """Works until `stop`; finishes the window in hand, commits it, and leaves the group."""
        loaders = [Loader(self._pictures, self._embedder, self._metrics, self._fetchers) for _ in self._consumers]
        try:
            with suppress(Stopping):
                self._work(loaders, stop)
        finally:
            for loader in loaders:
                loader.close()

    def _work(self, loaders: Sequence[Loader], stop: Stop) -> None:
        store = HeldStore(self._store, self._metrics, self._waits["store"], stop)
        store.prepare(self._embedder.dimension, self._embedder.fingerprint)
        lanes = [
            Lane(consumer, store, self._stages(store, loader), stop, self._few)
            for consumer, loader in zip(self._consumers, loaders, strict=True)
        ]
        while not stop:
            try:
                self._session(lanes, stop)
            except BusUnreachable as error:  # what is in hand is dropped: it comes again from the committed offsets
                self._waits["kafka"].failed(error, stop)
            finally:
                self._close()

    def _stages(self, store: HeldStore, loader: Loader) -> Stages:
        return Stages(
            store=store,
            loader=loader,
            embedder=self._embedder,
            table=self._table,
            model=self._model,
            metrics=self._metrics,
            outage=self._outage,
            names=self._lookups.names,
        )

    def _session(self, lanes: Sequence[Lane], stop: Stop) -> None:
        """Works for as long as Kafka answers. The backlog takes a window at a time, and what is live comes in between its batches."""
        for consumer in self._consumers:
            consumer.open()
        self._dead.open()
        self._lookups.open()  # before the first window: what was known is not to come late
        self._open = True
        structlog.get_logger().info("worker started", topic=self._topic, model=self._embedder.fingerprint)
        live, *others = lanes
        behind = False  # is there more of the backlog?
        while not stop:
            self._lookups.tick(live.store)
            self._take(live, self._poll(live) if behind or self._lookups.behind else self._gather(live))
            for backlog in others:
                received = self._poll(backlog)
                behind = bool(received)
                self._take(backlog, received, lambda: self._take(live, self._poll(live)))
            self._forgetting.tick()
            self._show()

    def _take(self, lane: Lane, received: list[Consumed], between: Callable[[], None] = lambda: None) -> None:
        self._waits["kafka"].recovered()
        if received:
            self._window(lane, received, between)

    def _close(self) -> None:
        self._open = False
        for close in [*(consumer.close for consumer in self._consumers), self._dead.close, self._lookups.close]:
            with suppress(Exception):  # leaving is a courtesy; a broker that is gone will notice by itself
                close()

    def _poll(self, lane: Lane) -> list[Consumed]:
        """What is there."""
        return lane.consumer.poll(0, lane.room)

    def _gather(self, lane: Lane) -> list[Consumed]:
        """What is there; after the first record, waits up to `max_wait_ms` for a batch to fill."""
        received = lane.consumer.poll(IDLE_POLL_S, lane.room)
        deadline = time.monotonic() + self._model.max_wait_ms / 1000
        while received and len(received) < self._model.batch and not lane.stop:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            received += lane.consumer.poll(left, lane.room - len(received))
        return received

    @property
    def _few(self) -> int:
        return self._model.batch * BATCHES_PER_WINDOW

    def _window(self, lane: Lane, received: list[Consumed], between: Callable[[], None]) -> None:
        self._dead.refresh()
        window, begun = collapse(received), self._lookups.turn
        if window.truncate_seq:  # before the plans: no point that it removes may count as stored
            lane.store.apply([Truncate(window.truncate_seq)])
        results = Results(self._metrics)
        lane.stages.work(self._rows(window, results), results, between)
        self._hold_outage(lane, results)
        self._remove_failed(lane.store, results)
        self._lookups.mend(lane.store, results.done, begun)
        self._settle(window, results)
        lane.consumer.finish(_next_offsets(received))
        lane.room = self._few if results.pictures else max(self._few, min(2 * lane.room, LARGEST_WINDOW))

    def _rows(self, window: Collapsed[Consumed], results: Results) -> list[Row]:
        """The rows to work on. One whose newer version has failed is stale: its dead letter must not be overwritten."""
        rows: list[Row] = []
        for received in window.newest:
            entry = received.entry
            assert not isinstance(entry, Malformed)
            row = Row(point_id(self._table.name, entry.key), filing_key(received, self._topic), entry, received)
            if outdated_by(self._dead.letters, row.key, row.seq):
                results.finish(row, "stale")
            else:
                rows.append(row)
        return rows

    def _hold_outage(self, lane: Lane, results: Results) -> None:
        """While most pictures fail for reasons that pass by themselves, tries those again instead of writing a dead letter for each."""
        wait = self._waits["pictures"]
        deadline = time.monotonic() + self._outage_limit_s
        progress = False  # a round in which some got through may have begun before the outage ended: the rest deserves one more
        while (self._outage or progress) and time.monotonic() < deadline and (failed := results.transient()):
            wait.failed(_anonymous(failed[0].error), lane.stop)
            lane.stages.work(results.take_transient(), results)
            progress = len(results.transient()) < len(failed)
        wait.recovered()

    def _remove_failed(self, store: HeldStore, results: Results) -> None:
        """No point may go on showing a picture that its row no longer has. A malformed record says nothing about the picture."""
        pictures = [f.row for f in results.failed if f.error.reason is not Reason.MALFORMED]
        results.supersede(store.apply([Delete(row.id, row.seq) for row in pictures]).stale)
        self._metrics.images.labels("failed").inc(len(results.failed))

    def _settle(self, window: Collapsed[Consumed], results: Results) -> None:
        """Writes and clears dead letters."""
        open_letters, now = self._dead.letters, now_text()
        unreadable = to_file(window.malformed, self._topic, open_letters, results.done)
        errors = [(f.row.received, f.error) for f in results.failed] + [(r, malformed(r)) for r in unreadable]
        letters = [
            letter(r, self._topic, error, open_letters.get(filing_key(r, self._topic)), now) for r, error in errors
        ]
        cleared = to_clear(open_letters, results.done, window.truncate_seq) - {one.key for one in letters}
        if letters:
            self._dead.put(letters)
        if cleared:
            self._dead.clear(cleared)
        for one in letters:
            self._metrics.dlq.labels(one.reason.value).inc()
            structlog.get_logger().debug("picture failed", origin=one.origin, reason=one.reason.value)

    def _show(self) -> None:
        if not self._gauges.due():
            return
        lags = [consumer.lag() for consumer in self._consumers]
        self._gauges.lag({p: max(lag.get(p, 0) for lag in lags) for p in set().union(*lags)})
        self._gauges.letters(self._dead.letters)
        self._gauges.points()


def _next_offsets(received: Iterable[Consumed]) -> dict[int, int]:
    offsets: dict[int, int] = {}
    for record in received:
        offsets[record.partition] = max(offsets.get(record.partition, 0), record.offset + 1)
    return offsets


def _anonymous(error: PictureError) -> PixtailError:
    """For the log: the error itself names the picture, which is what stands in the row."""
    return PixtailError(f"most pictures fail now: {error.reason.value}", "Their dead letters will say which")
