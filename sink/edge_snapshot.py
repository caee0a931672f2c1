"""A snapshot of the embedded store: a tar of everything as it was at one moment, and a list of checksums.

collection/…    the folder of the collection
tombstones      the tombstones, as a database of SQLite
manifest.json   {"format", "alias", "collection", "points", "engine", "at", "files": {name: {"bytes", "sha256"}}}; the last one
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from pixtail.core.errors import PixtailError, UsageError
from pixtail.core.points import now_text
from sink.collection import collection_name, fingerprint_of, generation_of
from sink.edge_files import OpenerLock, Pointer, readable_errors, require_space, sync_file, sync_tree, tombstones_file

FORMAT = 1
MANIFEST = "manifest.json"
COLLECTION = "collection"
TOMBSTONES = "tombstones"
CHUNK_BYTES = 1 << 20
MARGIN_BYTES = 128 << 20


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a snapshot says of itself."""

    alias: str
    collection: str
    points: int
    at: str


def pack(file: Path, alias: str, points: int, collection: Path, tombstones: Path) -> None:
    """Writes the tar under the name `file`, which it gets once it is whole. Nobody may write to the collection meanwhile.

    Raises `StoreUnreachable` when there is too little space, and `OSError`.
    """
    require_space(file.parent, _size(collection) + MARGIN_BYTES)
    part = file.with_name(file.name + ".part")
    about = Snapshot(alias, collection.name, points, now_text())
    try:
        while not _packed(part, about, collection, tombstones):
            pass
        sync_file(part)
        part.replace(file)
        sync_file(file.parent)
    finally:
        part.unlink(missing_ok=True)


def _packed(part: Path, about: Snapshot, collection: Path, tombstones: Path) -> bool:
    """False: the shard's log renamed a file of its own just now, and all has to be looked at again."""
    files: dict[str, Any] = {}
    with tarfile.TarFile(part, "w", copybufsize=CHUNK_BYTES) as tar:
        try:
            for name, path in _members(collection, tombstones):
                files[name] = _add(tar, name, path)
        except FileNotFoundError:
            if not collection.exists():
                raise
            return False
        manifest = {"format": FORMAT, "engine": version("qdrant-edge-py"), **asdict(about), "files": files}
        text = json.dumps(manifest).encode()
        entry = tarfile.TarInfo(MANIFEST)
        entry.size = len(text)
        tar.addfile(entry, BytesIO(text))
    return True


def _members(collection: Path, tombstones: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(collection.rglob("*")):
        if path.is_file():
            yield f"{COLLECTION}/{path.relative_to(collection).as_posix()}", path
    yield TOMBSTONES, tombstones


def _add(tar: tarfile.TarFile, name: str, path: Path) -> dict[str, Any]:
    with path.open("rb") as opened:
        entry = tar.gettarinfo(arcname=name, fileobj=opened)
        hashed = _Hashed(opened)
        tar.addfile(entry, hashed)  # type: ignore[arg-type]  # it only reads
    return {"bytes": entry.size, "sha256": hashed.digest()}


class _Hashed:
    """A file that is summed up while it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sum = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._sum.update(data)
        return data

    def digest(self) -> str:
        return self._sum.hexdigest()


def restore(file: Path, path: Path, alias: str, *, force: bool) -> Snapshot:
    """Puts what the snapshot `file` holds into the folder `path`. Nothing is touched before all of it is proved to be whole.

    It becomes a generation of its own, whose consumer groups begin at the topic's start: what the snapshot missed is read again. What the
    alias named is the previous one.

    Raises `UsageError` if there is an index already and not `force`, or if the snapshot is of another alias; `StoreBusy` if the store is
    open; `PixtailError` for a file that is no snapshot, or is damaged. If it is interrupted, do it again with `force`.
    """
    lock, pointer = OpenerLock(path / f"{alias}.lock", None), Pointer(path, alias)
    lock.acquire()
    try:
        former = pointer.read()
        if former is not None and not force:
            raise UsageError(f"there is an index {alias} in {path} already", "Say --force to replace it")
        with _building(path / f"{alias}.restoring") as building:
            found = _unpack(file, building)
            if found.alias != alias:
                raise UsageError(
                    f"{file} is a snapshot of {found.alias}, not of {alias}", "Set qdrant.collection to it"
                )
            collection = path / collection_name(alias, _generation(found))
            _place(building, collection)
        pointer.write(collection.name, "" if former is None else former.name)
    finally:
        lock.release()
    return found


@contextmanager
def _building(folder: Path) -> Iterator[Path]:
    with readable_errors(folder.parent):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _generation(found: Snapshot) -> str:
    """One that was never there: the moment is part of it."""
    fingerprint = fingerprint_of(generation_of(found.alias, found.collection) or "")
    return f"{fingerprint}-{time.time_ns()}"


def _place(building: Path, collection: Path) -> None:
    with readable_errors(collection.parent):
        sync_tree(building)
        (building / TOMBSTONES).replace(tombstones_file(collection))
        (building / COLLECTION).replace(collection)
        sync_file(collection.parent)


def _unpack(file: Path, folder: Path) -> Snapshot:
    try:
        require_space(folder, file.stat().st_size + MARGIN_BYTES)
        with tarfile.TarFile(file, copybufsize=CHUNK_BYTES) as tar:
            names = {member.name for member in tar}
            tar.extractall(folder, filter="data")
    except (OSError, tarfile.TarError) as error:
        raise _no_snapshot(file, str(error)) from error
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["format"] != FORMAT:
            raise _no_snapshot(file, f"its form is number {manifest['format']}, this program knows {FORMAT}")
        _require_whole(file, folder, names - {MANIFEST}, manifest["files"])
        about = {name: manifest[name] for name in Snapshot.__slots__}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _no_snapshot(file, f"it has no {MANIFEST} that makes sense") from error
    return Snapshot(**about)


def _require_whole(file: Path, folder: Path, names: set[str], expected: Mapping[str, Any]) -> None:
    for name in sorted(names ^ expected.keys()):
        raise _no_snapshot(file, f"{name} is {'missing' if name in expected else 'not in its list'}")
    for name, facts in expected.items():
        with (folder / name).open("rb") as unpacked:
            digest = hashlib.file_digest(unpacked, "sha256").hexdigest()
        if digest != facts["sha256"]:
            raise _no_snapshot(file, f"{name} is damaged")


def _no_snapshot(file: Path, why: str) -> PixtailError:
    return PixtailError(f"{file} is no whole snapshot: {why}", "Take another one; nothing was changed")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
