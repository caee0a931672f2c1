"""What the API works with: handed in by the program, so that this folder knows no other station."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request

from pixtail.core.metrics import Metrics
from pixtail.core.ports import Embedder, PictureSource, VectorStore
from pixtail.core.settings import Settings


class Job(Protocol):
    """Long work in this process, one time after the other. Thread-safe; answers at once."""

    def begin(self, options: Mapping[str, Any]) -> int | None:
        """The number of the one that begins now; None while another one runs."""

    def state(self) -> Mapping[str, Any]:
        """Of the last one: `number`, whether it is `running`, `doing` what, `done` of `about`; then its `report`, or the `problem`, its
        `remedy`, and whether there was nothing to do (`refused`)."""

    def stop(self) -> None:
        """Asks the one that runs to end early."""


@dataclass(frozen=True, slots=True)
class Deps:
    """All of them are called from many threads at once and may block, except `ready` and `pipeline`, which answer at once.

    `thumbnail(data, size)` returns a picture whose longer side is at most `size` pixels (JPEG, PNG or WebP), or raises `PictureError`.
    `ready()` names what is not ready yet; empty means ready. `pipeline()` adds facts to the statistics: the console shows
    `lag_records` and `dead_letters`. `failures()` lists the pictures that fail now, each with `id` or `key`, `reason`, `message`,
    `attempts` and `first_failed`. `rollback()` takes the index back to its former collection and says which; raises `UsageError`.
    """

    store: VectorStore
    embedder: Embedder
    pictures: PictureSource
    thumbnail: Callable[[bytes, int], bytes]
    metrics: Metrics
    settings: Settings
    ready: Callable[[], list[str]]
    pipeline: Callable[[], Mapping[str, Any]]
    failures: Callable[[], Sequence[Mapping[str, Any]]]
    verification: Job
    reindexing: Job
    rollback: Callable[[], Mapping[str, Any]]


async def _of_request(request: Request) -> Deps:  # async: a plain function would cost a hop to the thread pool
    deps: Deps = request.app.state.deps
    return deps


Collaborators = Annotated[Deps, Depends(_of_request)]
