"""A verification: compare, look again at what differs until it cannot be on its way any more, repair.

While it compares, rows change and the pipeline is behind by a moment. So what differs is a candidate only. To look again at it: note its
version in the store, read its row, wait until the pipeline has passed that moment, and look at its point. If the point is still of the
noted version, no change of the row came after the one that was read; what differs then, stays. If not, the row has changed once more, and
everything is done again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeAlias, TypeVar

from encoder.lookups import Lookups
from pixtail.app.jobs import Show
from pixtail.app.verify import expected
from pixtail.app.verify.options import Options
from pixtail.app.verify.report import Difference, Report
from pixtail.core.backoff import Stopping
from pixtail.core.changes import Row
from pixtail.core.errors import PictureError, UsageError
from pixtail.core.lifecycle import Stop
from pixtail.core.points import Delete, PointId, SetPayload, StoredPoint, now_text
from pixtail.core.ports import VectorStore
from pixtail.core.settings import Table
from sink.sorting import in_id_order
from sink.verify import DRIFT, Asked, KeyValues, Verdict, judge, side_by_side

MOST_CANDIDATES = 100_000
BATCH = 500
LOOKS = 4  # at a row that changes all the while
SHOW_EVERY = 1000

T = TypeVar("T")
Seen: TypeAlias = tuple[str, int] | None
"""What the store knows of an id: a point or a tombstone, and of which seq; None: nothing."""


class Rows(Protocol):
    """What it needs of `ingest.tablerows.TableRows`. `E` is whatever `end` returns and the pipeline understands."""

    def about(self) -> int: ...
    def all(self) -> Iterator[Row]: ...
    def having(self, keys: Sequence[KeyValues]) -> Sequence[Row]: ...
    def end(self) -> Any: ...


class Passing(Protocol):
    """What it needs of `pixtail.app.verify.pipeline.Pipeline`."""

    def failing(self) -> frozenset[PointId]: ...
    def wait(self, end: Any) -> str: ...
    def send_again(self, keys: Sequence[KeyValues]) -> str: ...


class Verifier:
    """One verification of one table. `model` is the fingerprint that the store's points should have. For one thread."""

    def __init__(
        self,
        *,
        table: Table,
        rows: Rows,
        store: VectorStore,
        model: str,
        pipeline: Passing,
        show: Show,
        stop: Stop,
        lookups: Lookups | None = None,
    ) -> None:
        self._table = table
        self._rows = rows
        self._store = store
        self._model = model
        self._pipeline = pipeline
        self._show = show
        self._stop = stop
        self._lookups = lookups or Lookups(table, None)
        self._failing: frozenset[PointId] = frozenset()
        self._report = Report(at=now_text())

    def run(self, options: Options) -> Report:
        """Call it once. Raises `ServerUnreachable`, `SettingError`; `Stopping` when it is time to stop."""
        began, report = time.monotonic(), self._report
        self._failing = self._pipeline.failing()
        found = self._settled(self._compared())
        report.note_left(found)
        if options.repair and found and report.settled:
            changing = report.changing
            self._repair(found)
            left = self._settled(found)
            report.note_left(left)
            report.repaired = len(found) - len(left) - (report.changing - changing)
        report.took_s = time.monotonic() - began
        return report

    # Comparing

    def _compared(self) -> list[Difference]:
        """The candidates."""
        report, found = self._report, list[Difference]()
        rows = in_id_order(self._every_row("Comparing"))
        for number, (point_id, asked, point) in enumerate(side_by_side(rows, self._store.scan())):
            if number % SHOW_EVERY == 0 and self._stop:
                raise Stopping
            report.rows += asked is not None
            report.points += point is not None
            verdict = judge(asked, point, self._model, failing=point_id in self._failing)
            if verdict not in DRIFT:
                report.note_harmless(verdict)
            elif len(found) < MOST_CANDIDATES:
                found.append(self._difference(point_id, verdict, asked, point))
            else:
                report.beyond[verdict] += 1
        if report.beyond.total():
            report.notes.append(f"Beyond {MOST_CANDIDATES:,} differences the rest was counted, and not looked at again")
        return found

    def _every_row(self, doing: str) -> Iterator[Asked]:
        about = self._rows.about()
        for number, row in enumerate(self._rows.all()):
            if number % SHOW_EVERY == 0:
                self._tell(doing, number, about)
            yield self._asked(row)

    def _difference(
        self, point_id: PointId, verdict: Verdict, asked: Asked | None, point: StoredPoint | None
    ) -> Difference:
        key = asked.key if asked is not None else None if point is None else expected.key_of(point, self._table)
        known = key is not None and None not in key  # MySQL's zero dates come as None
        seq = point.sync.seq if point is not None and point.sync is not None else 0
        return Difference(point_id, verdict, key if known else None, seq)

    def _tell(self, doing: str, done: int, about: int) -> None:
        if self._stop:
            raise Stopping
        self._show(doing, done, about)

    # Looking again

    def _settled(self, candidates: Sequence[Difference]) -> list[Difference]:
        """Those that stay. If the pipeline stands still all of them, and the report says so."""
        confirmed: list[Difference] = []
        for _ in range(LOOKS):
            if not candidates:
                break
            before = dict(self._seen(candidates))
            self._lookups.look()
            rows = self._asked_now(candidates)
            end = self._rows.end()
            self._tell("Waiting for the pipeline", 0, 0)
            if problem := self._pipeline.wait(end):
                self._report.note_unsettled(problem)
                return [*confirmed, *candidates]
            self._failing = self._pipeline.failing()
            candidates = self._looked_again(candidates, before, rows, confirmed)
        self._report.changing += len(candidates)
        return confirmed

    def _seen(self, candidates: Iterable[Difference]) -> Iterator[tuple[PointId, Seen]]:
        for batch in _batches(candidates):
            versions = self._store.versions([candidate.id for candidate in batch])
            for candidate in batch:
                version = versions.get(candidate.id)
                yield candidate.id, (type(version).__name__, version.seq) if version is not None else None

    def _asked_now(self, candidates: Iterable[Difference]) -> dict[PointId, Asked]:
        """What the candidates' rows ask for now. Those whose key is unknown are looked for in the whole table."""
        found: dict[PointId, Asked] = {}
        unknown: set[PointId] = set()
        for batch in _batches(candidates):
            keyed = [candidate.key for candidate in batch if candidate.key is not None]
            unknown |= {candidate.id for candidate in batch if candidate.key is None}
            try:
                rows = self._rows.having(keyed) if keyed else ()
            except UsageError:  # an id that is no key of this table
                unknown |= {candidate.id for candidate in batch}
                continue
            found |= {asked.id: asked for asked in map(self._asked, rows)}
        if unknown:
            found |= {asked.id: asked for asked in self._every_row("Looking again") if asked.id in unknown}
        return found

    def _asked(self, row: Row) -> Asked:
        return expected.asked(row, self._table, self._lookups.names)

    def _looked_again(
        self,
        candidates: Sequence[Difference],
        before: Mapping[PointId, Seen],
        rows: Mapping[PointId, Asked],
        confirmed: list[Difference],
    ) -> list[Difference]:
        """Adds those that stay to `confirmed`; returns those whose rows have changed meanwhile."""
        changing: list[Difference] = []
        for number, batch in enumerate(_batches(candidates)):
            self._tell("Looking again", number * BATCH, len(candidates))
            points = {point.id: point for point in self._store.get([candidate.id for candidate in batch])}
            after = dict(self._seen(batch))  # behind the points: what is equal now was equal when they were read
            for candidate in batch:
                asked, point = rows.get(candidate.id), points.get(candidate.id)
                verdict = judge(asked, point, self._model, failing=candidate.id in self._failing)
                if verdict not in DRIFT:
                    self._report.note_harmless(verdict)
                    continue
                stays = after[candidate.id] == before[candidate.id]
                (confirmed if stays else changing).append(self._difference(candidate.id, verdict, asked, point))
        return changing

    # Repairing

    def _repair(self, differences: Sequence[Difference]) -> None:
        self._tell("Repairing", 0, len(differences))
        self._delete([found for found in differences if found.verdict is Verdict.ORPHAN])
        self._drop_columns([found for found in differences if found.verdict is Verdict.PAYLOAD])
        others = [found.key for found in differences if found.verdict is not Verdict.ORPHAN]
        if problem := self._pipeline.send_again([key for key in others if key is not None]):
            self._report.notes.append(problem)

    def _delete(self, orphans: Iterable[Difference]) -> None:
        """Each only if it is of the version that was seen: a row that is inserted again meanwhile keeps its point."""
        for batch in _batches(orphans):
            self._store.apply([Delete(orphan.id, orphan.seq) for orphan in batch])

    def _drop_columns(self, differences: Iterable[Difference]) -> None:
        """Takes away the columns that the rows no longer have: the worker writes columns beside those that are there."""
        for batch in _batches(differences):
            rows = self._rows.having([found.key for found in batch if found.key is not None])
            names = dict(self._names(rows))
            points = {point.id: point for point in self._store.get([found.id for found in batch])}
            known = [found for found in batch if found.id in points and found.id in names]
            writes = [_without(points[found.id], found.seq, names[found.id]) for found in known]
            if bare := [write for write in writes if write is not None]:
                self._store.apply(bare)

    def _names(self, rows: Iterable[Row]) -> Iterator[tuple[PointId, frozenset[str]]]:
        for row in rows:
            try:
                wanted = expected.wants(row, self._table, self._lookups.names)
            except PictureError:
                continue
            if wanted is not None:
                yield self._asked(row).id, frozenset(wanted.payload)


def _without(point: StoredPoint, seq: int, names: frozenset[str]) -> SetPayload | None:
    """The write that takes away what is not among `names`, if there is anything, and if the point is still of version `seq`.

    It needs a seq of its own, and takes the very next. The row's next change, which comes behind the wait for the pipeline, is of a later
    millisecond, hence higher.
    """
    extra = point.payload.keys() - names
    if point.sync is None or point.sync.seq != seq or not extra:
        return None
    return SetPayload(point.id, dict.fromkeys(extra), replace(point.sync, seq=seq + 1), over=seq)


def _batches(items: Iterable[T]) -> Iterator[Sequence[T]]:
    listed = list(items)
    for first in range(0, len(listed), BATCH):
        yield listed[first : first + BATCH]
