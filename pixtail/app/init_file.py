"""The settings file that `init` writes: readable, complete, and for its owner's eyes only."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pixtail.app.init_proposal import Lookup, Proposal
from pixtail.core.errors import UsageError

Value: TypeAlias = str | bool | tuple[str, ...] | Mapping[str, str]

HEADER = """\
# Written by `pixtail init`. Every setting: docs/settings.md; the environment wins (PIXTAIL_MYSQL__URL and the like).
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the pictures are: the settings under [pictures], and what a reader should know of them."""

    settings: Mapping[str, Value]
    note: str = ""


def render(url: str | None, proposal: Proposal, place: Place, bootstrap: str) -> str:
    """The file's text. Without `url` it says where the address comes from instead."""
    database = (
        [_line("url", url)] if url else ['# url: set PIXTAIL_MYSQL__URL = "mysql://user:password@host:3306/database"']
    )
    pictures = [_line(name, value) for name, value in place.settings.items()]
    sections = {
        "mysql": database,
        "table": _table(proposal),
        "pictures": [*([_comment(place.note)] if place.note else []), *pictures],
        "kafka": [_line("bootstrap", bootstrap)],
        "qdrant": ['# url = "http://localhost:6333"  # without it: the embedded store in ./pixtail-data'],
    }
    return HEADER + "".join(
        f"\n[{name}]\n" + "".join(f"{line}\n" for line in lines) for name, lines in sections.items()
    )


def _table(proposal: Proposal) -> list[str]:
    key: Value = proposal.key if len(proposal.key) > 1 else proposal.key[0]
    lines = [_line("name", proposal.table), _line("key", key), _line("picture", proposal.picture)]
    if proposal.payload:
        lines += [_comment(f"Not in the points: {', '.join(proposal.left_out)}."), _line("payload", proposal.payload)]
    if proposal.rename is not None:
        lines.append(_line("rename", proposal.rename))
    if proposal.hidden_by:
        lines.append(_comment(f"Rows with a {proposal.hidden_by} can leave the index:"))
        lines.append(_comment(_line("only", {proposal.hidden_by: "null"})))
    return lines + [line for lookup in proposal.lookups for line in _lookup(lookup)]


def _lookup(lookup: Lookup) -> list[str]:
    values: dict[str, Value] = {"table": lookup.table, "key": lookup.key, "column": lookup.column, "take": lookup.take}
    return ["", "[[table.lookups]]", *(_line(name, value) for name, value in values.items())]


def _comment(text: str) -> str:
    """On one line, whatever stands in a name."""
    return "# " + "".join(character if character.isprintable() else " " for character in text)


def _line(name: str, value: Value) -> str:
    return f"{name} = {_toml(value)}"


def _toml(value: Value) -> str:
    """JSON's strings are TOML's basic strings, but for DEL, which TOML wants escaped too."""
    if isinstance(value, Mapping):
        return (
            "{ " + ", ".join(f"{_key(name)} = {_toml(inner)}" for name, inner in value.items()) + " }"
            if value
            else "{}"
        )
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(inner) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raises `UsageError` for a file that must not be overwritten, or a folder that is not there."""
    if path.exists() and not force:
        raise UsageError(f"{path} exists", "Name another file with --output, or overwrite it with --force")
    if not path.parent.is_dir():
        raise UsageError(f"the folder {path.parent} does not exist", "Make it, or name another file with --output")


def write(path: Path, text: str) -> None:
    """Whole or not at all, readable by the owner alone. Raises `UsageError`."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise UsageError(f"{path} cannot be written: {error.strerror}", "Name another file with --output") from None
