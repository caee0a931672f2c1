"""The endpoints that look at the whole index: all of it line by line, and its duplicates."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import chain, islice
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import JSONResponse, StreamingResponse

from pixtail.core.points import StoredPoint
from pixtail.search.answers import API, DuplicatesAnswer, RunningAnswer
from pixtail.search.deps import Collaborators
from pixtail.search.duplicates import Duplicates, find_duplicates
from pixtail.search.nearness import Between
from pixtail.search.problems import ApiError
from pixtail.search.queries import COLUMNS_PARAMETER
from pixtail.search.rows import matching, to_line, wanted
from pixtail.search.writing import may_write

router = APIRouter(prefix=API, tags=["the whole index"])

LINES = "application/x-ndjson"
LINES_A_CHUNK = 256
WAIT_S = 5.0
"""A request waits so long for its answer, and is then told to come again: a proxy gives up after a minute or so."""
KEEP_S = 60.0
MOST_REST_S = 0.5
"""Before the first block the points were read, which takes far longer than a block."""


@router.get(
    "/export",
    summary="Everything, a line for each image",
    dependencies=[Depends(may_write)],
    response_class=StreamingResponse,
    responses={
        200: {"content": {LINES: {}}},
        401: {"description": "The wrong token"},
        403: {"description": "Another machine, and no token is set"},
    },
    openapi_extra={"parameters": [COLUMNS_PARAMETER]},
)
def export(deps: Collaborators, request: Request, vectors: bool = False) -> StreamingResponse:
    """JSON lines of `id`, `payload`, `sync` and, if asked for, `vector`, in the order of ids. Only for programs of this machine, or with
    `api.token`. An answer that breaks off was not everything: it ends without HTTP's last chunk, which every client reports."""
    columns = wanted((name, text) for name, text in request.query_params.multi_items() if name != "vectors")
    points = matching(deps.store.scan(with_vectors=vectors), columns)
    first = list(
        islice(points, 1)
    )  # what is wrong with the question shows by now, and can still be answered as a problem
    return StreamingResponse(_chunks(chain(first, points)), media_type=LINES)


@router.get(
    "/duplicates",
    summary="Pictures that stand there more than once",
    response_model=DuplicatesAnswer,
    responses={202: {"model": RunningAnswer, "description": "Not done yet; ask again after `Retry-After` seconds"}},
)
def duplicates(
    deps: Collaborators,
    request: Request,
    min_score: Annotated[float, Query(gt=0, le=1, description="Least cosine similarity of a near duplicate.")] = 0.97,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most groups of either kind.")] = 100,
    exact: Annotated[bool, Query(description="Only the same bytes; does without the vectors.")] = False,
) -> Any:
    """Groups of images with the same file, and of images whose vectors are near each other. One search at a time, in a thread of its own
    that rests as much as it works; its result is kept for a minute."""

    def work(between: Between) -> Duplicates:
        points = deps.store.scan(with_vectors=not exact)
        return find_duplicates(points, None if exact else min_score, limit, between)

    job: DuplicatesJob = request.app.state.duplicates
    future = job.result((exact, min_score, limit), work)
    try:
        return future.result(WAIT_S)
    except TimeoutError:
        done, of = job.progress
        return JSONResponse({"status": "running", "blocks_done": done, "blocks": of}, 202, {"Retry-After": "5"})


class DuplicatesJob:
    """The one search for duplicates that may be under way, and the last one's result. Thread-safe."""

    def __init__(self) -> None:
        self.progress = (0, 0)
        """Blocks compared, and how many there are; none while the points are still being read."""
        self._lock = threading.Lock()
        self._question: Any = None
        self._result: Future[Duplicates] = Future()
        self._ended_s: float | None = None  # of one that succeeded

    def result(self, question: Any, work: Callable[[Between], Duplicates]) -> Future[Duplicates]:
        """Of the same question that is under way or was answered within the last minute, else of a new search. Raises `ApiError` while the
        search for another question goes on."""
        with self._lock:
            busy = self._question is not None and not self._result.done()
            if busy and question != self._question:
                raise ApiError(
                    503, "busy", "Busy", "another search for duplicates is under way", "Ask again when it has ended"
                )
            if not busy and not (question == self._question and self._is_fresh()):
                self._start(question, work)
            return self._result

    def _is_fresh(self) -> bool:
        return self._ended_s is not None and time.monotonic() - self._ended_s < KEEP_S

    def _start(self, question: Any, work: Callable[[Between], Duplicates]) -> None:
        self._question, self._result, self._ended_s, self.progress = question, Future(), None, (0, 0)
        # A daemon: nobody waits for it when the process ends.
        threading.Thread(target=self._run, args=(work, self._result), name="duplicates", daemon=True).start()

    def _run(self, work: Callable[[Between], Duplicates], result: Future[Duplicates]) -> None:
        try:
            found = work(self._resting())
        except Exception as error:  # noqa: BLE001 - raised again for whoever asked
            result.set_exception(error)
        else:
            self._ended_s = time.monotonic()
            result.set_result(found)

    def _resting(self) -> Between:
        """Sleeps after each block for as long as it took: the worker in this process has work of its own."""
        begun = time.monotonic()

        def rest(done: int, of: int) -> None:
            nonlocal begun
            self.progress = (done, of)
            time.sleep(min(time.monotonic() - begun, MOST_REST_S))
            begun = time.monotonic()

        return rest


def _chunks(points: Iterable[StoredPoint]) -> Iterator[bytes]:
    lines = map(to_line, points)
    while chunk := b"".join(islice(lines, LINES_A_CHUNK)):
        yield chunk
