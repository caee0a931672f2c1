"""From what a database holds to what Pixtail should follow: which table, which column, where its pictures are. Pure."""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

POINT_KEY = "image_id"  # what the key is called in a point, wherever there is room for that name
TEXT_TYPES = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext"})
_LARGE_TYPES = frozenset({"tinyblob", "blob", "mediumblob", "longblob", "varbinary", "vector"})
_TIME_TYPES = frozenset({"date", "datetime", "timestamp"})


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_PICTURE_WORDS = _set("image images img imgs picture pictures pic pics photo photos foto fotos bild bilder artwork")
_PLACE_WORDS = _set("path filepath url uri src file filename location href")
_SMALL_WORDS = _set("thumb thumbnail avatar icon logo favicon small preview")
_PICTURE_TABLES = _PICTURE_WORDS | _set("media gallery galleries assets asset uploads upload")
_SIDE_TABLES = _set(
    "log logs audit audits history backup backups bak tmp temp old archive migrations session sessions cache queue jobs user users"
)
_SECRET_WORDS = _set("password passwd pwd secret token salt apikey")
_NAMING_COLUMNS = re.compile(r"(^|_)(name|title|label)$", re.IGNORECASE)
_EXTENSION = re.compile(r"\.(jpe?g|jfif|png|gif|webp|bmp|tiff?|avif|heic|heif)$", re.IGNORECASE)
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_CLOSE = 3  # points between two choices that are both sensible


@dataclass(frozen=True, slots=True)
class Column:
    """`samples`: some values that are neither NULL nor empty, cut to a thousand characters; only text columns have them."""

    name: str
    data_type: str
    nullable: bool = True
    samples: tuple[str, ...] = ()

    @property
    def is_text(self) -> bool:
        return self.data_type in TEXT_TYPES


@dataclass(frozen=True, slots=True)
class TableFacts:
    """`references`: column → table, by foreign key."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    rows: int = 0
    references: Mapping[str, str] = field(default_factory=dict)

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A column that may hold the pictures' places; the higher the `score`, the likelier."""

    table: TableFacts
    column: Column
    score: float

    def __str__(self) -> str:
        example = f", such as {shortened(self.column.samples[0])}" if self.column.samples else ""
        return f"{self.table.name}.{self.column.name} (about {self.table.rows} rows{example})"


@dataclass(frozen=True, slots=True)
class Lookup:
    """A column that points into another table, that table's key, and its columns with a name in them → what they are called in the
    point."""

    column: str
    table: str
    key: str
    take: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Proposal:
    """The settings under [table]. `payload` is empty for all columns; `left_out` says which are not in it. `hidden_by`: a column that
    marks rows as deleted."""

    table: str
    key: tuple[str, ...]
    picture: str
    payload: tuple[str, ...]
    left_out: tuple[str, ...]
    rename: Mapping[str, str] | None
    lookups: tuple[Lookup, ...]
    hidden_by: str | None


# Which column


def candidates(tables: Iterable[TableFacts]) -> list[Candidate]:
    """Every column that may hold pictures, the likeliest first."""
    found = (
        Candidate(table, column, score(table, column)) for table in tables for column in table.columns if column.is_text
    )
    return sorted(
        (one for one in found if one.score > 0), key=lambda one: (-one.score, one.table.name, one.column.name)
    )


def close(choices: Sequence[Candidate]) -> list[Candidate]:
    """Those that are about as likely as the first, itself included."""
    return [choice for choice in choices if choice.score >= choices[0].score - _CLOSE]


def score(table: TableFacts, column: Column) -> float:
    """What the values say counts most; 0 for a column that cannot be it."""
    by_name = _name_score(column.name)
    if column.samples:
        share = sum(is_picture(value, named=by_name > 0) for value in column.samples) / len(column.samples)
        if share < 0.5:
            return 0
        return max(0.1, 10 * share + by_name + _table_score(table))
    likely = by_name >= 2 or (by_name == 1 and _table_score(table) > 0)
    return max(0.0, by_name + _table_score(table)) if likely and not table.rows else 0


def _name_score(name: str) -> int:
    found = words(name)
    picture, places = found & _PICTURE_WORDS, found & _PLACE_WORDS
    small = 3 if found & _SMALL_WORDS else 0
    if (picture and places) or len(places) > 1 or found & {"filepath", "filename"}:
        return 3 - small
    return (2 if picture else 1 if places else 0) - small


def _table_score(table: TableFacts) -> int:
    found = words(table.name)
    liked = 4 if found & _PICTURE_TABLES else 0
    return liked - (6 if found & _SIDE_TABLES else 0) - (0 if table.key else 3)


def words(name: str) -> set[str]:
    """`imageUrl`, `image_url` and `IMAGE-URL` are the same two words."""
    return {word.lower() for word in _WORDS.findall(name)}


