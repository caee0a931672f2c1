"""`snapshot` and `restore`: the embedded store as one file, and back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pixtail.app.asking import ask, credentials
from pixtail.app.wiring import needs
from pixtail.core.errors import UsageError
from pixtail.core.ports import VectorStore
from pixtail.core.settings import Settings

API = "/api/v1/snapshot"
TIMEOUT_S = 3600.0
"""For the process that has the store open: it copies all of it before it answers."""


def snapshot(settings: Settings, file: Path, *, force: bool) -> dict[str, Any]:
    """What was written: `file`, `points`, `bytes`. Raises `UsageError` for a file that is there already, unless `force`."""
    with needs("encode"):
        from sink.collection import no_snapshot
    if settings.qdrant.url:
        raise no_snapshot(f"the Qdrant server at {settings.qdrant.url}")
    if file.exists() and not force:
        raise UsageError(f"{file} is there already", "Name another file, or say --force")
    if not file.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {file.absolute().parent}", "Make it, or name another one")

    def from_store(store: VectorStore) -> int:
        return store.snapshot(file)

    def from_api(answer: dict[str, Any]) -> int:
        _move(settings.qdrant.path / Path(answer["file"]).name, file)
        return int(answer["points"])

    asked = "POST", API, {"headers": credentials(settings), "timeout": TIMEOUT_S}
    points = ask(settings, from_store, asked, from_api)
    return {"file": str(file), "points": points, "bytes": file.stat().st_size}


def restore(settings: Settings, file: Path, *, force: bool) -> dict[str, Any]:
    """What is there now: `points`, and `at`, when the snapshot was made. Raises as `sink.edge_snapshot.restore`."""
    if settings.qdrant.url:
        problem = f"the settings name a Qdrant server, {settings.qdrant.url}"
        raise UsageError(problem, "Restore a snapshot of its own there; leave qdrant.url unset for an embedded store")
    with needs("encode"):
        from sink.edge_snapshot import restore as put_back
    found = put_back(file, settings.qdrant.path, settings.qdrant.collection, force=force)
    return {"points": found.points, "at": found.at}


def _move(source: Path, file: Path) -> None:
    """Across disks too, and whole or not at all."""
    part = file.with_name(file.name + ".part")
    shutil.move(source, part)
    part.replace(file)
