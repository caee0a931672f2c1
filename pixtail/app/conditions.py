"""`--where COLUMN=VALUE`, as the commands take it."""

from __future__ import annotations

from pixtail.core.errors import UsageError


def column_and_value(text: str) -> tuple[str, str]:
    """The value as it stands, spaces included. Raises `UsageError`."""
    column, sign, value = text.partition("=")
    if not sign or not column.strip():
        raise UsageError(f"--where {text} is no COLUMN=VALUE", "Write --where category=car, or --where deleted_at=null")
    return column.strip(), value
