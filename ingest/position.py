"""What the listener remembers between two lives, and its form in the state topic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

from ingest.selection import Selection, selected
from pixtail.core.errors import SettingError

KeyValue: TypeAlias = int | str | bytes
"""A primary key column's value as the server compares it: what `WHERE key > …` takes. Text is bytes of its column's character set."""
Cursor: TypeAlias = tuple[KeyValue, ...]
"""Where a snapshot stands: the last row's key, in key order."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the binlog of one server; `reaches` makes sense between places of the same server only."""

    file: str
    pos: int

    def reaches(self, other: Place) -> bool:
        """Is it at `other`, or behind it? Files count up, and may outgrow their six digits."""
        return (self._number, self.pos) >= (other._number, other.pos)

    @property
    def _number(self) -> int:
        return int(self.file.rpartition(".")[2])


@dataclass(frozen=True, slots=True)
class Position:
    """The end of a transaction in the binlog: everything before it is dealt with.

    `gtid` is the executed set (MySQL) or the last GTID of each domain (MariaDB); None where the server has none.
    `file` and `pos` stand beside it always.
    """

    gtid: str | None
    file: str
    pos: int

    @property
    def place(self) -> Place:
        return Place(self.file, self.pos)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An unfinished snapshot or back-fill: `rows` are written, the last of them has the key `after`. None of either: nothing yet.

    `selection` says of which rows (None: all). `about` is how many there will be, 0 if unknown; `started_ms` when it began. `order` is the
    table's `order` that `after` belongs to; empty in what earlier versions saved, whose `after` is the one key column's value alone. A
    back-fill may be `paused`; `chunk_rows` 0: as many as usual.
    """

    after: Cursor | KeyValue | None = None
    rows: int = 0
    selection: Selection | None = None
    about: int = 0
    started_ms: int = 0
    order: str = ""
    paused: bool = False
    chunk_rows: int = 0

    def resumed(self, order: str) -> Snapshot:
        """From where to go on with a table of this `order`: from the beginning if it is another one now."""
        known = replace(self, order=order)
        return known if self.order in ("", order) else replace(known, after=None, rows=0)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A giant transaction of which the first `rows` row changes are written. It is the first with this `gtid` after the position;
    without GTIDs, the first that touches the table."""

    gtid: str | None
    rows: int


@dataclass(frozen=True, slots=True)
class State:
    """Everything. It is written in the same Kafka transaction as the events it speaks of. `request`: the id of the last one acted on."""

    position: Position
    seq: int
    snapshot: Snapshot | None = None
    unfinished: Unfinished | None = None
    request: str = ""


def to_json(state: State) -> dict[str, Any]:
    body = asdict(state)
    if state.snapshot is not None:
        body["snapshot"]["after"] = _after_to_json(state.snapshot.after)
    return body


def _after_to_json(after: Cursor | KeyValue | None) -> Any:
    if isinstance(after, tuple):
        return [_after_to_json(value) for value in after]
    return {"hex": after.hex()} if isinstance(after, bytes) else after


def from_json(body: Mapping[str, Any]) -> State:
    """Raises `SettingError` for a body that this program did not write."""
    try:
        return State(
            position=Position(**body["position"]),
            seq=int(body["seq"]),
            snapshot=_snapshot(body["snapshot"]) if body["snapshot"] else None,
            unfinished=Unfinished(**body["unfinished"]) if body["unfinished"] else None,
            request=body.get("request", ""),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SettingError(
            f"the saved state is not of this program's form ({type(error).__name__}: {error})",
            "Choose another kafka.prefix",
        ) from error


def _snapshot(body: Mapping[str, Any]) -> Snapshot:
    selection = body.get("selection")
    return Snapshot(**{**body, "after": _after(body["after"]), "selection": selection and selected(**selection)})


def _after(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_after, value))
    return bytes.fromhex(value["hex"]) if isinstance(value, dict) else value
