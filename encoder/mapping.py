"""From a row to the point it asks for, as the settings say: pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from encoder.plan import Remove, Wanted
from pixtail.core.changes import Change, Op, Row, Tombstone
from pixtail.core.errors import PictureError, Reason
from pixtail.core.points import Payload, is_bookkeeping
from pixtail.core.settings import Table

NULL = "null"  # how `table.only` writes SQL's NULL: TOML has none
_TRUTH = {"true": "1", "false": "0"}  # how MySQL keeps BOOLEAN


def wanted(entry: Change | Tombstone, table: Table, names: Callable[[Row], Payload]) -> Wanted | Remove:
    """The point that this version of the row asks for, or why there is to be none. `names`: what lookups add to the columns.

    Raises `PictureError`: `malformed` for a record that lacks the row or a column the settings name (it says nothing about the picture, so
    nothing may be deleted for it), `unsupported` for a picture column that holds no text.
    """
    if isinstance(entry, Tombstone) or entry.op is Op.DELETE:
        return Remove("deleted")
    row = entry.after
    if not isinstance(row, Mapping):
        raise PictureError(Reason.MALFORMED, f"the record of operation {entry.op.value!r} carries no row")
    ref = _column(row, table.picture, "picture")
    if not matches(row, table.only):
        return Remove("not_wanted")
    if ref is None or ref == "":
        return Remove("no_picture")
    if not isinstance(ref, str):
        raise PictureError(Reason.UNSUPPORTED, f"column {table.picture} holds no text but {type(ref).__name__}")
    return Wanted(ref, {**payload(row, table), **names(row)})


def payload(row: Row, table: Table) -> dict[str, Any]:
    """The columns shown with the point: those of `table.payload` (all by default) that the row has, under their new names."""
    columns = table.payload or tuple(row)
    named = {table.point_name(column): row[column] for column in columns if column in row}
    return {name: value for name, value in named.items() if not is_bookkeeping(name)}


def matches(row: Row, only: Mapping[str, Any]) -> bool:
    """True if every column of `only` has (one of) the value(s) given there. Raises as `wanted` does for a column that is missing."""
    return all(_is_one_of(_column(row, name, "only"), allowed) for name, allowed in only.items())


def _is_one_of(value: Any, allowed: Any) -> bool:
    choices = allowed if isinstance(allowed, tuple | list) else (allowed,)
    return any(_equal(value, choice) for choice in choices)


def _equal(value: Any, choice: Any) -> bool:
    """Texts as texts, anything else by its number if it has one: a DECIMAL arrives as "1.50" and TOML says 1.5, a BOOLEAN arrives as 1, and
    an environment variable says "true"."""
    if value is None:
        return bool(choice == NULL)
    if isinstance(value, str) and isinstance(choice, str):
        return value == choice
    number = _number(value)
    return str(value) == str(choice) if number is None else number == _number(choice)


def _number(value: Any) -> Decimal | None:
    text = str(value).lower()
    try:
        return Decimal(_TRUTH.get(text, text))
    except InvalidOperation:
        return None


def _column(row: Row, name: str, setting: str) -> Any:
    """A typing error in the settings must not look like rows that have left the index."""
    if name not in row:
        raise PictureError(
            Reason.MALFORMED, f"the row has no column {name}", f"Correct table.{setting}, then retry the dead letters"
        )
    return row[name]
