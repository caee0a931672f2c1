"""From row changes to the records of the topic. Pure, but for the seqs it draws.

The hot path again: a record is made by filling the gaps of an envelope whose fixed parts are made once per event. The bytes are those of
`pixtail.core.changes.encode` (a test holds them together).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Sequence as Listed
from zlib import crc32

import orjson

from ingest.position import Position
from ingest.rowimage import RowChange, Values
from ingest.sequence import Sequence
from ingest.transactions import AGAIN, Transaction
from pixtail.bus.batches import Outgoing
from pixtail.core.changes import TRUNCATE_KEY, Op, key_bytes
from pixtail.core.errors import SourceError


class Outbox:
    """Records on their way, by partition; how many operations they stand for; and the time that they are stamped with.

    `note` is told each key while it is set, and None for all of them.
    """

    def __init__(self, partitions: int) -> None:
        self.lanes: list[list[Outgoing]] = [[] for _ in range(partitions)]
        self.operations: Counter[str] = Counter()  # by the value of an Op: an enum's hash is slow
        self.now_ms = 0
        self.note: Callable[[bytes | None], None] | None = None

    def put(self, key: bytes, value: bytes | None, seq: bytes) -> None:
        lanes = self.lanes
        lanes[crc32(key) % len(lanes)].append((key, value, seq))
        if self.note is not None:
            self.note(key)

    def clear(self) -> None:
        """They are written."""
        self.lanes = [[] for _ in self.lanes]
        self.operations.clear()


class Author:
    """Makes the records of one table; each has a seq of its own, tombstones too. `key`: the primary key's columns in order."""

    def __init__(self, prefix: str, database: str, table: str, key: tuple[str, ...], sequence: Sequence) -> None:
        self.sequence = sequence
        self._prefix = prefix
        self._database = database
        self._table = table
        self._key = key
        self._single = key[0] if len(key) == 1 else None
        self._envelopes: dict[tuple[str, int, str, str], tuple[bytes, bytes]] = {}

    def add_rows(
        self, transaction: Transaction, file: str, pos: int, changes: Listed[RowChange], first: int, box: Outbox
    ) -> None:
        """Row changes of one event, all inserts, all updates or all deletes; the first is number `first` of its transaction."""
        before, after = changes[0]
        if before is None:
            self._creates(transaction, file, pos, changes, first, box)
        elif after is None:
            self._deletes(transaction, file, pos, changes, first, box)
        else:
            self._updates(transaction, file, pos, changes, first, box)

    def _creates(
        self, transaction: Transaction, file: str, pos: int, changes: Listed[RowChange], first: int, box: Outbox
    ) -> None:
        middle, tail = self._of_event(_CREATE, transaction, file, pos, box)
        seq, dumps, key_of, put = self.sequence.begin(box.now_ms), orjson.dumps, self.key_of, box.put
        for row, (_, after) in enumerate(changes, first):
            seq += 1
            version = b"%d" % seq
            value = b"".join((_NO_BEFORE, dumps(after), middle, b"%d" % row, tail, version, _END))
            put(key_of(after), value, version)
        self.sequence.last = seq
        box.operations[_CREATE] += len(changes)

    def _updates(
        self, transaction: Transaction, file: str, pos: int, changes: Listed[RowChange], first: int, box: Outbox
    ) -> None:
        """A changed primary key is another row: the old one goes, the new one comes."""
        middle, tail = self._of_event(_UPDATE, transaction, file, pos, box)
        dumps, key_of = orjson.dumps, self.key_of
        for row, (before, after) in enumerate(changes, first):
            old, new = key_of(before), key_of(after)
            if old != new:
                self._deletes(transaction, file, pos, [(before, None)], row, box)
                self._creates(transaction, file, pos, [(None, after)], row, box)
                continue
            self.sequence.last = seq = self.sequence.begin(box.now_ms) + 1
            version = b"%d" % seq
            images = (_BEFORE, dumps(before), _AFTER, dumps(after))
            box.put(new, b"".join((*images, middle, b"%d" % row, tail, version, _END)), version)
            box.operations[_UPDATE] += 1

    def _deletes(
        self, transaction: Transaction, file: str, pos: int, changes: Listed[RowChange], first: int, box: Outbox
    ) -> None:
        """Each with its tombstone."""
        middle, tail = self._of_event(_DELETE, transaction, file, pos, box)
        seq, dumps, key_of, put = self.sequence.begin(box.now_ms), orjson.dumps, self.key_of, box.put
        for row, (before, _) in enumerate(changes, first):
            key, version = key_of(before), b"%d" % (seq + 1)
            images = (_BEFORE, dumps(before), _AFTER, _NULL)
            put(key, b"".join((*images, middle, b"%d" % row, tail, version, _END)), version)
            put(key, None, b"%d" % (seq + 2))
            seq += 2
        self.sequence.last = seq
        box.operations[_DELETE] += len(changes)

    def add_truncation(self, transaction: Transaction, file: str, pos: int, box: Outbox) -> None:
        """One record for each partition, under the same key everywhere."""
        middle, tail = self._of_event(_TRUNCATE, transaction, file, pos, box)
        for lane in box.lanes:
            self.sequence.last = seq = self.sequence.begin(box.now_ms) + 1
            version = b"%d" % seq
            lane.append((_TRUNCATE_KEY, b"".join((_NO_BEFORE, _NULL, middle, b"0", tail, version, _END)), version))
        box.operations[_TRUNCATE] += 1
        if box.note is not None:
            box.note(None)

    def add_chunk(self, rows: Listed[Values], position: Position, mark: str, box: Outbox) -> None:
        """Rows that were read from the table at `position`. `mark` is the value of `source.snapshot`."""
        transaction = Transaction(position.gtid, 0, box.now_ms)
        middle, tail = self._of_event(_READ, transaction, position.file, position.pos, box, mark)
        lanes, dumps, key_of, seq = box.lanes, orjson.dumps, self.key_of, self.sequence.begin(box.now_ms)
        for values in rows:
            seq += 1
            key, version = key_of(values), b"%d" % seq
            value = b"".join((_NO_BEFORE, dumps(values), middle, b"0", tail, version, _END))
            lanes[crc32(key) % len(lanes)].append((key, value, version))
        self.sequence.last = seq
        box.operations[_READ] += len(rows)

    def key_of(self, values: Values | None) -> bytes:
        """The record key of a row. Raises `SourceError` for a row without the key's column."""
        assert values is not None
        try:
            if self._single is not None:
                return orjson.dumps({self._single: values[self._single]})
            return orjson.dumps({name: values[name] for name in self._key})
        except KeyError as error:
            raise SourceError(
                f"{self._database}.{self._table} had no column {error.args[0]} when a row was written",
                f"Correct table.key; {AGAIN}",
            ) from None

    def _of_event(
        self, op: str, transaction: Transaction, file: str, pos: int, box: Outbox, mark: str = "false"
    ) -> tuple[bytes, bytes]:
        """What stands between the images and the row's number, and between that and the seq."""
        gtid, server_id, commit_ms = transaction
        known = (op, server_id, file, mark)
        middle, tail = self._envelopes.get(known) or self._outer(known)
        quoted = "null" if gtid is None else f'"{gtid}"'
        now_ms = box.now_ms
        return middle % (now_ms, quoted.encode(), pos), tail % min(commit_ms, now_ms)

    def _outer(self, known: tuple[str, int, str, str]) -> tuple[bytes, bytes]:
        """The same for all events of a kind in a file, with gaps for: time, GTID, offset; and commit time."""
        if len(self._envelopes) > _MOST_ENVELOPES:
            self._envelopes.clear()
        op, server_id, file, mark = known
        names = [_escaped(name) for name in (op, self._prefix, self._database, self._table)]
        middle = _MIDDLE % (*names, server_id, _escaped(file))
        self._envelopes[known] = made = middle, _TAIL % _escaped(mark)
        return made


def _escaped(text: str) -> bytes:
    """As JSON, safe in a format that is filled twice."""
    return orjson.dumps(text).replace(b"%", b"%%")


_CREATE, _UPDATE, _DELETE, _READ, _TRUNCATE = (
    op.value for op in (Op.CREATE, Op.UPDATE, Op.DELETE, Op.READ, Op.TRUNCATE)
)
_MOST_ENVELOPES = 64
_TRUNCATE_KEY = key_bytes(TRUNCATE_KEY)
_NULL = b"null"
_NO_BEFORE = b'{"before":null,"after":'
_BEFORE, _AFTER, _END = b'{"before":', b',"after":', b'"}}'
# Filled twice: with what all events of a kind in a file share, then with the event's.
_MIDDLE = (
    b',"op":%b,"ts_ms":%%d,"source":{"connector":"mysql","name":%b,"db":%b,"table":%b,'
    b'"server_id":%d,"gtid":%%b,"file":%b,"pos":%%d,"row":'
)
_TAIL = b',"ts_ms":%%d,"snapshot":%b,"sequence":"'
