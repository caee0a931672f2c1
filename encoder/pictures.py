"""Where a row's picture comes from: the `PictureSource` of the settings."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Literal
from urllib.parse import quote

from encoder.http_pictures import HttpPictures
from encoder.local_pictures import LocalPictures, path_of, shown
from pixtail.core import settings
from pixtail.core.errors import PictureError, Reason

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://|(data|file):", re.IGNORECASE)
_OBJECT_STORES = ("s3", "gs", "az")


def kind(ref: str) -> Literal["http", "path"]:
    """How to read `ref`. Raises `PictureError` (`unsupported`) for any other scheme."""
    found = _SCHEME.match(ref)
    scheme = (found.group(1) or found.group(2)).lower() if found else "file"
    if scheme in ("http", "https"):
        return "http"
    if scheme == "file":
        return "path"
    if scheme in _OBJECT_STORES:
        raise PictureError(
            Reason.UNSUPPORTED,
            f"{scheme}:// addresses are not yet supported",
            "Serve the bucket by https, set pictures.base_url",
        )
    raise PictureError(Reason.UNSUPPORTED, f"{scheme}: addresses are not supported", "Use a path, http:// or https://")


def below(base_url: str, path: str) -> str:
    """The URL of a relative path. The path is taken literally (a `%` or `?` is part of a file's name) and stays below `base_url`.

    Raises `PictureError` (`forbidden_address`) for one that climbs out.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise PictureError(Reason.FORBIDDEN_ADDRESS, f"the path {shown(path)} leads outside pictures.base_url")
    return f"{base_url.rstrip('/')}/{quote('/'.join(parts))}"


class Pictures:
    """Local files below `pictures.root` and URLs; paths are taken below `pictures.base_url` if that is set. Thread-safe."""

    def __init__(self, pictures: settings.Pictures, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._base_url = pictures.base_url
        self._local = LocalPictures(pictures.root, pictures.max_bytes)
        self._http = HttpPictures(pictures, pause=pause)

    def fetch(self, ref: str) -> bytes:
        """As `PictureSource.fetch`."""
        if kind(ref) == "http":
            return self._http.fetch(ref)
        if self._base_url and not ref.lower().startswith("file:"):
            return self._http.fetch(below(self._base_url, ref))
        return self._local.fetch(path_of(ref))

    def close(self) -> None:
        self._http.close()
