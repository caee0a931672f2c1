"""What the listener remembers between two lives, and its form in the state topic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

from pixtail.core.errors import SettingError

KeyValue: TypeAlias = int | str | bytes
"""A primary key's value as the server compares it: what `WHERE key > …` takes."""


@dataclass(frozen=True, slots=True)
class Position:
    """The end of a transaction in the binlog: everything before it is dealt with.

    `gtid` is the executed set (MySQL) or the last GTID of each domain (MariaDB); None where the server has none.
    `file` and `pos` stand beside it always.
    """

    gtid: str | None
    file: str
    pos: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An unfinished snapshot: `rows` are written, the last of them has the key `after`. None of either: nothing yet."""

    after: KeyValue | None = None
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A giant transaction of which the first `rows` row changes are written. It is the first with this `gtid` after the position;
    without GTIDs, the first that touches the table."""

    gtid: str | None
    rows: int


@dataclass(frozen=True, slots=True)
class State:
    """Everything. It is written in the same Kafka transaction as the events it speaks of."""

    position: Position
    seq: int
    snapshot: Snapshot | None = None
    unfinished: Unfinished | None = None

    def with_seq(self, seq: int) -> State:
        return replace(self, seq=seq)


def to_json(state: State) -> dict[str, Any]:
    body = asdict(state)
    if state.snapshot is not None and isinstance(state.snapshot.after, bytes):
        body["snapshot"]["after"] = {"hex": state.snapshot.after.hex()}
    return body


def from_json(body: Mapping[str, Any]) -> State:
    """Raises `SettingError` for a body that this program did not write."""
    try:
        return State(
            position=Position(**body["position"]),
            seq=int(body["seq"]),
            snapshot=_snapshot(body["snapshot"]) if body["snapshot"] else None,
            unfinished=Unfinished(**body["unfinished"]) if body["unfinished"] else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SettingError(
            f"the saved state is not of this program's form ({type(error).__name__}: {error})",
            "Choose another kafka.prefix",
        ) from error


def _snapshot(body: Mapping[str, Any]) -> Snapshot:
    after = body["after"]
    return Snapshot(bytes.fromhex(after["hex"]) if isinstance(after, dict) else after, body["rows"])
