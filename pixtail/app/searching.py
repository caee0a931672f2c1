"""`search`: the nearest pictures of a text or a picture."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pixtail.app.asking import Request, ask_index
from pixtail.app.following import index_model
from pixtail.core.errors import PixtailError, UsageError
from pixtail.core.points import Hit
from pixtail.core.ports import Index
from pixtail.core.settings import Settings

SHOWN = ("title", "category")
API = "/api/v1/search"


def search(
    settings: Settings, text: str | None, image: Path | None, limit: int, min_score: float | None
) -> list[dict[str, Any]]:
    """Hits, best first: id, score, payload. Raises `PictureError` for an image that is none."""
    data = _read(image) if image else None

    def from_index(index: Index) -> list[dict[str, Any]]:
        current = index.current()
        if current is None:  # looked at before the model takes its time to load
            raise PixtailError(
                f"there is no collection {settings.qdrant.collection} in {settings.qdrant.url or settings.qdrant.path} yet",
                "Start `pixtail run`, or name the settings of the one that runs with --config",
            )
        embedder = index_model(settings, index, current)
        vectors = embedder.encode_texts([text or ""]) if data is None else embedder.encode([embedder.decode(data)])
        return [_hit(hit) for hit in index.store(current).search(vectors[0], limit=limit, min_score=min_score)]

    def from_api(answer: dict[str, Any]) -> list[dict[str, Any]]:
        return [{name: hit[name] for name in ("id", "score", "payload", "sync")} for hit in answer["hits"]]

    return ask_index(settings, from_index, _request(text, data, limit, min_score), from_api)


def _request(text: str | None, data: bytes | None, limit: int, min_score: float | None) -> Request:
    params = {"limit": limit} | ({} if min_score is None else {"min_score": min_score})
    if data is None:
        return "GET", API, {"params": {"text": text, **params}}
    return "POST", f"{API}/image", {"params": params, "files": {"file": data}}


def _read(image: Path) -> bytes:
    try:
        return image.read_bytes()
    except OSError as error:
        raise UsageError(f"{image} cannot be read: {error.strerror}", "Name a picture file") from None


def _hit(hit: Hit) -> dict[str, Any]:
    point = hit.point
    return {
        "id": point.id,
        "score": hit.score,
        "payload": dict(point.payload),
        "sync": asdict(point.sync) if point.sync else None,
    }


def print_hits(hits: list[dict[str, Any]], console: Console) -> None:
    if not hits:
        console.print("nothing found")
        return
    table = Table("score", "id", *SHOWN, "picture")
    for hit in hits:
        columns = (str(hit["payload"].get(name) or "") for name in SHOWN)
        table.add_row(f"{hit['score']:.3f}", str(hit["id"]), *columns, (hit["sync"] or {}).get("ref", ""))
    console.print(table)
