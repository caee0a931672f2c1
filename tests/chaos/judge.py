"""The topic against the truth. Pure.

The truth of a key: its version before anybody listened, if it was there, and what the journal says happened to it since. What the topic
says of a key's changes must be just that, in that order. A TRUNCATE is part of every key's history: each step knows behind how many it is.
Rows that were read (`r`) are no part of the history, but each must be what the key was at that place of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from operator import itemgetter
from typing import Any, NamedTuple

import orjson

from pixtail.core.changes import TRUNCATE_KEY, key_bytes

TRUNCATION = key_bytes(TRUNCATE_KEY)
KEYS_SHOWN = 5
STEPS_AROUND = 4


class Step(NamedTuple):
    """One change of a key: versions before and after, and how many TRUNCATEs went before."""

    op: str
    old: int | None
    new: int | None
    epoch: int


class Place(NamedTuple):
    """Where a record stands in the topic, and what it says of the binlog."""

    seq: int
    partition: int
    offset: int
    file: int
    pos: int
    row: int


class Contradiction(Exception):
    """The journal is no history. The harness is wrong, or the database."""


@dataclass(slots=True)
class Truth:
    """`initial`: versions by key. Steps are added in the order of the journal."""

    initial: Mapping[int, int]
    steps: dict[int, list[Step]] = field(default_factory=lambda: defaultdict(list))
    truncations: int = 0
    rows: int = 0

    def add(self, key: int, op: str, old: int | None, new: int | None) -> None:
        self.rows += 1
        if op == "t":
            self.truncations += 1
        else:
            self.steps[key].append(Step(op, old, new, self.truncations))

    def table(self) -> dict[int, int]:
        """Versions by key, at the end. Raises `Contradiction` unless each step begins where the one before it ended."""
        table = {} if self.truncations else {key: v for key, v in self.initial.items() if key not in self.steps}
        for key, steps in self.steps.items():
            current = self._folded(key, steps)
            if current is not None and steps[-1].epoch == self.truncations:
                table[key] = current
        return table

    def _folded(self, key: int, steps: Sequence[Step]) -> int | None:
        current, epoch = self.initial.get(key), 0
        for step in steps:
            before = current if step.epoch == epoch else None
            if step.old != before or (step.op == "c") != (before is None):
                raise Contradiction(f"the journal says of key {key}: {step}, when its version was {before}")
            current, epoch = step.new, step.epoch
        return current


@dataclass(slots=True)
class Findings:
    """Numbers of faults; all 0: the promise is kept. `shown` has the first keys with their histories."""

    lost: int = 0
    repeated: int = 0
    out_of_order: int = 0
    invented: int = 0
    """Changes that the truth does not know."""
    stale_reads: int = 0
    """Read rows (`r`) that were not the row at that place of its history."""
    repeated_reads: int = 0
    unread: int = 0
    """Rows that were there at the start, and that neither a read row nor a change told of until the snapshot was over."""
    tombstones: int = 0
    """Missing behind a delete, or standing elsewhere."""
    seqs: int = 0
    """Not above the one before in the partition, or used twice."""
    positions: int = 0
    """That run backwards in the binlog, or rows of a transaction that are not counted one by one."""
    malformed: int = 0
    shown: list[str] = field(default_factory=list)

    @property
    def numbers(self) -> dict[str, int]:
        return {name: value for name, value in asdict(self).items() if isinstance(value, int)}

    @property
    def ok(self) -> bool:
        return not any(self.numbers.values())


@dataclass(slots=True)
class _Key:
    """What the topic says of a key."""

    partition: int = 0
    steps: list[Step] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    version: int | None = None
    epoch: int = 0
    reads: int = 0
    owes_tombstone: bool = False


class Judge:
    """Give it every record of the topic, each partition's in order; then ask for the verdict.

    `reads`: how many snapshots and back-fills there were.
    """

    def __init__(self, truth: Truth, partitions: int, reads: int, partition_of: Callable[[bytes, int], int]) -> None:
        self.findings = Findings()
        self.records = 0
        self._truth = truth
        self._partitions = partitions
        self._most_reads = reads
        self._partition_of = partition_of
        self._keys: dict[int, _Key] = {key: _Key(version=version) for key, version in truth.initial.items()}
        self._epochs = [0] * partitions
        self._last_seqs = [0] * partitions
        self._first_truncations: dict[int, int] = {}
        self._seqs: list[int] = []
        self._snapshot_end = 0

    def take(self, record: Any) -> None:
        """A record as kafka-python gives it."""
        self.records += 1
        try:
            seq = int(dict(record.headers)["seq"])
            self._check_seq(record.partition, seq)
            if record.key == TRUNCATION:
                self._truncated(record.partition, seq, orjson.loads(record.value))
                return
            number = orjson.loads(record.key)["id"]
            key = self._key(number, record)
            if record.value is None:
                self._tombstone(number, key, record)
                return
            self._event(number, key, record, seq, orjson.loads(record.value))
        except (KeyError, TypeError, ValueError) as error:
            self._found("malformed", f"{_where(record)} cannot be read: {error!r}")

    def verdict(self) -> Findings:
        """Complete, once all records are taken."""
        self.findings.seqs += len(self._seqs) - len(set(self._seqs))
        for number in self._keys.keys() | self._truth.steps.keys():
            self._compare(number)
        for partition, epoch in enumerate(self._epochs):
            if epoch != self._truth.truncations:
                fault = "lost" if epoch < self._truth.truncations else "repeated"
                self._found(fault, f"partition {partition} has {epoch} of {self._truth.truncations} TRUNCATEs")
        self._check_positions()
        return self.findings

    def table(self) -> dict[int, int]:
        """What somebody who reads the topic believes to be in the table: versions by key."""
        return {
            number: key.version
            for number, key in self._keys.items()
            if key.version is not None and key.epoch == self._epochs[self._home(number)]
        }

    # A record

    def _key(self, number: int, record: Any) -> _Key:
        if record.partition != self._partition_of(record.key, self._partitions):
            raise ValueError("it is in the wrong partition")
        key = self._keys.get(number)
        if key is None:
            key = self._keys[number] = _Key()
        if key.epoch != self._epochs[record.partition]:
            key.epoch, key.version = self._epochs[record.partition], None
        return key

    def _check_seq(self, partition: int, seq: int) -> None:
        if seq <= self._last_seqs[partition]:
            self._found("seqs", f"partition {partition}: seq {seq} stands behind {self._last_seqs[partition]}")
        self._last_seqs[partition] = seq
        self._seqs.append(seq)

    def _truncated(self, partition: int, seq: int, body: Mapping[str, Any]) -> None:
        if body["op"] != "t":
            raise ValueError("it is no TRUNCATE")
        self._epochs[partition] += 1
        self._first_truncations.setdefault(partition, seq)

    def _tombstone(self, number: int, key: _Key, record: Any) -> None:
        if not key.owes_tombstone:
            self._found("tombstones", f"key {number}: {_where(record)} is a tombstone that no delete stands before")
        key.owes_tombstone = False

    def _event(self, number: int, key: _Key, record: Any, seq: int, body: Mapping[str, Any]) -> None:
        if key.owes_tombstone:
            self._found("tombstones", f"key {number}: no tombstone before {_where(record)}")
            key.owes_tombstone = False
        op, old, new = body["op"], _version(body["before"], number), _version(body["after"], number)
        if op == "r":
            self._read(number, key, record, seq, new, body["source"]["snapshot"])
            return
        source = body["source"]
        file = int(source["file"].rpartition(".")[2])
        key.steps.append(Step(op, old, new, key.epoch))
        key.places.append(Place(seq, record.partition, record.offset, file, source["pos"], source["row"]))
        key.version = new
        key.owes_tombstone = op == "d"

    def _read(self, number: int, key: _Key, record: Any, seq: int, version: int | None, snapshot: str) -> None:
        key.reads += 1
        if version != key.version:
            text = f"key {number}: {_where(record)} read version {version}, and behind its {len(key.steps)} changes it is {key.version}"
            self._found("stale_reads", text)
        if key.reads > self._most_reads:
            self._found("repeated_reads", f"key {number}: {_where(record)} is read number {key.reads}")
        if snapshot != "incremental":
            self._snapshot_end = max(self._snapshot_end, seq)

    # A key

    def _compare(self, number: int) -> None:
        key = self._keys.get(number) or _Key()
        wanted = self._truth.steps.get(number, [])
        if number in self._truth.initial and not key.reads and self._first_told(number, key) > self._snapshot_end:
            self._found("unread", f"key {number}: nothing told of it until the snapshot was over")
        if key.owes_tombstone:
            self._found("tombstones", f"key {number}: none behind the last delete")
        if key.steps != wanted:
            self._differs(number, key, wanted)

    def _first_told(self, number: int, key: _Key) -> float:
        truncated = self._first_truncations.get(self._home(number), float("inf"))
        return min(key.places[0].seq if key.places else float("inf"), truncated)

    def _home(self, number: int) -> int:
        return self._partition_of(key_bytes({"id": number}), self._partitions)

    def _differs(self, number: int, key: _Key, wanted: Sequence[Step]) -> None:
        expected, there = Counter(wanted), Counter(key.steps)
        missing, extra = expected - there, there - expected
        repeated = sum(count for step, count in extra.items() if step in expected)
        self.findings.lost += missing.total()
        self.findings.repeated += repeated
        self.findings.invented += extra.total() - repeated
        self.findings.out_of_order += _first_seen(key.steps, expected) != _first_seen(wanted, there)
        self._show(f"key {number}:\n{history(wanted, key.steps, key.places)}")

    # All of them

    def _check_positions(self) -> None:
        """In the order of seq: the binlog's own."""
        stories = (
            (place, step) for key in self._keys.values() for place, step in zip(key.places, key.steps, strict=True)
        )
        former, former_op = Place(0, 0, 0, 0, 0, -1), ""
        for place, step in sorted(stories, key=itemgetter(0)):
            forward = (place.file, place.pos) >= (former.file, former.pos)
            moved = former_op == "d" and step.op == "c" and place.row == former.row
            if not forward or not (place.row in (0, former.row + 1) or moved):
                self._found("positions", f"{place} {step} comes behind {former} {former_op}")
            former, former_op = place, step.op

    def _found(self, fault: str, text: str) -> None:
        setattr(self.findings, fault, getattr(self.findings, fault) + 1)
        self._show(text)

    def _show(self, text: str) -> None:
        if len(self.findings.shown) < KEYS_SHOWN:
            self.findings.shown.append(text)


