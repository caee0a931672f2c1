"""`doctor`: everything that must hold before the pipeline can work, looked at in the data's order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

from rich.console import Console

from pixtail.app import wiring
from pixtail.bus.inspection import describe_broker
from pixtail.core.checks import Check, attempt, skipped
from pixtail.core.errors import DimensionMismatch, PixtailError, StoreBusy
from pixtail.core.ports import Embedder
from pixtail.core.settings import Settings

KAFKA, MODEL, STORE, DIMENSIONS = "Kafka reachable and new enough", "model loads", "store writable", "dimensions fit"


def examine(settings: Settings) -> Iterator[Check]:
    """Each check as it is made; later ones are made even if earlier ones fail, where they can be."""
    with wiring.needs("listen"):
        from ingest import preflight
    yield from preflight.checks(settings)
    yield attempt(KAFKA, lambda: describe_broker(settings.kafka))
    yield from _model_and_store(settings)


def _model_and_store(settings: Settings) -> Iterator[Check]:
    try:
        embedder: Embedder | None = wiring.embedder(settings)
    except PixtailError as error:
        embedder = None
        yield Check(MODEL, False, error.problem, error.remedy, error.exit_status)
    if embedder is not None:
        yield Check(
            MODEL, True, f"{embedder.name}, {embedder.dimension} dimensions, fingerprint {embedder.fingerprint}"
        )
    yield from _store(settings, embedder)


def _store(settings: Settings, embedder: Embedder | None) -> Iterator[Check]:
    with wiring.needs("encode"):
        from sink.open import open_store
    with closing(open_store(settings)) as store:
        try:
            yield Check(STORE, True, store.check())
        except StoreBusy as busy:
            yield from _in_use(busy)
            return
        except PixtailError as error:
            yield Check(STORE, False, error.problem, error.remedy, error.exit_status)
            yield from skipped([DIMENSIONS], "the store cannot be used")
            return
        if embedder is None:
            yield from skipped([DIMENSIONS], "the model does not load")
            return
        yield attempt(DIMENSIONS, lambda: _fit(store.dimension(), embedder, settings))


def _in_use(busy: StoreBusy) -> Iterator[Check]:
    """A running pipeline is the best proof that store and model fit; one that serves no API cannot be asked."""
    yield Check(STORE, busy.api is not None, busy.problem, busy.remedy, busy.exit_status)
    yield Check(DIMENSIONS, busy.api is not None, "the process that holds the store open has seen to it")


def _fit(stored: int | None, embedder: Embedder, settings: Settings) -> str:
    if stored is None:
        return f"no collection yet; it will have {embedder.dimension}"
    if stored != embedder.dimension:
        raise DimensionMismatch(
            f"collection {settings.qdrant.collection} has vectors of {stored} dimensions, model {embedder.name} makes {embedder.dimension}",
            "Choose the model that filled it (model.name) or another qdrant.collection",
        )
    return f"{stored}, as the model makes"


def print_check(check: Check, console: Console) -> None:
    mark = "[green]✓[/]" if check.ok else "[red]✗[/]" if check.made else "[dim]–[/]"
    console.print(f"{mark} [bold]{check.name}[/]: ", end="")
    console.print(check.detail, markup=False, highlight=False, soft_wrap=True, style="" if check.made else "dim")
    if not check.ok and check.remedy:
        console.print("    → ", end="")
        console.print(check.remedy, markup=False, highlight=False, soft_wrap=True)


def summary(checks: Sequence[Check]) -> str:
    failed = sum(not check.ok and check.made for check in checks)
    not_made = sum(not check.made for check in checks)
    if not failed and not not_made:
        return f"{len(checks)} checks, all well"
    return f"{len(checks)} checks, {failed} failed" + (f", {not_made} not made" if not_made else "")
