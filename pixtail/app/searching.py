"""`search` and `similar`: the nearest pictures of a text, a picture, or an image of the index."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.console import Console
from rich.table import Table

from pixtail.app import wiring
from pixtail.app.asking import Request, ask, ask_index, no_collection
from pixtail.app.following import index_model
from pixtail.core.errors import PixtailError, UsageError
from pixtail.core.points import Hit
from pixtail.core.ports import Index, VectorStore
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
        store = index.store(current or "")
        if store.dimension() is None:  # looked at before the model takes its time to load
            raise no_collection(settings)
        embedder = index_model(settings, index, current)
        vectors = embedder.encode_texts([text or ""]) if data is None else embedder.encode([embedder.decode(data)])
        return [_hit(hit) for hit in store.search(vectors[0], limit=limit, min_score=min_score)]

    return ask_index(settings, from_index, _request(text, data, limit, min_score), _from_api)


def similar(settings: Settings, image: str, limit: int, min_score: float | None) -> list[dict[str, Any]]:
    """Hits that look most like the image with this key, without itself. Raises `PixtailError` if the index has none."""

    def from_store(store: VectorStore) -> list[dict[str, Any]]:
        if store.dimension() is None:
            raise no_collection(settings)
        with wiring.needs("serve"):
            import numpy as np

            from pixtail.search.finding import candidates
        found = store.get(candidates(settings.table, image), with_vectors=True)
        if not found or found[0].vector is None:
            raise PixtailError(
                f"the index has no image {image[:100]!r}", "`pixtail dlq list` says whether its picture fails"
            )
        vector = np.asarray(found[0].vector, np.float32)
        return [_hit(hit) for hit in store.search(vector, limit=limit, min_score=min_score, exclude=[found[0].id])]

    path = f"/api/v1/images/{quote(image, safe='')}/similar"
    return ask(settings, from_store, ("GET", path, {"params": _params(limit, min_score)}), _from_api)


def _from_api(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [{name: hit[name] for name in ("id", "score", "payload", "sync")} for hit in answer["hits"]]


def _request(text: str | None, data: bytes | None, limit: int, min_score: float | None) -> Request:
    params = _params(limit, min_score)
    if data is None:
        return "GET", API, {"params": {"text": text, **params}}
    return "POST", f"{API}/image", {"params": params, "files": {"file": data}}


def _params(limit: int, min_score: float | None) -> dict[str, Any]:
    return {"limit": limit} | ({} if min_score is None else {"min_score": min_score})


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
        "sync": point.sync.as_payload() if point.sync else None,
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
