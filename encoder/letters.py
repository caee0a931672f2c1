"""Which dead letters a window writes and clears: pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import orjson

from encoder.rows import Done
from pixtail.bus.consumer import Consumed
from pixtail.bus.dead_letters import DeadLetter
from pixtail.core.changes import Malformed
from pixtail.core.errors import PictureError, Reason


def letter(received: Consumed, topic: str, error: PictureError, former: DeadLetter | None, now: str) -> DeadLetter:
    """The letter for a record that failed; `former` is the one already open for its row."""
    return DeadLetter(
        key=filing_key(received, topic),
        value=received.value,
        seq=received.entry.seq,
        reason=error.reason,
        message=str(error),
        attempts=former.attempts + 1 if former else 1,
        first_failed=former.first_failed if former else now,
        origin=f"{topic}/{received.partition}/{received.offset}",
    )


def filing_key(received: Consumed, topic: str) -> bytes:
    """The record's own key; a record without one is filed by its place."""
    if received.key is not None:
        return received.key
    return orjson.dumps({"origin": f"{topic}/{received.partition}/{received.offset}"})


def malformed(received: Consumed) -> PictureError:
    entry = received.entry
    assert isinstance(entry, Malformed)
    return PictureError(Reason.MALFORMED, entry.problem, "See what writes to the topic")


def outdated_by(letters: Mapping[bytes, DeadLetter], key: bytes, seq: int) -> bool:
    """True if a letter is open for a newer version of the row than `seq`: this version has no say any more."""
    return key in letters and letters[key].seq > seq


def to_clear(letters: Mapping[bytes, DeadLetter], done: Iterable[Done], truncate_seq: int) -> set[bytes]:
    """The open letters that the window has settled: their row got through in this or a newer version, or the table was emptied."""
    settled = {d.row.key for d in done if d.row.key in letters and letters[d.row.key].seq <= d.row.seq}
    if not truncate_seq:
        return settled
    return settled | {key for key, open_letter in letters.items() if open_letter.seq < truncate_seq}


def to_file(
    received: Iterable[Consumed], topic: str, letters: Mapping[bytes, DeadLetter], done: Collection[Done]
) -> list[Consumed]:
    """The malformed records that deserve a letter: no newer version of their row got through, and none has failed."""
    settled = {d.row.key: d.row.seq for d in done}
    return [
        r
        for r in received
        if settled.get(filing_key(r, topic), -1) < r.entry.seq
        and not outdated_by(letters, filing_key(r, topic), r.entry.seq)
    ]
