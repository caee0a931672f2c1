"""The endpoint that packs the embedded store for a program of the same machine."""

from __future__ import annotations

import secrets

from fastapi import APIRouter, Depends

from pixtail.search.answers import API, SnapshotAnswer
from pixtail.search.deps import Collaborators
from pixtail.search.writing import may_write

router = APIRouter(prefix=API, tags=["operations"])


@router.post("/snapshot", summary="Pack the embedded store", dependencies=[Depends(may_write)])
def snapshot(deps: Collaborators) -> SnapshotAnswer:
    """Writes everything into a file in the store's folder, for `pixtail snapshot` to take away. Writes wait meanwhile. Only for
    this machine, or with `api.token`."""
    qdrant = deps.settings.qdrant
    file = qdrant.path / f"{qdrant.collection}.{secrets.token_hex(4)}.snapshot"
    return SnapshotAnswer(file=file.name, points=deps.store.snapshot(file))
