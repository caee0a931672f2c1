"""Pictures from the file system, never from outside one folder."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pixtail.core.errors import PictureError, Reason

_FLAGS = (
    os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
)  # NONBLOCK: opening a pipe would wait for its writer


def path_of(ref: str) -> str:
    """The path that a `file:` URL or a plain path says. Raises `PictureError` for a URL of another machine."""
    if not ref.lower().startswith("file:"):
        return ref
    parts = urlsplit(ref)
    if parts.netloc not in ("", "localhost"):
        raise PictureError(Reason.UNSUPPORTED, f"a file: URL of another host ({parts.netloc}) cannot be read")
    return unquote(parts.path)


class LocalPictures:
    """Reads files below `root`. Thread-safe."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        self._root = root
        self._max_bytes = max_bytes

    def fetch(self, path: str) -> bytes:
        """The file's bytes. A relative path starts at the root; links and `..` are followed, but never out of it.

        Raises `PictureError`: `not_found`, `forbidden_address` (outside the root), `too_large`, `unreachable` (root or disk).
        """
        try:
            return self._read(self._inside(path), path)
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a NUL in the path
            raise self._missing(path) from error
        except OSError as error:
            raise _failed(path, error) from error

    def _inside(self, path: str) -> Path:
        root = self._root.resolve()
        real = Path(os.path.realpath(root / path, strict=True))  # Path.resolve raises RuntimeError for a loop of links
        if not real.is_relative_to(root):
            raise PictureError(
                Reason.FORBIDDEN_ADDRESS,
                f"the path {shown(path)} leads outside pictures.root ({root})",
                "Move the file or the root",
            )
        return real

    def _read(self, real: Path, path: str) -> bytes:
        descriptor = os.open(real, _FLAGS)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise PictureError(Reason.NOT_FOUND, f"{shown(path)} is not a regular file")
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read(self._max_bytes + 1)
        finally:
            os.close(descriptor)
        if len(data) > self._max_bytes:
            raise PictureError(
                Reason.TOO_LARGE, f"{shown(path)} has more than {self._max_bytes} bytes", "Raise pictures.max_bytes"
            )
        return data

    def _missing(self, path: str) -> PictureError:
        """A root that is not there is a missing mount, not a hundred thousand missing pictures."""
        if not self._root.is_dir():
            return PictureError(
                Reason.UNREACHABLE, f"the folder {self._root} (pictures.root) does not exist", "Mount or create it"
            )
        return PictureError(Reason.NOT_FOUND, f"the file {shown(path)} does not exist below {self._root}")


def _failed(path: str, error: OSError) -> PictureError:
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        return PictureError(Reason.NOT_FOUND, f"{shown(path)} is no usable path ({error.strerror})")
    return PictureError(Reason.UNREACHABLE, f"the file {shown(path)} cannot be read ({error.strerror})")


def shown(ref: str) -> str:
    """A path or URL as it may stand in a message: short, and without the credentials or signature that a URL may carry."""
    if "://" in ref:
        scheme, _, rest = ref.partition("://")
        host, slash, path = rest.partition("/")
        ref = f"{scheme}://{host.rpartition('@')[2]}{slash}{path}".partition("?")[0]
    return ref if len(ref) <= 200 else f"{ref[:150]}…{ref[-40:]}"
