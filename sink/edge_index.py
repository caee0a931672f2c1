"""The collections behind an alias of the embedded store."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path

from pixtail.core.ports import NOTHING, VectorStore
from sink.collection import collection_name, generation_of, require_not_current
from sink.edge import EdgeStore
from sink.edge_files import MADE_BY, OpenerLock, Pointer, readable_errors, tombstones_file


class EdgeIndex:
    """An `Index` in the folder `path`. Thread-safe; one object in one process at a time, others get `StoreBusy`."""

    def __init__(
        self,
        path: Path,
        alias: str,
        *,
        api_address: str | None = None,
        datatype: str = "float32",
        indexes: Mapping[str, str] = NOTHING,
    ) -> None:
        self._path = path
        self._alias = alias
        self._datatype = datatype
        self._indexes = indexes
        self._file_lock = OpenerLock(path / f"{alias}.lock", api_address)
        self._pointer = Pointer(path, alias)
        self._stores: dict[str, EdgeStore] = {}
        self._lock = threading.Lock()

    def current(self) -> str | None:
        return self._generation(self._pointer.read())

    def previous(self) -> str | None:
        former = self._pointer.previous()
        return self._generation(former) if former is not None and former.exists() else None

    def generations(self) -> list[str]:
        with readable_errors(self._path):
            folders = [path.name for path in self._path.glob(f"{self._alias}__*") if path.is_dir()]
        found = (generation_of(self._alias, name) for name in folders)
        return sorted(generation for generation in found if generation)

    def made_by(self, generation: str) -> Mapping[str, str]:
        try:
            made_by = json.loads((self._folder(generation) / MADE_BY).read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return made_by if isinstance(made_by, dict) else {}

    def store(self, generation: str) -> VectorStore:
        with self._lock:
            if generation not in self._stores:
                self._stores[generation] = EdgeStore(
                    self._path,
                    self._alias,
                    generation,
                    lock=self._file_lock,
                    datatype=self._datatype,
                    indexes=self._indexes,
                )
            return self._stores[generation]

    def swap(self, generation: str) -> None:
        with self._lock:
            self._file_lock.acquire()
            former = self._pointer.read()
            self._pointer.write(self._folder(generation).name, former.name if former is not None else "")

    def drop(self, generation: str) -> None:
        require_not_current(generation, self.current(), self._alias)
        with self._lock:
            self._file_lock.acquire()
            if (store := self._stores.pop(generation, None)) is not None:
                store.shut()
            folder = self._folder(generation)
            with readable_errors(self._path):
                going = folder.rename(folder.with_name(f"{folder.name}.old"))  # whole or not at all
                shutil.rmtree(going, ignore_errors=True)
                for file in self._path.glob(f"{tombstones_file(folder).name}*"):  # SQLite keeps a log beside it
                    file.unlink()

    def close(self) -> None:
        with self._lock:
            for store in self._stores.values():
                store.shut()
            self._stores.clear()
            self._file_lock.release()

    def _folder(self, generation: str) -> Path:
        return self._path / collection_name(self._alias, generation)

    def _generation(self, folder: Path | None) -> str | None:
        return None if folder is None else generation_of(self._alias, folder.name)
