"""What a statement in the binlog does to the listened table. Pure.

Row changes come as row events; a statement (QUERY) is DDL, transaction control, or a write in STATEMENT format. Some statements add or
take rows without a row event: those must be acted on, or stop the listener. What a trigger does behind a write in STATEMENT format to
another table is not in the binlog at all, and cannot be seen here.

No statement is read further than it must be: of an INSERT of many megabytes only the first words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import chain, islice, pairwise, takewhile
from typing import TypeAlias

from ingest.tokens import Token, tokens

_HEAD_TOKENS = 16  # options and the first name fit


class Effect(Enum):
    """What becomes of the table or the transaction; the value names it for people."""

    NONE = "nothing"
    BEGIN = "BEGIN"
    COMMIT = "COMMIT"
    ROLLBACK = "ROLLBACK"
    TRUNCATED = "TRUNCATE TABLE"
    ALTERED = "ALTER TABLE"
    CREATED = "CREATE TABLE"
    APPEARED = "RENAME TABLE to its name"
    SWAPPED = "RENAME TABLE that puts another table in its place"
    DROPPED = "DROP TABLE"
    DATABASE_DROPPED = "DROP DATABASE"
    RENAMED = "RENAME TABLE"
    REPLACED = "CREATE OR REPLACE TABLE"
    PARTITION = "ALTER TABLE … PARTITION or TABLESPACE"
    IGNORING = "ALTER IGNORE TABLE"
    WRITTEN = "a write in STATEMENT format"


GONE = frozenset({Effect.DROPPED, Effect.DATABASE_DROPPED, Effect.RENAMED, Effect.REPLACED})
"""The table is away and its rows with it (REPLACED: an empty one stands in its place). The setting `table.on_drop` decides."""

STOPPING = frozenset({Effect.PARTITION, Effect.IGNORING, Effect.WRITTEN})
"""Rows come or go and no row event says which."""

ALTERING = GONE | {Effect.ALTERED, Effect.CREATED, Effect.APPEARED, Effect.SWAPPED}
"""The table is another one afterwards: it must be looked at again."""

REFILLED = frozenset({Effect.APPEARED, Effect.SWAPPED})
"""It may hold rows then that no row event brought: they must be read. Those of a CREATE TABLE … SELECT come in row events."""

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
_AS_A_PARTITION = {  # before our name, in an ALTER TABLE of another table
    ("WITH", "TABLE"): Effect.PARTITION,
    ("CONVERT", "TABLE"): Effect.RENAMED,
    ("TO", "TABLE"): Effect.APPEARED,
}
_MOVES = {  # is our name taken at the first step that touches it, is it at the last? It can only be taken while it is free.
    (False, False): Effect.RENAMED,
    (False, True): Effect.SWAPPED,
    (True, True): Effect.APPEARED,
    (True, False): Effect.NONE,
}

Name: TypeAlias = tuple[str, ...]
"""(table,) or (database, table)."""


@dataclass(frozen=True, slots=True)
class Target:
    """The listened table, and the database that an unqualified name means here.

    `folds_case`: names are compared without case, as the server does unless its lower_case_table_names is 0. Where that is not known,
    too much stops us rather than too little.
    """

    database: str
    table: str
    default: str
    folds_case: bool = True

    def is_named(self, name: Name) -> bool:
        database, table = name if len(name) == 2 else (self.default, *name)
        return self.is_in(database) and self._same(table, self.table)

    def is_in(self, database: str) -> bool:
        return self._same(database, self.database)

    def _same(self, one: str, other: str) -> bool:
        return one == other or (self.folds_case and one.casefold() == other.casefold())


Look: TypeAlias = Callable[[Iterator[Token], Target], Effect]
"""From the words behind the verb to what the statement does."""


def effect(statement: str, target: Target) -> Effect:
    """What `statement` does. DROP … IF EXISTS and CREATE … IF NOT EXISTS stand in the binlog even if they did nothing."""
    return _CONTROL.get(statement) or _effect(tokens(statement), target)


def _effect(words: Iterator[Token], target: Target) -> Effect:
    look = _LOOKS.get(_capitals(next(words, _NOTHING)))
    return look(words, target) if look else Effect.NONE


def moved(steps: Iterable[tuple[Name, Name]], target: Target) -> Effect:
    """What renaming tables, from the old name to the new one, step by step, does to ours."""
    taken = [
        is_new for step in steps for is_new, name in zip((False, True), step, strict=True) if target.is_named(name)
    ]
    return _MOVES[taken[0], taken[-1]] if taken else Effect.NONE


# Transaction control, and what may stand before the verb


def _begin(_words: Iterator[Token], _target: Target) -> Effect:
    return Effect.BEGIN


def _commit(_words: Iterator[Token], _target: Target) -> Effect:
    return Effect.COMMIT


def _rollback(_words: Iterator[Token], _target: Target) -> Effect:
    """ROLLBACK TO a savepoint, too."""
    return Effect.ROLLBACK


def _start(words: Iterator[Token], _target: Target) -> Effect:
    """START TRANSACTION, XA START, XA BEGIN."""
    return Effect.BEGIN if next(words, _NOTHING).is_word("TRANSACTION", "START", "BEGIN") else Effect.NONE


def _set(words: Iterator[Token], target: Target) -> Effect:
    """MariaDB's SET STATEMENT variable = value, … FOR statement."""
    if not next(words, _NOTHING).is_word("STATEMENT"):
        return Effect.NONE
    for word in words:
        if word.is_word("FOR"):
            return _effect(words, target)
    return Effect.NONE


