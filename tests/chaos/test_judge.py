"""The judge acquits a topic that tells the truth, and finds every way of not doing so."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
import pytest

from pixtail.bus.topics import partition_of
from pixtail.core.changes import key_bytes
from tests.chaos.judge import TRUNCATION, Contradiction, Findings, Judge, Truth
from tests.chaos.killer import SHARES, plan

PARTITIONS = 2


@dataclass
class Record:
    """As kafka-python gives it."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def row(key: int, version: int | None) -> dict[str, Any] | None:
    return None if version is None else {"id": key, "version": version, "title": f"{version}:x"}


class Topic:
    """Made record by record; `records` are then changed by a test."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._row = -1

    def put(self, key: bytes, partition: int, body: dict[str, Any] | None) -> None:
        number = len(self.records)
        if body is not None and body["op"] not in "rt":
            self._row += 1
        source = {"file": "binlog.000001", "pos": 100, "row": max(self._row, 0), "snapshot": "false"}
        if body is not None:
            body["source"] = source | body.get("source", {})
        value = None if body is None else orjson.dumps(body)
        self.records.append(Record("t", partition, number, key, value, [("seq", b"%d" % (number + 1))]))

    def change(self, key: int, op: str, old: int | None, new: int | None, **source: Any) -> None:
        name = key_bytes({"id": key})
        body = {"op": op, "before": row(key, old), "after": row(key, new), "source": source}
        self.put(name, partition_of(name, PARTITIONS), body)
        if op == "d":
            self.put(name, partition_of(name, PARTITIONS), None)

    def read(self, key: int, version: int, snapshot: str = "true") -> None:
        self.change(key, "r", None, version, snapshot=snapshot)

    def truncate(self) -> None:
        for partition in range(PARTITIONS):
            self.put(TRUNCATION, partition, {"op": "t", "before": None, "after": None})


def story() -> tuple[Truth, Topic]:
    """Rows 1 and 2 are there; 1 is changed and deleted and comes again, 3 comes; all go; 3 comes again."""
    truth, topic = Truth({1: 10, 2: 20}), Topic()
    topic.read(1, 10)
    steps = [(1, "u", 10, 11), (3, "c", None, 30), (1, "d", 11, None), (1, "c", None, 12), (3, "u", 30, 31)]
    for step in steps:
        truth.add(*step)
        topic.change(*step)
    topic.read(2, 20, "last")
    topic.read(3, 31, "incremental")
    truth.add(0, "t", None, 99)
    topic.truncate()
    truth.add(3, "c", None, 32)
    topic.change(3, "c", None, 32)
    return truth, topic


def judged(truth: Truth, records: Sequence[Record], reads: int = 2) -> Judge:
    judge = Judge(truth, PARTITIONS, reads, partition_of)
    for partition in range(PARTITIONS):
        for record in records:
            if record.partition == partition:
                judge.take(record)
    return judge


def renumbered(records: list[Record]) -> list[Record]:
    """As if the listener had written them so."""
    for number, record in enumerate(records, 1):
        record.headers = [("seq", b"%d" % number)]
    return records


def index_of(records: list[Record], key: int, op: str, nth: int = 0) -> int:
    found = [
        n
        for n, r in enumerate(records)
        if r.key == key_bytes({"id": key}) and (b'"op":"%b"' % op.encode()) in (r.value or b"")
    ]
    return found[nth]


def verdict(damage: Callable[[list[Record]], Any]) -> Findings:
    truth, topic = story()
    damage(topic.records)
    return judged(truth, renumbered(topic.records)).verdict()


def test_a_topic_that_tells_the_truth_is_acquitted() -> None:
    truth, topic = story()
    judge = judged(truth, topic.records)
    assert judge.verdict().ok, judge.findings
    assert judge.table() == truth.table() == {3: 32}


def moved(records: list[Record], first: int, second: int) -> None:
    records.insert(second, records.pop(first))


def again(records: list[Record], number: int, at: int, times: int = 1) -> None:
    records[at:at] = [replace(records[number]) for _ in range(times)]


@pytest.mark.parametrize(
    ("damage", "faults"),
    [
        (lambda r: r.pop(index_of(r, 3, "u")), {"lost"}),
        (lambda r: again(r, index_of(r, 3, "c"), 9), {"repeated"}),
        (lambda r: moved(r, index_of(r, 3, "u"), index_of(r, 3, "c")), {"out_of_order", "stale_reads"}),
        (lambda r: r.pop(index_of(r, 1, "d") + 1), {"tombstones"}),
        (lambda r: again(r, index_of(r, 1, "d") + 1, 1), {"tombstones"}),
        (lambda r: moved(r, index_of(r, 1, "r"), index_of(r, 1, "u") + 1), {"stale_reads"}),
        (lambda r: moved(r, index_of(r, 3, "r"), len(r)), {"stale_reads"}),
        (lambda r: again(r, index_of(r, 1, "r"), 1), set()),
        (lambda r: again(r, index_of(r, 1, "r"), 1, times=2), {"repeated_reads"}),
        (lambda r: r.pop(index_of(r, 2, "r")), {"unread"}),
        (lambda r: r.pop(next(n for n, x in enumerate(r) if x.key == TRUNCATION)), {"lost"}),
        (lambda r: setattr(r[0], "value", b"{}"), {"malformed"}),
        (lambda r: setattr(r[0], "partition", 1 - r[0].partition), {"malformed"}),
    ],
    ids=[
        "a lost change", "a repeated change", "changes that changed places", "no tombstone", "a tombstone too early",
        "an old row read late", "a row read behind its end", "a row read by two snapshots", "a row read once too often",
        "a row that was not read", "a lost truncation", "no change event", "the wrong partition",
    ],
)  # fmt: skip
def test_a_fault_is_found_and_called_by_its_name(damage: Callable[[list[Record]], Any], faults: set[str]) -> None:
    found = verdict(damage)
    named = {name for name, number in found.numbers.items() if number}
    assert faults <= named if "lost" in faults else named - {"positions"} == faults - {"positions"}, found
    assert bool(found.shown) == bool(faults)


def test_a_row_that_nothing_told_of_until_the_snapshot_was_over_is_found() -> None:
    truth, topic = Truth({1: 10, 2: 20}), Topic()
    topic.read(1, 10, "last")
    truth.add(2, "u", 20, 21)
    topic.change(2, "u", 20, 21)
    assert judged(truth, topic.records).verdict().unread == 1


def test_seqs_must_grow_in_a_partition_and_be_unique() -> None:
    truth, topic = story()
    renumbered(topic.records)
    topic.records[3].headers = topic.records[2].headers
    assert judged(truth, topic.records).verdict().seqs


def test_a_row_whose_columns_belong_to_different_versions_is_malformed() -> None:
    truth, topic = story()
    topic.records[0].value = (topic.records[0].value or b"").replace(b'"10:x"', b'"11:x"')
    assert judged(truth, topic.records).verdict().malformed == 1


def test_a_journal_that_contradicts_itself_is_no_truth() -> None:
    truth = Truth({1: 10})
    truth.add(1, "u", 9, 11)
    with pytest.raises(Contradiction, match="key 1"):
        truth.table()


def test_a_plan_has_as_many_kills_as_it_should_in_the_shares_that_it_should() -> None:
    drawn = Counter(plan(1000, random.Random(1)))
    assert drawn == SHARES
    assert len(plan(37, random.Random(1))) == 37
