"""The way of a window's rows: plan, fetch and decode, encode, apply. Every write has its row's seq, so their order does not matter."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TYPE_CHECKING, TypeAlias

from encoder.held_store import HeldStore
from encoder.loading import Loaded, Loader
from encoder.mapping import wanted
from encoder.outage import Outage
from encoder.plan import Decision, Encode, Nothing, PayloadOnly, Remove, decide
from encoder.rows import Results, Row
from pixtail.core.changes import Row as RowValues
from pixtail.core.errors import PictureError
from pixtail.core.metrics import Metrics
from pixtail.core.points import Delete, Payload, PictureFacts, PointId, SetPayload, Sync, Upsert, Version, now_text
from pixtail.core.ports import Embedder, Picture
from pixtail.core.settings import Model, Table

if TYPE_CHECKING:
    from pixtail.core.points import Vector

BATCHES_AHEAD = 4

Loading: TypeAlias = dict[Future[Loaded], Row]
Planned: TypeAlias = tuple[Row, Decision]


class Stages:
    """Brings rows into the index. For one thread, which the loader's threads serve."""

    def __init__(
        self,
        *,
        store: HeldStore,
        loader: Loader,
        embedder: Embedder,
        table: Table,
        model: Model,
        metrics: Metrics,
        outage: Outage,
        names: Callable[[RowValues], Payload],
    ) -> None:
        self._store = store
        self._loader = loader
        self._embedder = embedder
        self._table = table
        self._batch = model.batch
        self._max_wait_s = max(model.max_wait_ms, 1) / 1000
        self._metrics = metrics
        self._outage = outage
        self._names = names

    def work(self, rows: Sequence[Row], results: Results, between: Callable[[], None] = lambda: None) -> None:
        """Does what the rows ask for and notes in `results` what became of each. `between` is called whenever a batch is done, or has not
        come together yet: there is time for something that must not wait.

        What needs no picture is written at once; pictures are encoded and written batch by batch as they come in, so that a slow one does
        not keep its mates waiting.
        """
        plans = self._plan(rows, results)
        waiting = deque((row, plan) for row, plan in plans if isinstance(plan, Encode))
        results.pictures += len(waiting)
        loading: Loading = {}
        ready: list[Loaded] = []
        self._load(waiting, loading, ready)
        self._write_plain(plans, loading, results)
        while waiting or loading or ready:
            between()
            self._load(waiting, loading, ready)
            came = self._arrived(loading, results)
            ready += [loaded for loaded in came if loaded.picture is not None]
            self._write_plain(_moved(came), loading, results)
            if len(ready) >= self._batch or not came:
                batch, ready = ready[: self._batch], ready[self._batch :]
                self._encode(batch, results)

    def _plan(self, rows: Sequence[Row], results: Results) -> list[Planned]:
        stored = self._store.versions([row.id for row in rows])
        plans: list[Planned] = []
        for row in rows:
            try:
                plans.append((row, self._decide(row, stored)))
            except PictureError as error:
                results.fail(row, error)
        return plans

    def _decide(self, row: Row, stored: Mapping[PointId, Version]) -> Decision:
        asked = wanted(row.entry, self._table, self._names)
        return decide(row.seq, asked, stored.get(row.id), self._embedder.fingerprint)

    def _load(self, waiting: deque[tuple[Row, Encode]], loading: Loading, ready: Sequence[Loaded]) -> None:
        """As far ahead as keeps the model busy; what is decoded takes memory."""
        while waiting and len(loading) + len(ready) < self._batch * BATCHES_AHEAD:
            row, plan = waiting.popleft()
            loading[self._loader.submit(row, plan)] = row

    def _arrived(self, loading: Loading, results: Results) -> list[Loaded]:
        """The pictures that came in by now; waits a moment for at least one. Empty when none came: time for what is ready."""
        finished, _ = wait(loading, timeout=self._max_wait_s, return_when=FIRST_COMPLETED)
        came: list[Loaded] = []
        for future in finished:
            row = loading.pop(future)
            try:
                came.append(future.result())
                self._outage.record(False)
            except PictureError as error:
                results.fail(row, error)
                self._outage.record(error.reason.transient)
        return came

    def _write_plain(self, plans: Iterable[Planned], loading: Loading, results: Results) -> None:
        """All that needs no model: columns, deletes, and nothing at all."""
        deletes, updates = [], []
        for row, plan in plans:
            match plan:
                case Nothing(why):
                    results.finish(row, why)
                case Remove():
                    deletes.append((row, plan))
                case PayloadOnly():
                    updates.append((row, plan))
        self._delete(deletes, results)
        self._set_payloads(updates, loading, results)

    def _delete(self, removals: Sequence[tuple[Row, Remove]], results: Results) -> None:
        stale = self._store.apply([Delete(row.id, row.seq) for row, _ in removals]).stale
        for row, plan in removals:
            results.finish(row, "stale" if row.id in stale else plan.why)

    def _set_payloads(self, updates: Sequence[tuple[Row, PayloadOnly]], loading: Loading, results: Results) -> None:
        """A point that vanished since it was looked up, or is of another version, takes no columns, and the store keeps silent about it: it
        is encoded after all."""
        writes = [
            SetPayload(
                row.id, plan.wanted.payload, self._sync(row, plan.wanted.ref, plan.stored.facts), plan.stored.seq
            )
            for row, plan in updates
        ]
        stale = self._store.apply(writes).stale
        now = self._store.versions([row.id for row, _ in updates])
        for row, plan in updates:
            found = now.get(row.id)
            if row.id in stale or (found is not None and found.seq > row.seq):
                results.finish(row, "stale")
            elif isinstance(found, Sync) and found.seq == row.seq:
                results.finish(row, "payload_only")
            else:
                loading[self._loader.submit(row, Encode(plan.wanted, None))] = row

    def _encode(self, batch: Sequence[Loaded], results: Results) -> None:
        if not batch:
            return
        self._metrics.batch_images.observe(len(batch))
        with self._metrics.stage.labels("encode").time():
            vectors = encode_each(self._embedder, [_picture(loaded) for loaded in batch])
        encoded: list[Row] = []
        writes: list[Upsert] = []
        for loaded, vector in zip(batch, vectors, strict=True):
            if isinstance(vector, PictureError):
                results.fail(loaded.row, vector)
                continue
            sync = self._sync(loaded.row, loaded.plan.wanted.ref, _picture(loaded).facts)
            encoded.append(loaded.row)
            writes.append(Upsert(loaded.row.id, vector, loaded.plan.wanted.payload, sync))
        stale = self._store.apply(writes).stale
        for row in encoded:
            results.finish(row, "stale" if row.id in stale else "encoded")

    def _sync(self, row: Row, ref: str, facts: PictureFacts) -> Sync:
        return Sync(row.seq, ref, self._embedder.fingerprint, facts, now_text())


def _moved(loaded: Iterable[Loaded]) -> list[Planned]:
    """Those whose stored vector was made of the same bytes: only the path has changed."""
    return [
        (item.row, PayloadOnly(item.plan.wanted, item.plan.stored))
        for item in loaded
        if item.picture is None and item.plan.stored is not None
    ]


def _picture(loaded: Loaded) -> Picture:
    assert loaded.picture is not None
    return loaded.picture


def encode_each(embedder: Embedder, pictures: Sequence[Picture]) -> list[Vector | PictureError]:
    """A vector or an error per picture. A batch that fails for one picture's sake is halved until that one stands alone."""
    try:
        return list(embedder.encode(pictures))
    except PictureError as error:
        if len(pictures) == 1:
            return [error]
        half = len(pictures) // 2
        return encode_each(embedder, pictures[:half]) + encode_each(embedder, pictures[half:])
