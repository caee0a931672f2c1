"""The settings: `pixtail.toml`, then the environment (`PIXTAIL_<SECTION>__<FIELD>`), built once and passed down frozen.

Unknown keys are errors. Secrets are `SecretStr` or fields without a repr: they never reach a log. The upload app's own variable names
(`QDRANT_URL`, `CLIP_MODEL`, …) are read too; the program's own names outrank them.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pixtail.core.errors import SettingError

CONFIG_FILE = Path("pixtail.toml")
ENV_PREFIX = "PIXTAIL_"

# What the upload app calls things: variable → section, field.
ALIASES = {
    "QDRANT_URL": ("qdrant", "url"),
    "QDRANT_COLLECTION": ("qdrant", "collection"),
    "CLIP_MODEL": ("model", "name"),
    "CLIP_REFERENCE_PROJECT": ("model", "name"),  # a local model folder outranks the hub id, as it does in the app
    "BATCH_SIZE": ("model", "batch"),
    "BATCH_DELAY": ("model", "max_wait_ms"),
}


@dataclass(frozen=True, slots=True)
class MysqlAddress:
    """Where the database is and who asks. `options` are the URL's query (`ssl_ca`, `ssl_mode`, …)."""

    host: str
    port: int
    user: str
    database: str
    password: str = field(repr=False, default="")
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}/{self.database}"


def parse_mysql_url(url: str) -> MysqlAddress:
    """`mysql://user:password@host:3306/db?ssl_ca=…`. Raises `ValueError` that does not repeat the password."""
    try:
        parts = urlsplit(url)
        port = parts.port or 3306
    except ValueError:
        raise ValueError("it is no URL; write mysql://user:password@host:3306/database") from None
    database = unquote(parts.path.strip("/"))
    if (
        parts.scheme not in ("mysql", "mariadb")
        or not parts.hostname
        or not parts.username
        or not database
        or "/" in database
    ):
        raise ValueError("write mysql://user:password@host:3306/database")
    return MysqlAddress(
        host=parts.hostname,
        port=port,
        user=unquote(parts.username),
        database=database,
        password=unquote(parts.password or ""),
        options=dict(parse_qsl(parts.query)),
    )


IndexType: TypeAlias = Literal["auto", "keyword", "integer", "float", "bool", "datetime", "text", "uuid"]
"""Qdrant's own names; `auto`: told by the first value that is written."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)  # an input may be a secret


class Mysql(Section):
    url: SecretStr = SecretStr("mysql://root@127.0.0.1:3306/app")
    """mysql://user:password@host:3306/db, TLS by query: ?ssl_ca=…&ssl_mode=…"""
    server_id: int | None = Field(None, ge=1, lt=1 << 32)
    """Replication id, unique among the server's replicas; unset: derived from database, table and prefix."""
    flavour: Literal["auto", "mysql", "mariadb"] = "auto"

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: SecretStr) -> SecretStr:
        parse_mysql_url(value.get_secret_value())
        return value

    @property
    def address(self) -> MysqlAddress:
        return parse_mysql_url(self.url.get_secret_value())


class Lookup(Section):
    """A table whose rows have names for the keys that stand in a column of ours."""

    table: str = Field(min_length=1)
    """Its name, in the same database."""
    key: str = Field("id", min_length=1)
    """Its primary key: one column."""
    column: str = Field(min_length=1)
    """The column of the followed table that holds such a key."""
    take: Mapping[str, str] = Field(min_length=1)
    """Its columns that go into the point → their names there."""


