"""`doctor`: everything that must hold before the pipeline can work, looked at in the data's order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from rich.console import Console

from pixtail.app import wiring
from pixtail.bus.inspection import describe_broker, judge_cluster, leaders, look_at_cluster, saved_state
from pixtail.bus.topics import Topics
from pixtail.core.checks import Check, attempt, skipped
from pixtail.core.errors import PictureError, PixtailError, SettingError, StoreBusy
from pixtail.core.ports import Embedder, Index
from pixtail.core.settings import Settings

KAFKA, MODEL, STORE, FITS = "Kafka reachable and new enough", "model loads", "store writable", "model fits the index"
TOPICS, STATE, LISTENER, PICTURES = "topics", "saved state", "listener", "newest pictures can be read"

PICTURES_REMEDY = (
    "Set pictures.root to the folder that the paths start from, or pictures.base_url to the address that serves them"
)

Outcome: TypeAlias = Literal["ok", "warning", "failed", "not made"]
_MARKS: dict[Outcome, str] = {
    "ok": "[green]✓[/]",
    "warning": "[yellow]![/]",
    "failed": "[red]✗[/]",
    "not made": "[dim]–[/]",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A check, and the part of the pipeline that it looks at."""

    group: str
    check: Check

    def to_json(self) -> dict[str, Any]:
        return {"group": self.group, "outcome": outcome(self.check), **asdict(self.check)}


def outcome(check: Check) -> Outcome:
    """A warning works, and says all the same what would be better."""
    if not check.made:
        return "not made"
    if not check.ok:
        return "failed"
    return "warning" if check.remedy else "ok"


def examine(settings: Settings) -> Iterator[Finding]:
    """Each check as it is made; later ones are made even if earlier ones fail, where they can be."""
    with wiring.needs("listen"):
        from ingest import preflight
    database = preflight.examine(settings)
    yield from _findings("server", database.server)
    yield from _findings("table", database.table)
    for one in settings.of_lookups:
        yield from _findings(f"lookup {one.table.name}", preflight.examine(one).table)
    broker = attempt(KAFKA, lambda: describe_broker(settings.kafka))
    yield Finding("Kafka", broker)
    if broker.ok:
        yield from _findings("Kafka", _cluster(settings, database.row_bytes))
    for one in (settings, *settings.of_lookups):
        group = f"state of {one.table.name}" if one.table.is_lookup else "state"
        yield from _findings(group, _state(one, server=database.server[0].ok, kafka=broker.ok))
    yield Finding("pictures", attempt(PICTURES, lambda: _pictures(settings, database.pictures)))
    for check in _model_and_store(settings):
        yield Finding("model" if check.name == MODEL else "store", check)


def _findings(group: str, checks: Iterable[Check]) -> Iterator[Finding]:
    return (Finding(group, check) for check in checks)


def _failed(name: str, error: PixtailError) -> Check:
    return Check(name, False, error.problem, error.remedy, error.exit_status)


def _cluster(settings: Settings, row_bytes: int | None) -> Iterator[Check]:
    topics = Topics(settings.kafka.prefix, settings.source)
    try:
        cluster = look_at_cluster(settings.kafka, topics)
    except PixtailError as error:
        yield _failed(TOPICS, error)
        return
    yield from judge_cluster(settings.kafka, topics, cluster, row_bytes)


def _state(settings: Settings, *, server: bool, kafka: bool) -> Iterator[Check]:
    from ingest import state_checks

    if not server or not kafka:
        missing = "the server" if not server else "Kafka"
        yield from skipped([*state_checks.NAMES, LISTENER], f"{missing} cannot be asked")
        return
    topics = Topics(settings.kafka.prefix, settings.source)
    try:
        saved = saved_state(settings.kafka, topics)
    except PixtailError as error:
        yield _failed(STATE, error)
    else:
        yield from state_checks.examine(settings, saved.body, saved.written_ms)
    yield attempt(LISTENER, lambda: _listeners(leaders(settings.kafka, topics)))


