"""Which rows a back-fill sends again. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from pixtail.core.errors import UsageError

Scalar: TypeAlias = int | float | str | bool
MAX_IDS = 10_000  # they stand in the state, which is written with every chunk
NULL = "null"


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows that have all of these values ("null" stands for NULL) and one of these keys, if there are any; at most `limit` of them.

    A key is its columns' JSON values in key order. Build it with `selected`; its JSON form is that of its fields.
    """

    where: Mapping[str, Scalar] = field(default_factory=dict)
    ids: tuple[tuple[Scalar, ...], ...] = ()
    limit: int | None = None

    def __str__(self) -> str:
        """What it chooses, for the people who chose it: values belong in no log."""
        named = [f"{column}={value}" for column, value in self.where.items()]
        if self.ids:
            named.append(f"{len(self.ids):,} ids" if len(self.ids) > 1 else f"id {','.join(map(str, self.ids[0]))}")
        if self.limit is not None:
            named.append(f"at most {self.limit:,}")
        return ", ".join(named) or "all rows"


EVERYTHING = Selection()


def selected(
    where: Mapping[str, Scalar] | None = None,
    ids: Iterable[Scalar | Sequence[Scalar]] = (),
    limit: int | None = None,
) -> Selection:
    """A selection; ids may be single values and repeat themselves. Raises `UsageError` for too many of them, and for a negative limit."""
    keys = tuple(dict.fromkeys(_key(value) for value in ids))
    if len(keys) > MAX_IDS:
        raise UsageError(f"{len(keys)} ids are too many for one back-fill", f"Send at most {MAX_IDS} at a time")
    if limit is not None and limit < 0:
        raise UsageError(f"the limit {limit} is negative")
    return Selection(dict(where or {}), keys, limit)


def _key(value: Scalar | Sequence[Scalar]) -> tuple[Scalar, ...]:
    return (value,) if isinstance(value, int | float | str) else tuple(value)
