"""The folder of the embedded store: one opener, an alias that is a pointer file, collections that appear whole or not at all.

<path>/<alias>.lock                  held by the opener (flock); says {"pid", "api"}
<path>/<alias>.alias                 the names of the collection behind the alias, and of the one before it
<path>/<alias>__<generation>/        a collection: one shard of qdrant-edge, and `made_by.json`
<path>/<alias>__<generation>.tombstones   which version deleted a row (SQLite)
<path>/<alias>.<random>.snapshot     a snapshot that another process asked for, until it takes it away
<path>/<alias>.restoring/            what `restore` unpacks and looks at
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pixtail.core.errors import SettingError, StoreBusy, StoreUnreachable


@contextmanager
def readable_errors(path: Path) -> Iterator[None]:
    """An `OSError` inside becomes an error that names the setting."""
    try:
        yield
    except OSError as error:
        raise SettingError(
            f"the embedded store in {path} cannot be used: {error.strerror or error}",
            "Set qdrant.path to a folder on a local disk that this user may write",
        ) from error


MADE_BY = "made_by.json"


def tombstones_file(collection: Path) -> Path:
    return collection.with_name(f"{collection.name}.tombstones")


class OpenerLock:
    """Proves that this is the only opener. It ends with the process, however that ends. Not thread-safe."""

    def __init__(self, path: Path, api_address: str | None) -> None:
        self._path = path
        self._api_address = api_address
        self._file: int | None = None

    def acquire(self) -> None:
        """Raises `StoreBusy` with the other opener's address if there is one. Does nothing if it is held already."""
        if self._file is not None:
            return
        with readable_errors(self._path.parent):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy = _busy(self._path.parent, os.pread(file, 4096, 0))
            os.close(file)
            raise busy from None
        self._file = file
        self._write(json.dumps({"pid": os.getpid(), "api": self._api_address}).encode())

    def release(self) -> None:
        if self._file is not None:
            self._write(b"")  # the file stays: removing it would let two openers hold locks on two files of one name
            os.close(self._file)
            self._file = None

    def _write(self, text: bytes) -> None:
        assert self._file is not None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, text, 0)


def _busy(folder: Path, recorded: bytes) -> StoreBusy:
    opener = _opener(recorded)
    pid, api = opener.get("pid"), opener.get("api")
    return StoreBusy(
        f"the embedded store in {folder} is open in {f'process {pid}' if pid else 'another process'}",
        f"Ask that process through its API at {api}"
        if api
        else "Stop that process, or set qdrant.url to share a Qdrant server",
        api=api,
    )


def _opener(recorded: bytes) -> dict[str, Any]:
    """What the opener wrote; empty in the moment between its locking and its writing."""
    try:
        opener = json.loads(recorded)
    except ValueError:
        return {}
    return opener if isinstance(opener, dict) else {}


class Pointer:
    """The alias: which collection folder is the current one, and which was it before. Changes atomically."""

    def __init__(self, path: Path, alias: str) -> None:
        self._folder = path
        self._file = path / f"{alias}.alias"

    def read(self) -> Path | None:
        """The collection's folder; None if there is none yet."""
        return self._named(0)

    def previous(self) -> Path | None:
        """The folder of the collection before the last change."""
        return self._named(1)

    def write(self, collection: str, previous: str = "") -> None:
        new = self._file.with_suffix(".alias.new")
        with readable_errors(self._folder):
            new.write_text("\n".join([collection, previous]).strip() + "\n")
            sync_file(new)
            new.replace(self._file)
            sync_file(self._folder)

    def _named(self, line: int) -> Path | None:
        with readable_errors(self._folder):
            try:
                names = self._file.read_text().split()
            except FileNotFoundError:
                return None
        return self._folder / names[line] if line < len(names) else None


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to build in; it takes the name `folder` when the block ends well. Removes what an earlier attempt left."""
    building = folder.with_name(folder.name + ".new")
    with readable_errors(folder.parent):
        shutil.rmtree(building, ignore_errors=True)
    yield building
    with readable_errors(folder.parent):
        sync_file(building)
        building.replace(folder)
        sync_file(folder.parent)


def sync_file(path: Path) -> None:
    """Returns when the file's (or folder's) contents are on the disk, pages written through a memory map included: fsync(2)."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sync_folder(folder: Path) -> None:
    """Returns when all files of the folder are on the disk. The shard's log renames its files in a thread of its own: a file that is gone
    when its turn comes has another name by now, and everything is looked at again."""
    while not _synced(folder):
        pass


def _synced(folder: Path) -> bool:
    try:
        for path in [*folder.iterdir(), folder]:
            sync_file(path)
    except FileNotFoundError:
        if not folder.exists():
            raise
        return False
    return True


def sync_tree(folder: Path) -> None:
    """Writes back what the files below have in memory. Files may come and go meanwhile: nobody relies on those that do."""
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            sync_file(path)


def require_space(path: Path, min_free_bytes: int) -> None:
    """Raises `StoreUnreachable` when the disk is nearly full. Asked before each write: the shard writes through memory maps, and a
    full disk under a memory map is no error but a SIGBUS that ends the process."""
    with readable_errors(path):
        free = shutil.disk_usage(path).free
    if free < min_free_bytes:
        raise StoreUnreachable(
            f"the disk that holds the embedded store in {path} is full: {free >> 20} MiB are left, {min_free_bytes >> 20} MiB are needed",
            "Free some space there; the work goes on by itself",
        )
