"""What is to be done about the changes that were read: pure functions, no I/O.

State decides, not events: of all changes of a row only the newest counts, and what it asks of the index depends on what is stored there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar

from pixtail.core.changes import Change, Entry, Malformed, Op, key_bytes
from pixtail.core.points import Gone, Payload, Sync, Version


class Received(Protocol):
    """Whatever carries an entry of the topic."""

    @property
    def entry(self) -> Entry: ...


R = TypeVar("R", bound=Received)


@dataclass(frozen=True, slots=True)
class Collapsed(Generic[R]):
    """A window of the topic without what newer entries of the same window make superfluous.

    `newest` has one change or tombstone per key; `truncate_seq` is 0 if the window holds no TRUNCATE.
    """

    newest: tuple[R, ...]
    malformed: tuple[R, ...]
    truncate_seq: int = 0


def collapse(window: Iterable[R]) -> Collapsed[R]:
    """Per key the entry with the highest seq (of equals the later one); what a TRUNCATE outdates is left out."""
    newest: dict[bytes, R] = {}
    malformed: list[R] = []
    truncate_seq = 0
    for received in window:
        entry = received.entry
        if isinstance(entry, Malformed):
            malformed.append(received)
        elif isinstance(entry, Change) and entry.op is Op.TRUNCATE:
            truncate_seq = max(truncate_seq, entry.seq)
        else:
            _keep_newer(newest, key_bytes(entry.key), received)
    standing = tuple(r for r in newest.values() if r.entry.seq >= truncate_seq)
    return Collapsed(standing, tuple(malformed), truncate_seq)


def _keep_newer(newest: dict[bytes, R], key: bytes, received: R) -> None:
    if key not in newest or received.entry.seq >= newest[key].entry.seq:
        newest[key] = received


@dataclass(frozen=True, slots=True)
class Wanted:
    """The point that a row asks for: the picture to be found by, and the columns shown with it."""

    ref: str
    payload: Payload


@dataclass(frozen=True, slots=True)
class Encode:
    """The picture must be fetched; `stored` (None: nothing of ours) may yet spare the encoding, see `same_picture`."""

    wanted: Wanted
    stored: Sync | None


@dataclass(frozen=True, slots=True)
class PayloadOnly:
    """The vector that is there is right: only the columns are written anew."""

    wanted: Wanted
    stored: Sync


@dataclass(frozen=True, slots=True)
class Remove:
    """There is to be no point: the row is gone (`deleted`), its picture column is empty, or `table.only` leaves it out (`not_wanted`)."""

    why: Literal["deleted", "no_picture", "not_wanted"]


@dataclass(frozen=True, slots=True)
class Nothing:
    """The index already shows this version (`unchanged`) or a newer one (`stale`)."""

    why: Literal["unchanged", "stale"]


Decision: TypeAlias = Encode | PayloadOnly | Remove | Nothing


def decide(seq: int, wanted: Wanted | Remove, stored: Version, model: str) -> Decision:
    """What makes the index show version `seq` of a row.

    `stored` None: there is no point, or one that another program wrote. `model` is a fingerprint.
    """
    if stored is not None and stored.seq > seq:
        return Nothing("stale")
    if isinstance(wanted, Remove):
        return wanted
    if stored is None or isinstance(stored, Gone):
        return Encode(wanted, None)
    if stored.seq == seq:  # by whatever model: a store refuses an equal seq. A back-fill gives the row a new one.
        return Nothing("unchanged")
    if stored.ref == wanted.ref and stored.model == model:
        return PayloadOnly(wanted, stored)
    return Encode(wanted, stored)


def same_picture(stored: Sync | None, sha256: str, model: str) -> bool:
    """True if the fetched bytes are those the stored vector was made of, by this very model: the file has only moved."""
    return stored is not None and stored.model == model and stored.facts.sha256 == sha256 != ""
