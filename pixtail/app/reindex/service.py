"""`reindex` and `rollback` over the servers of the settings: in a command, or in the process that holds the embedded store open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pixtail.app.following import Following, Generation
from pixtail.app.jobs import Job, Show
from pixtail.app.reindex.mover import Reindex
from pixtail.app.reindex.planning import Options
from pixtail.app.verify.options import Options as VerifyOptions
from pixtail.app.verify.report import Report
from pixtail.app.wiring import needs
from pixtail.core.errors import UsageError
from pixtail.core.lifecycle import Stop
from pixtail.core.ports import Index, PictureSource
from pixtail.core.settings import Settings


def reindexed(
    settings: Settings, index: Index, pictures: PictureSource, options: Options, show: Show, stop: Stop
) -> dict[str, Any]:
    """The outcome, as JSON. Raises as `Reindex.run`, and what a verification raises."""

    def verify(generation: Generation, show: Show, stop: Stop) -> Report:
        with needs("all"):
            from pixtail.app.verify.running import verified
        how = VerifyOptions(repair=True)
        return verified(settings, generation.store, generation.name, generation.model.fingerprint, how, show, stop)

    return Reindex(settings, index, pictures, options, verify=verify, show=show).run(stop).as_json()


def reindex_job(settings: Settings, following: Following, pictures: PictureSource) -> Job:
    """Follows the alias when it has moved, rather than a moment later."""

    def do(options: Mapping[str, Any], show: Show, stop: Stop) -> Mapping[str, Any]:
        outcome = reindexed(settings, following.index, pictures, Options(**options), show, stop)
        following.look()
        return outcome

    return Job("reindex", do)


def rolled_back(following: Following) -> Mapping[str, Any]:
    """As `rollback`, and this process follows."""
    outcome = rollback(following.index)
    following.look()
    return outcome


def rollback(index: Index) -> dict[str, Any]:
    """The alias names what it named before. Once more, and it goes back. Raises `UsageError`, `StoreUnreachable`."""
    current, previous = index.current(), index.previous()
    if current is None or previous is None:
        raise UsageError("there is no former collection to go back to", "`pixtail reindex` keeps one when it swaps")
    index.swap(previous)
    return {"generation": previous, "former": current}