class Table(Section):
    name: str = "images"
    key: str | tuple[str, ...] = "id"
    """The primary key's column, or a list of its columns in key order."""
    picture: str = Field("file_path", min_length=1)
    """The column that holds the picture's path or URL."""
    payload: tuple[str, ...] = ()
    """Columns that go into the point; empty: all of them."""
    rename: Mapping[str, str] = {"id": "image_id"}
    """Column → name in the point."""
    only: Mapping[str, tuple[str | int | float | bool, ...] | str | int | float | bool] = {}
    """Rows to index: column → value or list of values ("null" stands for NULL). A row that stops matching leaves the index."""
    lookups: tuple[Lookup, ...] = ()
    """Tables with names for the keys that stand in columns of this one."""
    on_drop: Literal["stop", "empty"] = "stop"
    """When the table is dropped or renamed away: stop and say so, or empty the index and wait for a table of that name."""

    @field_validator("key")
    @classmethod
    def _names_columns(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        columns = (value,) if isinstance(value, str) else value
        if not all(columns) or not len(set(columns)) == len(columns) > 0:
            raise ValueError("name the primary key's column, or list its columns in key order, each once")
        return value

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The primary key's columns in key order, however many there are."""
        return (self.key,) if isinstance(self.key, str) else self.key

    @property
    def is_lookup(self) -> bool:
        """True of a table that is followed for its names alone: it has no pictures."""
        return not self.picture

    def point_name(self, column: str) -> str:
        """What a column is called in the point."""
        return self.rename.get(column, column)

    @property
    def lookup_columns(self) -> tuple[str, ...]:
        """The columns by which names are written into the points, as they are called there: an index of each makes that fast."""
        return tuple(dict.fromkeys(self.point_name(lookup.column) for lookup in self.lookups))

    def clash(self, columns: Iterable[str]) -> str | None:
        """The name that a lookup gives and that one of these columns, or another lookup, has in the point already; None if all is well."""
        seen = {self.point_name(column) for column in columns}
        for name in (name for lookup in self.lookups for name in lookup.take.values()):
            if name in seen:
                return name
            seen.add(name)
        return None

    @model_validator(mode="after")
    def _can_be_looked_up(self) -> Self:
        """As far as it can be told without the database; `doctor` looks at the rest."""
        if problem := next(_misfits(self), None):
            raise ValueError(f"lookups {problem}")
        return self


def _misfits(table: Table) -> Iterator[str]:
    """What is wrong with a table's lookups."""
    keys: dict[str, str] = {}
    for lookup in table.lookups:
        yield from _misfits_of(lookup, table)
        if keys.setdefault(lookup.table, lookup.key) != lookup.key:
            yield f"name two keys of {lookup.table}: {keys[lookup.table]} and {lookup.key}"
    if len({(lookup.table, lookup.column) for lookup in table.lookups}) < len(table.lookups):
        yield "name a table twice for the same column: put what they take into one"
    known = table.payload or {*table.key_columns, table.picture, *table.rename, *table.only}
    if name := table.clash({*known, *(lookup.column for lookup in table.lookups)}):
        yield f"take {name}, which stands in the point already: give it another name"


def _misfits_of(lookup: Lookup, table: Table) -> Iterator[str]:
    name = table.point_name(lookup.column)
    if lookup.table == table.name:
        yield f"name {table.name}, which is the table itself"
    if table.payload and lookup.column not in table.payload:
        yield f"go by the column {lookup.column}, which payload leaves out"
    if '"' in name:
        yield f"cannot go by {name}: its name has a quotation mark"
    if any(taken.startswith("_sync") for taken in lookup.take.values()):
        yield "take a name that begins with _sync: those are the bookkeeping's"


class Kafka(Section):
    bootstrap: str = "localhost:9092"
    """host:port, several with commas."""
    prefix: str = Field("pixtail", pattern=r"^[A-Za-z0-9._-]{1,100}$")
    partitions: int = Field(6, ge=1, le=1000)
    replication: Literal["auto"] | int = "auto"
    """Replication factor of new topics; auto: 3, or the number of brokers if there are fewer."""
    leader_timeout_s: float = Field(6, ge=0.5, le=300)
    """How long the leading listener may be silent before a standby takes over. Brokers take no less than their
    group.min.session.timeout.ms, 6 s by default."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    ssl_cafile: str | None = None
    """PEM file of the CA that signed the brokers' certificates; unset: the system's CAs. Host names are always checked."""
    ssl_certfile: str | None = None
    """PEM file of the client's certificate, and of the CAs between it and one that the brokers know."""
    ssl_keyfile: str | None = None
    """PEM file of its key, which is not encrypted; unset: the key stands in `ssl_certfile`."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Half a set of options would be a connection less safe than somebody believes, or a refusal much later."""
        sasl = {name: getattr(self, name) for name in ("sasl_mechanism", "sasl_username", "sasl_password")}
        tls = {name: getattr(self, name) for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile")}
        _all_or_none(sasl, self.security_protocol, self.security_protocol.startswith("SASL_"))
        if not self.security_protocol.endswith("SSL"):
            _all_or_none(tls, self.security_protocol, needed=False)
        if self.ssl_keyfile and not self.ssl_certfile:
            raise ValueError("ssl_keyfile needs ssl_certfile")
        return self


def _all_or_none(fields: Mapping[str, object], protocol: str, needed: bool) -> None:
    wrong = [name for name, value in fields.items() if (value is None) is needed]
    if wrong:
        raise ValueError(f"security_protocol {protocol} {'needs' if needed else 'makes no use of'} {wrong[0]}")


class Pictures(Section):
    root: Path = Path()
    """Relative paths in the picture column start here; nothing outside is read."""
    base_url: str | None = None
    """If set, relative paths are fetched below this URL instead."""
    allow_hosts: tuple[str, ...] = ()
    """If set, URLs of other hosts are refused."""
    allow_private: bool = False
    """May URLs lead to private, loopback or link-local addresses?"""
    max_bytes: int = Field(32 << 20, ge=1)
    max_pixels: int = Field(100_000_000, ge=1)
    timeout_s: float = Field(10, gt=0)


class Model(Section):
    name: str = "openai/clip-vit-base-patch32"
    """Hub id, folder, or `tiny-clip`: the small model that ships with the package."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    batch: int = Field(16, ge=1, le=4096)
    max_wait_ms: int = Field(50, ge=0)
    """How long a batch may wait to fill."""


class Qdrant(Section):
    url: str | None = None
    """Unset: the embedded store in `path`."""
    api_key: SecretStr | None = None
    ssl_cafile: str | None = None
    """PEM file of the CA that signed the server's certificate; unset: the system's CAs. Host names are always checked."""
    ssl_certfile: str | None = None
    """PEM file of the client's certificate, for a server that asks for one."""
    ssl_keyfile: str | None = None
    """PEM file of its key, which is not encrypted; unset: the key stands in `ssl_certfile`."""
    collection: str = Field("images", pattern=r"^[A-Za-z0-9._-]{1,200}$")
    """An alias; the collection behind it is named after the model too."""
    path: Path = Path("pixtail-data")
    grpc: bool = True
    indexes: Mapping[str, IndexType] = {}
    """Payload column → type of its index, on a server. A list of columns: their first values tell the types."""
    datatype: Literal["float32", "float16"] = "float32"
    """How a new collection keeps numbers of vectors."""
    quantization: Literal["none", "scalar", "binary"] = "none"
    """Of a new collection on a server: smaller copies of the vectors that are searched first."""
    on_disk: bool = False
    """Whether a new collection on a server keeps vectors and their graph on disk rather than in memory."""
    on_disk_payload: bool | None = None
    """The same for payloads; unset: as the server does."""
    shard_number: int | None = Field(None, ge=1, le=1000)
    replication_factor: int | None = Field(None, ge=1, le=100)
    write_consistency_factor: int | None = Field(None, ge=1, le=100)
    """Of a new collection; unset: as the server does."""

    @field_validator("indexes", mode="before")
    @classmethod
    def _with_types(cls, value: object) -> object:
        return dict.fromkeys(value, "auto") if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _key_has_certificate(self) -> Self:
        if self.ssl_keyfile and not self.ssl_certfile:
            raise ValueError("ssl_keyfile needs ssl_certfile")
        return self


class Metrics(Section):
    host: str = "127.0.0.1"
    port: int = Field(9108, ge=0, le=65535)


class Api(Section):
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    token: SecretStr | None = None
    """Unset: only loopback may write, or take out the whole index."""


class Verify(Section):
    every: str = Field("never", pattern=r"^(never|[1-9][0-9]{0,5}[smhd])$")
    """How often `run` compares table and index, such as 24h or 7d."""

    @property
    def every_s(self) -> float | None:
        """None: never."""
        return None if self.every == "never" else int(self.every[:-1]) * float(_UNITS_S[self.every[-1]])


_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Settings(BaseSettings):
    """All sections, frozen. Build it with `load`."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        nested_model_default_partial_update=True,
    )

    mysql: Mysql = Mysql()
    table: Table = Table()
    kafka: Kafka = Kafka()
    pictures: Pictures = Pictures()
    model: Model = Model()
    qdrant: Qdrant = Qdrant()
    metrics: Metrics = Metrics()
    api: Api = Api()
    verify: Verify = Verify()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment outranks the file, which comes in as the initial values."""
        return (env_settings, init_settings)

    @property
    def source(self) -> str:
        """`<db>.<table>`: the name of what is captured."""
        return f"{self.mysql.address.database}.{self.table.name}"

    @property
    def of_lookups(self) -> tuple[Settings, ...]:
        """The settings to follow each table that is looked up, once: by its own name and key, and without a picture.

        A `mysql.server_id` that was set counts on from there: each listener is a replica of its own.
        """
        keys = {lookup.table: lookup.key for lookup in self.table.lookups}
        return tuple(self._of_lookup(name, key, number) for number, (name, key) in enumerate(keys.items(), start=1))

    def _of_lookup(self, name: str, key: str, number: int) -> Settings:
        table = Table(name=name, key=key, rename={}, on_drop=self.table.on_drop).model_copy(update={"picture": ""})
        server_id = self.mysql.server_id and self.mysql.server_id + number
        mysql = self.mysql.model_copy(update={"server_id": server_id})
        return self.model_copy(update={"table": table, "mysql": mysql})

    @property
    def server_id(self) -> int:
        """The replication id: the one that was set, else one derived from who we are, in a range that people rarely use."""
        derived = hashlib.sha256(f"{self.kafka.prefix}|{self.source}".encode()).digest()
        return self.mysql.server_id or 1_000_000_000 + int.from_bytes(derived[:4], "big") % 3_000_000_000


def load(config: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of `config` (default: pixtail.toml here, if there is one) and the environment.

    Raises `SettingError` that names the key, the file or variable it stands in, and what is expected.
    """
    environ = os.environ if environ is None else environ
    _refuse_unknown_sections(environ)
    values = _from_aliases(environ)
    for section, fields in _read(config).items():
        values[section] = {**values.get(section, {}), **fields} if isinstance(fields, dict) else fields
    try:
        return Settings(**values)
    except ValidationError as error:
        raise _setting_error(error, config) from None


def _read(config: Path | None) -> dict[str, Any]:
    path = config or CONFIG_FILE
    if config is None and not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise SettingError(f"the settings file {path} does not exist", "Name an existing file with --config") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"the settings file {path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingError(f"the settings file {path} is not valid TOML: {error}") from None


def _from_aliases(environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for variable, (section, name) in ALIASES.items():
        if environ.get(variable):
            values.setdefault(section, {})[name] = environ[variable]
    return values


def _refuse_unknown_sections(environ: Mapping[str, str]) -> None:
    """pydantic-settings ignores variables whose first part names no section: a typing error would pass unseen."""
    sections = ", ".join(s.upper() for s in Settings.model_fields)
    for variable in environ:
        section, separator, _ = variable.removeprefix(ENV_PREFIX).partition("__")
        if variable.startswith(ENV_PREFIX) and separator and section.lower() not in Settings.model_fields:
            raise SettingError(f"unknown setting {variable} in the environment", f"The sections are {sections}")


def _setting_error(error: ValidationError, config: Path | None) -> SettingError:
    first = error.errors(include_input=False, include_url=False)[0]
    name = _named(first["loc"])
    variable = ENV_PREFIX + "__".join(str(part).upper() for part in first["loc"][:2])
    place = f"the environment ({variable})" if variable in os.environ else str(config or CONFIG_FILE)
    if first["type"] == "extra_forbidden":
        return SettingError(f"unknown setting {name} in {place}", _known(first["loc"]))
    return SettingError(f"setting {name} in {place}: {first['msg'].removeprefix('Value error, ')}")


def _named(location: tuple[int | str, ...]) -> str:
    """`table.key`, `table.lookups.0.take`: what pydantic puts behind that, the branch of a union, is no name of ours."""
    depth = 4 if location[:2] == ("table", "lookups") else 2
    return ".".join(map(str, location[:depth]))


def _known(location: tuple[int | str, ...]) -> str:
    fields: Iterable[str] = Settings.model_fields
    section = Settings.model_fields.get(str(location[0]))
    if location[:2] == ("table", "lookups"):
        fields = Lookup.model_fields
    elif (
        section
        and len(location) > 1
        and isinstance(section.annotation, type)
        and issubclass(section.annotation, BaseModel)
    ):
        fields = section.annotation.model_fields
    return f"Known here: {', '.join(fields)}"
