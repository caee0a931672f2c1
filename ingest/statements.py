"""What a statement in the binlog does to the listened table. Pure.

Row changes come as row events; a statement (QUERY) is DDL, transaction control, or a write in STATEMENT format. Some statements add or
take rows without a row event: those must be acted on, or stop the listener. What a trigger does behind a write in STATEMENT format to
another table is not in the binlog at all, and cannot be seen here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice, pairwise, takewhile

from ingest.tokens import Token, tokens

_MOST_TOKENS = 20_000


class Effect(Enum):
    """What becomes of the table or the transaction; the value names it for people."""

    NONE = "nothing"
    BEGIN = "BEGIN"
    COMMIT = "COMMIT"
    ROLLBACK = "ROLLBACK"
    TRUNCATED = "TRUNCATE TABLE"
    ALTERED = "ALTER TABLE"
    DROPPED = "DROP TABLE"
    DATABASE_DROPPED = "DROP DATABASE"
    RENAMED = "RENAME TABLE"
    REPLACED = "CREATE OR REPLACE TABLE"
    PARTITION = "ALTER TABLE … PARTITION or TABLESPACE"
    WRITTEN = "a write in STATEMENT format"


STOPPING = frozenset(
    {Effect.DROPPED, Effect.DATABASE_DROPPED, Effect.RENAMED, Effect.REPLACED, Effect.PARTITION, Effect.WRITTEN}
)
"""Rows come or go and no row event says which."""

_CONTROL = {"BEGIN": Effect.BEGIN, "COMMIT": Effect.COMMIT, "ROLLBACK": Effect.ROLLBACK}
_ROWS_WITHOUT_EVENTS = {
    ("TRUNCATE", "PARTITION"),
    ("DROP", "PARTITION"),
    ("EXCHANGE", "PARTITION"),
    ("CONVERT", "PARTITION"),
    ("CONVERT", "TABLE"),
    ("DISCARD", "TABLESPACE"),
    ("IMPORT", "TABLESPACE"),
    ("DISCARD", "PARTITION"),
    ("IMPORT", "PARTITION"),
}


@dataclass(frozen=True, slots=True)
class Target:
    """The listened table, and the database that an unqualified name means here."""

    database: str
    table: str
    default: str

    def is_named(self, name: tuple[str, ...]) -> bool:
        """Names are compared without case: where `Images` and `images` are two tables, too much stops us rather than too little."""
        full = name if len(name) == 2 else (self.default, *name)
        return [part.casefold() for part in full] == [self.database.casefold(), self.table.casefold()]


def effect(statement: str, target: Target) -> Effect:
    """What `statement` does."""
    if statement in _CONTROL:
        return _CONTROL[statement]
    words = list(islice(tokens(statement), _MOST_TOKENS))
    if not words:
        return Effect.NONE
    look = _LOOKS.get(words[0].text.upper())
    return look(words, target) if look else Effect.NONE


def _control(words: Sequence[Token], _target: Target) -> Effect:
    """BEGIN, START TRANSACTION, XA START; COMMIT; ROLLBACK and ROLLBACK TO a savepoint."""
    first = words[0].text.upper()
    if first in _CONTROL:
        return _CONTROL[first]
    return Effect.BEGIN if len(words) > 1 and words[1].is_word("TRANSACTION", "START", "BEGIN") else Effect.NONE


def _truncate(words: Sequence[Token], target: Target) -> Effect:
    return Effect.TRUNCATED if target.is_named(_name(_after(words[1:], "TABLE"))) else Effect.NONE


def _drop(words: Sequence[Token], target: Target) -> Effect:
    if words[1].is_word("DATABASE", "SCHEMA"):
        name = _name(_after(words[2:], "IF", "EXISTS"))
        return Effect.DATABASE_DROPPED if name[-1].casefold() == target.database.casefold() else Effect.NONE
    if not words[1].is_word("TABLE", "TABLES"):  # DROP TEMPORARY TABLE too
        return Effect.NONE
    return Effect.DROPPED if any(map(target.is_named, _names(words[2:]))) else Effect.NONE


def _rename(words: Sequence[Token], target: Target) -> Effect:
    if not words[1].is_word("TABLE", "TABLES"):
        return Effect.NONE
    return Effect.RENAMED if any(map(target.is_named, _names(words[2:]))) else Effect.NONE


def _alter(words: Sequence[Token], target: Target) -> Effect:
    rest = _after(words[1:], "ONLINE", "OFFLINE", "IGNORE")
    if not rest or not rest[0].is_word("TABLE"):
        return Effect.NONE
    rest = _after(rest[1:], "IF", "EXISTS")
    pairs = list(pairwise(rest))
    if not target.is_named(_name(rest)):
        exchanged = (_name(rest[i + 2 :]) for i, (a, b) in enumerate(pairs) if a.is_word("WITH") and b.is_word("TABLE"))
        return Effect.PARTITION if any(map(target.is_named, exchanged)) else Effect.NONE
    if any(a.is_word("RENAME") and not b.is_word("COLUMN", "INDEX", "KEY") for a, b in pairs):
        return Effect.RENAMED
    if any((a.text.upper(), b.text.upper()) in _ROWS_WITHOUT_EVENTS for a, b in pairs if a.kind == b.kind == "word"):
        return Effect.PARTITION
    return Effect.ALTERED


def _create(words: Sequence[Token], target: Target) -> Effect:
    """A plain CREATE TABLE makes a table that was not there."""
    opening = [word.text.upper() for word in words[1:4]]
    if opening != ["OR", "REPLACE", "TABLE"]:
        return Effect.NONE
    return Effect.REPLACED if target.is_named(_name(words[4:])) else Effect.NONE


def _insert(words: Sequence[Token], target: Target) -> Effect:
    rest = _after(words[1:], "LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "IGNORE", "INTO")
    return Effect.WRITTEN if target.is_named(_name(rest)) else Effect.NONE


def _load(words: Sequence[Token], target: Target) -> Effect:
    places = (i for i, word in enumerate(words) if word.is_word("TABLE") and words[i - 1].is_word("INTO"))
    return Effect.WRITTEN if any(target.is_named(_name(words[i + 1 :])) for i in places) else Effect.NONE


def _write(words: Sequence[Token], target: Target) -> Effect:
    """UPDATE, DELETE and WITH may write several tables: any mention before SET or WHERE counts."""
    head = (
        list(takewhile(lambda word: not word.is_word("SET", "WHERE"), words))
        if words[0].text.upper() != "WITH"
        else words
    )
    names = (_name(head[i:]) for i, word in enumerate(head) if word.may_name and not _is_qualified(head, i))
    return Effect.WRITTEN if any(map(target.is_named, names)) else Effect.NONE


def _is_qualified(words: Sequence[Token], index: int) -> bool:
    return index > 0 and words[index - 1].is_sign(".")


def _after(words: Sequence[Token], *skipped: str) -> Sequence[Token]:
    """What follows the leading `skipped` words."""
    at = 0
    while at < len(words) and words[at].is_word(*skipped):
        at += 1
    return words[at:]


def _name(words: Sequence[Token]) -> tuple[str, ...]:
    """The name that `words` begin with: (table,) or (database, table)."""
    if len(words) > 2 and words[1].is_sign("."):
        return words[0].text, words[2].text
    return (words[0].text if words else "",)


def _names(words: Sequence[Token]) -> list[tuple[str, ...]]:
    """Every table in a list such as `a, b.c` or `a TO b, c TO d`."""
    rest = _after(words, "IF", "EXISTS")
    starts = (i for i, word in enumerate(rest) if i == 0 or rest[i - 1].is_sign(",") or rest[i - 1].is_word("TO"))
    return [_name(rest[i:]) for i in starts]


_LOOKS = {
    "BEGIN": _control,
    "START": _control,
    "COMMIT": _control,
    "ROLLBACK": _control,
    "XA": _control,
    "TRUNCATE": _truncate,
    "DROP": _drop,
    "RENAME": _rename,
    "ALTER": _alter,
    "CREATE": _create,
    "INSERT": _insert,
    "REPLACE": _insert,
    "LOAD": _load,
    "UPDATE": _write,
    "DELETE": _write,
    "WITH": _write,
}
