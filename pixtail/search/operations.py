"""The endpoints for operators and probes: statistics, failures, health, readiness, metrics."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel

from pixtail.search.answers import (
    API,
    DetailsAnswer,
    FailureAnswer,
    FailuresAnswer,
    HealthAnswer,
    JobAnswer,
    ModelAnswer,
    ReindexRequest,
    RollbackAnswer,
    StatsAnswer,
    VerifyRequest,
)
from pixtail.search.deps import Collaborators, Deps, Job
from pixtail.search.problems import ApiError
from pixtail.search.statistics import describe
from pixtail.search.writing import may_write

router = APIRouter(tags=["operations"])
MAY_WRITE = [Depends(may_write)]


@router.get(f"{API}/stats", summary="Counts, model, pipeline")
def stats(
    deps: Collaborators,
    details: Annotated[bool, Query(description="Count formats, sizes and models too. Reads every point.")] = False,
    by: Annotated[list[str] | None, Query(description="A column to count the values of; with `details`.")] = None,
) -> StatsAnswer:
    embedder = deps.embedder
    points = deps.store.count()
    return StatsAnswer(
        points=points,
        model=ModelAnswer(name=embedder.name, fingerprint=embedder.fingerprint, dimension=embedder.dimension),
        max_picture_bytes=deps.settings.pictures.max_bytes,
        pipeline=dict(deps.pipeline()),
        details=_details(deps, by or []) if details else None,
    )


def _details(deps: Deps, by: list[str]) -> DetailsAnswer:
    dead_letters = Counter(str(failure["reason"]) for failure in deps.failures())
    return DetailsAnswer(**describe(deps.store.scan(), by), dead_letters=dict(dead_letters.most_common()))


@router.get(f"{API}/failures", summary="Pictures that fail now")
def failures(
    deps: Collaborators,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> FailuresAnswer:
    """Rows that cannot be found since their picture fails, with the reason. A row leaves this list once its picture succeeds."""
    found = deps.failures()
    page = [FailureAnswer.model_validate(failure) for failure in found[offset : offset + limit]]
    return FailuresAnswer(failures=page, total=len(found))


@router.post(f"{API}/verify", summary="Compare table and index", status_code=202, dependencies=MAY_WRITE)
def verify(deps: Collaborators, how: VerifyRequest) -> JobAnswer:
    """Begins, and answers at once: ask for its progress. Only for this machine, or with `api.token`."""
    return _begin(deps.verification, how, "a verification")


@router.get(f"{API}/verify", summary="How a verification stands")
def verification(deps: Collaborators) -> JobAnswer:
    return JobAnswer(**deps.verification.state())


@router.delete(f"{API}/verify", summary="Stop a verification", status_code=202, dependencies=MAY_WRITE)
def stop_verification(deps: Collaborators) -> JobAnswer:
    deps.verification.stop()
    return verification(deps)


@router.post(f"{API}/reindex", summary="Move the index to another model", status_code=202, dependencies=MAY_WRITE)
def reindex(deps: Collaborators, how: ReindexRequest) -> JobAnswer:
    """Begins, or goes on, and answers at once: ask for its progress. Only for this machine, or with `api.token`."""
    return _begin(deps.reindexing, how, "a reindex")


@router.get(f"{API}/reindex", summary="How a reindex stands")
def reindexing(deps: Collaborators) -> JobAnswer:
    return JobAnswer(**deps.reindexing.state())


@router.delete(f"{API}/reindex", summary="Pause a reindex", status_code=202, dependencies=MAY_WRITE)
def pause_reindex(deps: Collaborators) -> JobAnswer:
    """It goes on where it was when it is asked for again."""
    deps.reindexing.stop()
    return reindexing(deps)


@router.post(f"{API}/rollback", summary="Back to the collection before the last reindex", dependencies=MAY_WRITE)
def rollback(deps: Collaborators) -> RollbackAnswer:
    return RollbackAnswer(**deps.rollback())


def _begin(job: Job, how: BaseModel, what: str) -> JobAnswer:
    if job.begin(how.model_dump()) is None:
        raise ApiError(409, "already-running", "Already running", f"{what} is running already", "Wait for its end")
    return JobAnswer(**job.state())


# Health and metrics are coroutines: they answer while every thread of the pool waits for the store.
@router.get("/healthz", summary="Is the process alive?")
async def healthz() -> HealthAnswer:
    return HealthAnswer(status="ok")


@router.get("/readyz", summary="Does it do its work?")
def readyz(deps: Collaborators) -> HealthAnswer:
    if missing := deps.ready():
        detail = f"not ready: {', '.join(missing)}"
        raise ApiError(503, "not-ready", "Not ready", detail, "`pixtail doctor` says why", missing=missing)
    return HealthAnswer(status="ready")


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
async def metrics(deps: Collaborators, request: Request) -> Response:
    body, media_type = deps.metrics.exposition(request.headers.get("accept", ""))
    return Response(body, headers={"Content-Type": media_type})