def _analyze(words: Iterator[Token], target: Target) -> Effect:
    """MariaDB's ANALYZE [FORMAT = JSON] UPDATE updates."""
    for word in islice(words, 4):
        if word.is_word("INSERT", "REPLACE", "UPDATE", "DELETE"):
            return _LOOKS[_capitals(word)](words, target)
    return Effect.NONE


# Tables that come, go and change


def _truncate(words: Iterator[Token], target: Target) -> Effect:
    return Effect.TRUNCATED if target.is_named(_name(_after(_head(words), "TABLE"))) else Effect.NONE


def _drop(words: Iterator[Token], target: Target) -> Effect:
    kind = next(words, _NOTHING)
    names = map(_name, _items(words))
    if kind.is_word("DATABASE", "SCHEMA"):
        return Effect.DATABASE_DROPPED if target.is_in(next(names)[0]) else Effect.NONE
    if not kind.is_word("TABLE", "TABLES"):  # DROP TEMPORARY TABLE too
        return Effect.NONE
    return Effect.DROPPED if any(map(target.is_named, names)) else Effect.NONE


def _rename(words: Iterator[Token], target: Target) -> Effect:
    if not next(words, _NOTHING).is_word("TABLE", "TABLES"):
        return Effect.NONE
    return moved(((_name(item), _name(_behind(item, "TO"))) for item in _items(words)), target)


def _create(words: Iterator[Token], target: Target) -> Effect:
    """A temporary table is none of ours; MariaDB's CREATE OR REPLACE DATABASE drops what was there."""
    head = _head(words)
    rest = _after(head, "OR", "REPLACE")
    replaces, kind = len(rest) < len(head), rest[0] if rest else _NOTHING
    name = _name(_after(rest[1:], "IF", "NOT", "EXISTS"))
    if kind.is_word("DATABASE", "SCHEMA"):
        return Effect.DATABASE_DROPPED if replaces and target.is_in(name[0]) else Effect.NONE
    if not kind.is_word("TABLE") or not target.is_named(name):
        return Effect.NONE
    if any(
        word.is_word("SELECT") for word in chain(rest, words)
    ):  # ROW format writes the columns instead, and then the rows
        return Effect.WRITTEN
    return Effect.REPLACED if replaces else Effect.CREATED


def _alter(words: Iterator[Token], target: Target) -> Effect:
    options = list(takewhile(lambda word: not word.is_word("TABLE"), islice(words, 3)))
    if not all(option.is_word("ONLINE", "OFFLINE", "IGNORE") for option in options):  # ALTER DATABASE, ALTER VIEW, …
        return Effect.NONE
    rest = _after(list(words), "IF", "EXISTS")
    old = _name(rest)
    if (new := _new_name(rest)) is not None:
        return moved([(old, new)], target)
    if not target.is_named(old):
        return _alter_another(rest, target)
    if any(option.is_word("IGNORE") for option in options):  # may take rows that are equal in a unique key
        return Effect.IGNORING
    return Effect.PARTITION if any(pair in _ROWS_WITHOUT_EVENTS for pair in _pairs(rest)) else Effect.ALTERED