def history(wanted: Sequence[Step], there: Sequence[Step], places: Sequence[Place]) -> str:
    """Both, around the first place where they differ."""
    pairs = zip(wanted, there, strict=False)
    first = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(wanted), len(there)))
    around = range(max(first - STEPS_AROUND, 0), min(first + STEPS_AROUND, max(len(wanted), len(there))))
    lines = [f"  they differ from change {first} on; truth has {len(wanted)}, the topic {len(there)}"]
    for n in around:
        said = f"{_told(there[n])} {places[n]}" if n < len(there) else "-"
        lines.append(f"  {n}: truth {_told(wanted[n]) if n < len(wanted) else '-'} | topic {said}")
    return "\n".join(lines)


def _told(step: Step) -> str:
    return f"{step.op} {step.old}→{step.new} (behind {step.epoch} TRUNCATEs)"


def _first_seen(steps: Iterable[Step], among: Counter[Step]) -> list[Step]:
    return list(dict.fromkeys(step for step in steps if step in among))


def _version(row: Mapping[str, Any] | None, key: int) -> int | None:
    """Raises `ValueError` for a row whose columns do not belong together."""
    if row is None:
        return None
    version = row["version"]
    if row["id"] != key or not row["title"].startswith(f"{version}:"):
        raise ValueError(f"the row of version {version} has columns of another one")
    return int(version)


def _where(record: Any) -> str:
    return f"{record.topic}-{record.partition}@{record.offset}"
