"""The endpoints that search: by text, by picture, by an image of the index. Plain functions: they block, so they run in the thread pool."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated

import numpy as np
from fastapi import APIRouter, File, Path, Query, UploadFile

from pixtail.core.points import PointId
from pixtail.search.answers import API, HitAnswer, SearchAnswer
from pixtail.search.deps import Collaborators, Deps
from pixtail.search.finding import find
from pixtail.search.problems import invalid, not_found, too_large
from pixtail.search.queries import COLUMNS_PARAMETER, Options, SearchOptions, nearest

if TYPE_CHECKING:
    from pixtail.core.points import Vector

MAX_TEXT = 4096
"""Characters; the model cuts far earlier."""

router = APIRouter(prefix=API, tags=["search"])
_ANY_COLUMN = {"parameters": [COLUMNS_PARAMETER]}


@router.get("/search", summary="Search by text", openapi_extra=_ANY_COLUMN)
def search_by_text(
    deps: Collaborators,
    options: SearchOptions,
    text: Annotated[
        str, Query(max_length=MAX_TEXT, description="What the picture shows, in any language of the model.")
    ],
) -> SearchAnswer:
    """The pictures that show most nearly what the text says, best first."""
    if not text.strip():
        raise invalid("text", "is empty", "Say what the picture should show")
    started = time.perf_counter()
    vector = deps.embedder.encode_texts([text.strip()])[0]
    answer = _answer(deps, vector, options, started)
    deps.metrics.search.labels("text").observe(answer.took_ms / 1000)
    return answer


@router.post("/search/image", summary="Search by picture", openapi_extra=_ANY_COLUMN)
def search_by_picture(
    deps: Collaborators,
    options: SearchOptions,
    file: Annotated[UploadFile, File(description="The picture, in any format that can be indexed.")],
) -> SearchAnswer:
    """The pictures that look most like the one sent, best first."""
    started = time.perf_counter()
    picture = deps.embedder.decode(_uploaded(file, deps.settings.pictures.max_bytes))
    vector = deps.embedder.encode([picture])[0]
    answer = _answer(deps, vector, options, started)
    deps.metrics.search.labels("image").observe(answer.took_ms / 1000)
    return answer


@router.get("/images/{id}/similar", summary="Search by an image of the index", openapi_extra=_ANY_COLUMN)
def similar(
    deps: Collaborators,
    options: SearchOptions,
    image: Annotated[str, Path(alias="id", description="The row's key, or the point's UUID.")],
) -> SearchAnswer:
    """The pictures that look most like this one, without itself, best first."""
    started = time.perf_counter()
    point = find(deps, image, with_vector=True)
    if point.vector is None:
        raise not_found(f"image {point.id} has no vector", "Index it again")
    return _answer(deps, np.asarray(point.vector, dtype=np.float32), options, started, exclude=[point.id])


def _answer(
    deps: Deps, vector: Vector, options: Options, started: float, exclude: Collection[PointId] = ()
) -> SearchAnswer:
    hits, more = nearest(deps.store, vector, options, exclude)
    table = deps.settings.table
    took_ms = (time.perf_counter() - started) * 1000
    answers = [HitAnswer.of_hit(hit, table) for hit in hits]
    return SearchAnswer(hits=answers, offset=options.offset, more=more, took_ms=round(took_ms, 2))


def _uploaded(file: UploadFile, max_bytes: int) -> bytes:
    """The bytes of the upload. `BodyLimit` has bounded the whole request already; this is the exact limit of the file in it."""
    data = file.file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise too_large(max_bytes)
    return data