def _new_name(rest: Sequence[Token]) -> Name | None:
    """What follows RENAME [TO | AS | =], unless that renames a part of the table."""
    for at, (first, second) in enumerate(_pairs(rest)):
        if first == "RENAME" and second not in ("COLUMN", "INDEX", "KEY"):
            behind = _after(rest[at + 1 :], "TO", "AS")
            return _name(behind[1:] if behind and behind[0].is_sign("=") else behind)
    return None


def _alter_another(rest: Sequence[Token], target: Target) -> Effect:
    """Our table may become a partition of another one, or the other way round."""
    for at, pair in enumerate(_pairs(rest)):
        if pair in _AS_A_PARTITION and target.is_named(_name(rest[at + 2 :])):
            return _AS_A_PARTITION[pair]
    return Effect.NONE


# Writes in STATEMENT format


def _insert(words: Iterator[Token], target: Target) -> Effect:
    rest = _after(_head(words), "LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "IGNORE", "INTO")
    return Effect.WRITTEN if target.is_named(_name(rest)) else Effect.NONE


def _load(words: Iterator[Token], target: Target) -> Effect:
    """LOAD DATA INFILE … INTO TABLE."""
    return Effect.WRITTEN if target.is_named(_name(_after(_behind(_head(words), "INTO"), "TABLE"))) else Effect.NONE


def _write(words: Iterator[Token], target: Target) -> Effect:
    """UPDATE and DELETE may write several tables: any mention before their own SET or WHERE counts."""
    return _mentioning(list(_until_set_or_where(words)), target)


def _with(words: Iterator[Token], target: Target) -> Effect:
    """The UPDATE or DELETE follows behind queries: any mention counts."""
    return _mentioning(list(words), target)


def _select(_words: Iterator[Token], _target: Target) -> Effect:
    """A SELECT is written to the binlog only if it calls a function that writes, and which tables is not said."""
    return Effect.WRITTEN


def _until_set_or_where(words: Iterator[Token]) -> Iterator[Token]:
    """Those of a query in parentheses do not count."""
    depth = 0
    for word in words:
        depth += word.is_sign("(") - word.is_sign(")")
        if not depth and word.is_word("SET", "WHERE"):
            return
        yield word


def _mentioning(words: Sequence[Token], target: Target) -> Effect:
    names = (_name(words[at : at + 3]) for at, word in enumerate(words) if word.may_name and not _is_part(words, at))
    return Effect.WRITTEN if any(map(target.is_named, names)) else Effect.NONE


def _is_part(words: Sequence[Token], at: int) -> bool:
    """Of a qualified name, and not its first."""
    return at > 0 and words[at - 1].is_sign(".")


# Words

_NOTHING = Token("", "")


def _head(words: Iterator[Token]) -> list[Token]:
    return list(islice(words, _HEAD_TOKENS))


def _capitals(word: Token) -> str:
    """Empty for what is no plain word."""
    return word.text.upper() if word.kind == "word" else ""


def _pairs(words: Sequence[Token]) -> Iterator[tuple[str, str]]:
    """Neighbours, in capitals."""
    return pairwise(map(_capitals, words))


def _after(words: Sequence[Token], *skipped: str) -> Sequence[Token]:
    """What follows the leading `skipped` words."""
    at = 0
    while at < len(words) and words[at].is_word(*skipped):
        at += 1
    return words[at:]


def _behind(words: Sequence[Token], wanted: str) -> Sequence[Token]:
    """What follows the first `wanted` word; nothing if it is not there."""
    at = next((index for index, word in enumerate(words) if word.is_word(wanted)), len(words))
    return words[at + 1 :]


def _name(words: Sequence[Token]) -> Name:
    """The name that `words` begin with, behind IF EXISTS."""
    words = _after(words, "IF", "EXISTS")
    if len(words) > 2 and words[1].is_sign("."):
        return words[0].text, words[2].text
    return (words[0].text if words else "",)


def _items(words: Iterator[Token]) -> Iterator[list[Token]]:
    """A list, cut at its commas: `a, b.c` or `a TO b, c TO d`."""
    item: list[Token] = []
    for word in words:
        if word.is_sign(","):
            yield item
            item = []
        else:
            item.append(word)
    yield item


_LOOKS: dict[str, Look] = {
    "BEGIN": _begin,
    "START": _start,
    "COMMIT": _commit,
    "ROLLBACK": _rollback,
    "XA": _start,
    "SET": _set,
    "ANALYZE": _analyze,
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
    "WITH": _with,
    "SELECT": _select,
}
