"""The endpoints for operators and probes: statistics, failures, health, readiness, metrics."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from pixtail.search.answers import (
    API,
    FailureAnswer,
    FailuresAnswer,
    HealthAnswer,
    ModelAnswer,
    StatsAnswer,
    VerificationAnswer,
    VerifyRequest,
)
from pixtail.search.deps import Collaborators
from pixtail.search.problems import ApiError
from pixtail.search.writing import may_write

router = APIRouter(tags=["operations"])


@router.get(f"{API}/stats", summary="Counts, model, pipeline")
def stats(deps: Collaborators) -> StatsAnswer:
    embedder = deps.embedder
    points = deps.store.count()
    return StatsAnswer(
        points=points,
        model=ModelAnswer(name=embedder.name, fingerprint=embedder.fingerprint, dimension=embedder.dimension),
        max_picture_bytes=deps.settings.pictures.max_bytes,
        pipeline=dict(deps.pipeline()),
    )


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


@router.post(f"{API}/verify", summary="Compare table and index", status_code=202, dependencies=[Depends(may_write)])
def verify(deps: Collaborators, how: VerifyRequest) -> VerificationAnswer:
    """Begins, and answers at once: ask for its progress. Only for this machine, or with `api.token`."""
    if deps.verification.begin(repair=how.repair, chunk_rows=how.chunk_rows, wait_s=how.wait_s) is None:
        raise ApiError(
            409, "already-running", "Already running", "a verification is running already", "Wait for its end"
        )
    return verification(deps)


@router.get(f"{API}/verify", summary="How a verification stands")
def verification(deps: Collaborators) -> VerificationAnswer:
    return VerificationAnswer(**deps.verification.state())


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
