"""The endpoints of one image: what the index knows of it, and its thumbnail."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from pixtail.core.errors import PictureError, Reason
from pixtail.search.answers import API, VERSION_DIGITS, ImageAnswer, VectorAnswer, picture_ref
from pixtail.search.deps import Collaborators
from pixtail.search.finding import find
from pixtail.search.problems import ApiError, not_found

router = APIRouter(prefix=API, tags=["images"])

ImageId = Annotated[str, Path(alias="id", description="The row's key, or the point's UUID.")]
# The picture may change under its address, unless the address names the version; a deleted one must not linger in shared caches.
REVALIDATE = "private, no-cache"
IMMUTABLE = "private, max-age=31536000, immutable"
_MAGIC = ((b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG", "image/png"), (b"RIFF", "image/webp"))


@router.get("/images/{id}", summary="One image")
def image(deps: Collaborators, image: ImageId) -> ImageAnswer:
    """What the index knows of the image: its columns, and which version of the row and picture they come from."""
    return ImageAnswer.of(find(deps, image), deps.settings.table)


@router.get("/vectors/{id}", summary="Its vector")
def vector(deps: Collaborators, image: ImageId) -> VectorAnswer:
    """The vector that the index has of the image, and which model made it."""
    point = find(deps, image, with_vector=True)
    if point.vector is None:
        raise not_found(f"image {point.id} has no vector", "Index it again")
    values = list(point.vector)
    return VectorAnswer(
        id=point.id, model=point.sync.model if point.sync else None, dimension=len(values), vector=values
    )


@router.get(
    "/images/{id}/picture",
    summary="Its thumbnail",
    response_class=Response,
    responses={
        200: {"content": {"image/jpeg": {}, "image/png": {}, "image/webp": {}}},
        304: {"description": "Not Modified"},
    },
)
def picture(
    deps: Collaborators,
    request: Request,
    image: ImageId,
    size: Annotated[int, Query(ge=16, le=2048, description="Longer side, in pixels.")] = 320,
    version: Annotated[
        str | None, Query(alias="v", description="Beginning of the SHA-256; with it, browsers keep the picture.")
    ] = None,
) -> Response:
    """The picture, made small. Its ETag comes from the SHA-256 of the bytes; an unchanged picture is not even fetched."""
    point = find(deps, image)
    ref = picture_ref(point, deps.settings.table)
    if ref is None:
        raise not_found(f"image {point.id} has no picture", f"The column {deps.settings.table.picture} is empty")
    known = point.sync.facts.sha256 if point.sync else ""
    if known and _etag(known, size) in _etags(request):
        return Response(status_code=304, headers=_caching(known, size, version))
    try:
        data = deps.pictures.fetch(ref)
        thumbnail = deps.thumbnail(data, size)
    except PictureError as error:
        raise _unavailable(error) from error
    # The file may have changed without its row: the tag is that of the bytes that are sent.
    sha256 = hashlib.sha256(data).hexdigest()
    return Response(thumbnail, media_type=_media_type(thumbnail), headers=_caching(sha256, size, version))


def _caching(sha256: str, size: int, version: str | None) -> dict[str, str]:
    current = version is not None and version == sha256[:VERSION_DIGITS]
    return {"ETag": _etag(sha256, size), "Cache-Control": IMMUTABLE if current else REVALIDATE}


def _etag(sha256: str, size: int) -> str:
    return f'"{sha256[:32]}-{size}"'


def _etags(request: Request) -> set[str]:
    tags = request.headers.get("if-none-match", "").split(",")
    return {tag.strip().removeprefix("W/") for tag in tags}


def _media_type(data: bytes) -> str:
    return next((name for magic, name in _MAGIC if data.startswith(magic)), "application/octet-stream")


def _unavailable(error: PictureError) -> ApiError:
    """The caller asked rightly; it is the place where the picture lies that fails."""
    status = 502
    if error.reason is Reason.NOT_FOUND:
        status = 404
    elif error.reason.transient:
        status = 503
    return ApiError(
        status, "picture-unavailable", "Picture unavailable", error.problem, error.remedy, reason=error.reason.value
    )