def _listeners(hosts: list[str]) -> str:
    return f"{len(hosts)} running, on {', '.join(hosts)}" if hosts else "none is running"


def _pictures(settings: Settings, refs: Sequence[str]) -> str:
    """Single ones may well be missing; when none is there, it is the settings that are wrong. Raises the first one's `PictureError`."""
    with wiring.needs("encode"):
        from encoder.pictures import Pictures
    failures: list[PictureError] = []
    with closing(Pictures(settings.pictures)) as pictures:
        for ref in refs:
            try:
                pictures.fetch(ref)
            except PictureError as error:
                failures.append(error)
    if refs and len(failures) == len(refs):
        raise SettingError(failures[0].problem, failures[0].remedy or PICTURES_REMEDY)
    return f"{len(refs) - len(failures)} of {len(refs)}" if refs else "no rows yet"


def _model_and_store(settings: Settings) -> Iterator[Check]:
    try:
        embedder: Embedder | None = wiring.embedder(settings)
    except PixtailError as error:
        embedder = None
        yield _failed(MODEL, error)
    if embedder is not None:
        yield Check(
            MODEL, True, f"{embedder.name}, {embedder.dimension} dimensions, fingerprint {embedder.fingerprint}"
        )
    yield from _store(settings, embedder)


def _store(settings: Settings, embedder: Embedder | None) -> Iterator[Check]:
    with wiring.needs("encode"):
        from sink.open import open_index
    with closing(open_index(settings)) as index:
        try:
            current = index.current()
            yield Check(STORE, True, index.store(current or "").check())
        except StoreBusy as busy:
            yield from _in_use(busy)
            return
        except PixtailError as error:
            yield _failed(STORE, error)
            yield from skipped([FITS], "the store cannot be used")
            return
        if embedder is None:
            yield from skipped([FITS], "the model does not load")
            return
        yield _fit(index, current, embedder)


def _in_use(busy: StoreBusy) -> Iterator[Check]:
    """A running pipeline is the best proof that store and model fit; one that serves no API cannot be asked."""
    yield Check(STORE, busy.api is not None, busy.problem, busy.remedy, busy.exit_status)
    yield Check(FITS, busy.api is not None, "the process that holds the store open has seen to it")


def _fit(index: Index, current: str | None, embedder: Embedder) -> Check:
    """Another model than the settings' is no fault if it is known how to load it: the index goes on with it."""
    from sink.collection import fingerprint_of

    if current is None:
        return Check(FITS, True, f"no collection yet; it will have {embedder.dimension} dimensions")
    stored = index.store(current).dimension()
    if stored == embedder.dimension and fingerprint_of(current) in ("", embedder.fingerprint):
        return Check(FITS, True, f"{stored} dimensions, as the model makes")
    known = index.made_by(current).get("name")
    former = f"{known or 'another model'} of {stored} dimensions"
    problem = f"the index was made with {former}, {embedder.name} makes {embedder.dimension}"
    remedy = "Run `pixtail reindex` to move to this model, or set model.name to the former one"
    return Check(FITS, known is not None, problem, remedy)


class Printer:
    """Prints findings as they come, under the heading of their group."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._group = ""

    def show(self, finding: Finding) -> None:
        if finding.group != self._group:
            self._group = finding.group
            self._console.print(f"\n[bold]{finding.group}[/]")
        check, dim = finding.check, "" if finding.check.made else "dim"
        self._console.print(f"  {_MARKS[outcome(check)]} [bold]{check.name}[/]: ", end="", highlight=False)
        self._console.print(check.detail, markup=False, highlight=False, soft_wrap=True, style=dim)
        if check.remedy:
            self._console.print(f"      → {check.remedy}", markup=False, highlight=False, soft_wrap=True)


def summary(checks: Sequence[Check]) -> str:
    counted = Counter(outcome(check) for check in checks)
    words: dict[Outcome, str] = {"failed": "failed", "not made": "not made", "warning": "to consider"}
    said = [f"{counted[found]} {word}" for found, word in words.items() if counted[found]]
    return f"{len(checks)} checks, {', '.join(said) if said else 'all well'}"