def is_picture(value: str, *, named: bool) -> bool:
    """Does it look like a picture's path or URL? An address without any extension counts if the column's `name` says so."""
    if _EXTENSION.search(re.split(r"[?#]", value.strip())[0]):
        return True
    address = urlsplit_or_none(value)
    return named and address is not None and "." not in posixpath.basename(address.path)


def urlsplit_or_none(value: str) -> SplitUrl | None:
    try:
        parts = urlsplit(value.strip())
        return SplitUrl(parts.scheme.lower(), parts.hostname, parts.path) if parts.scheme and parts.hostname else None
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class SplitUrl:
    scheme: str
    host: str
    path: str


# The rest of [table]


def propose(chosen: Candidate, tables: Sequence[TableFacts]) -> Proposal:
    """The settings for a table with a primary key."""
    table = chosen.table
    left_out = tuple(column.name for column in table.columns if _is_left_out(column, table))
    kept = tuple(column.name for column in table.columns if column.name not in left_out)
    return Proposal(
        table=table.name,
        key=table.key,
        picture=chosen.column.name,
        payload=kept if left_out else (),
        left_out=left_out,
        rename=_rename(table),
        lookups=tuple(look for look in lookups(table, tables) if look.column in kept),
        hidden_by=next((column.name for column in table.columns if _hides(column)), None),
    )


def _is_left_out(column: Column, table: TableFacts) -> bool:
    return column.name not in table.key and (
        column.data_type in _LARGE_TYPES or bool(words(column.name) & _SECRET_WORDS)
    )


def _rename(table: TableFacts) -> dict[str, str] | None:
    """None: what is so by default, `id` becomes `image_id`, is right. What is set is added to that default: `id = "id"` undoes it."""
    has_room, has_id = table.column(POINT_KEY) is None, table.column("id") is not None
    if has_room and (len(table.key) != 1 or table.key == ("id",)):
        return None
    key = {table.key[0]: POINT_KEY} if has_room else {}
    return {**key, **({"id": "id"} if has_id else {})} or None


def _hides(column: Column) -> bool:
    return column.nullable and column.data_type in _TIME_TYPES and "deleted" in words(column.name)


def lookups(table: TableFacts, tables: Sequence[TableFacts]) -> Iterable[Lookup]:
    """By foreign key, and by name: `brand_id` points into `brand` or `brands`. Their names are called `brand_name` and the like, unless
    there is such a column already."""
    by_name = {other.name.lower(): other for other in tables}
    taken = {POINT_KEY, *(column.name for column in table.columns)}
    for column in table.columns:
        target = table.references.get(column.name)
        guesses = [target] if target else _plurals(column.name)
        other = next((by_name[guess.lower()] for guess in guesses if guess.lower() in by_name), None)
        if other is None or other.name == table.name or len(other.key) != 1:
            continue
        names = [one.name for one in other.columns if one.is_text and _NAMING_COLUMNS.search(one.name)]
        take = {name: f"{_stem(column.name)}_{name}" for name in names}
        if take and not taken & set(take.values()):
            taken |= set(take.values())
            yield Lookup(column.name, other.name, other.key[0], take)


def _stem(column: str) -> str:
    return re.sub(r"_?id$", "", column, flags=re.IGNORECASE)


def _plurals(column: str) -> list[str]:
    stem = _stem(column)
    if stem in ("", column):
        return []
    return [stem, f"{stem}s", f"{stem}es", re.sub(r"y$", "ies", stem)]


# Where the pictures are

Kind: TypeAlias = Literal["address", "object", "absolute", "relative", "unknown"]


@dataclass(frozen=True, slots=True)
class Shape:
    """What most values are. `folder`: the deepest folder that absolute paths share. `hosts` and `private` are of addresses."""

    kind: Kind
    folder: str = ""
    hosts: tuple[str, ...] = ()
    private: bool = False


def shape_of(samples: Sequence[str]) -> Shape:
    """By majority."""
    kinds = [_kind(value) for value in samples]
    if not kinds:
        return Shape("unknown")
    most = max(sorted(set(kinds)), key=kinds.count)
    values = [value for value, kind in zip(samples, kinds, strict=True) if kind == most]
    if most == "absolute":
        return Shape(most, folder=posixpath.commonpath([posixpath.dirname(value) for value in values]))
    addresses = [address for value in values if (address := urlsplit_or_none(value))]
    hosts = tuple(sorted({address.host for address in addresses}))
    return Shape(most, hosts=hosts, private=any(map(_is_private, hosts)))


def _kind(value: str) -> Kind:
    address = urlsplit_or_none(value)
    if address is not None:
        return "address" if address.scheme in ("http", "https") else "object"
    return "absolute" if value.startswith("/") else "relative"


def _is_private(host: str) -> bool:
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False


def shortened(value: str, length: int = 60) -> str:
    """For a person's eyes; without the signature that an address may carry."""
    value = value.partition("?")[0]
    return value if len(value) <= length else f"{value[: length - 1]}…"
