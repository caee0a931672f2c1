"""A process follows the alias: search, worker and model move together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from pixtail.app import following
from pixtail.app.following import Following, FollowingWorker, Generation, how_to_load, index_model, open_generation
from pixtail.core.errors import ModelError, ModelMismatch, StoreUnreachable
from pixtail.core.lifecycle import Service, Stop
from pixtail.core.metrics import Metrics
from pixtail.core.settings import Model, Settings
from sink.memory_index import MemoryIndex

OLD, NEW = "f00d", "beef"


class FakeModel:
    """An embedder as far as following goes."""

    def __init__(self, name: str, fingerprint: str, dimension: int) -> None:
        self.name, self.fingerprint, self.dimension = name, fingerprint, dimension


KNOWN = {"old": FakeModel("old", OLD, 8), "new": FakeModel("new", NEW, 16)}


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(model: Model, _pictures: Any) -> Any:
        if model.name not in KNOWN:
            raise ModelError(f"there is no model {model.name}")
        return KNOWN[model.name]

    monkeypatch.setattr("encoder.clip.load", load)
    monkeypatch.setattr(following, "LOOK_EVERY_S", 0.005)


def settings(name: str) -> Settings:
    return Settings(model=Model(name=name))


def followed(index: MemoryIndex, name: str = "old") -> Following:
    metrics = Metrics()
    return Following(settings(name), index, metrics, open_generation(settings(name), index, metrics, index.current()))


def build(index: MemoryIndex, name: str) -> None:
    model = KNOWN[name]
    index.store(model.fingerprint).prepare(model.dimension, model.fingerprint, how_to_load(Model(name=name)))


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_the_first_collection_is_made_by_the_settings_model() -> None:
    index = MemoryIndex()
    now = followed(index).current
    assert (now.name, now.model.name, index.current(), index.made_by(OLD)["name"]) == (OLD, "old", OLD, "old")


def test_the_index_decides_which_model_is_loaded_and_not_the_settings() -> None:
    index = MemoryIndex()
    build(index, "old")
    assert followed(index, "new").current.model.name == "old"


def test_a_model_that_has_moved_to_another_place_is_found_by_the_settings() -> None:
    index = MemoryIndex()
    index.store(OLD).prepare(8, OLD, {"name": "/gone/away"})
    assert followed(index, "old").current.model.name == "old"


def test_where_the_indexs_model_cannot_be_had_it_says_so() -> None:
    index = MemoryIndex()
    index.store(OLD).prepare(8, OLD)
    with pytest.raises(ModelMismatch, match="pixtail reindex"):
        index_model(settings("new"), index, OLD)
    with pytest.raises(ModelError, match="nowhere"):
        index_model(settings("nowhere"), index, OLD)


def test_when_the_alias_moves_model_and_store_move_together() -> None:
    index = MemoryIndex()
    process, seen = followed(index), list[Generation]()
    process.on_move(seen.append)
    process.look()
    assert seen == [], "it has not moved"
    build(index, "new")
    index.swap(NEW)
    process.look()
    assert [(one.name, one.model.name, one.store.dimension()) for one in seen] == [(NEW, "new", 16)]
    assert process.current is seen[0]
    index.swap(OLD)
    process.look()
    assert process.current.model.name == "old"


def test_a_process_that_cannot_follow_goes_on_with_the_former_one_and_is_not_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index = MemoryIndex()
    process = followed(index)
    build(index, "new")
    monkeypatch.delitem(KNOWN, "new")
    index.swap(NEW)
    process.look()
    process.look()
    assert (process.ready(), process.current.name) == (False, OLD)
    index.swap(OLD)
    process.look()
    assert process.ready()


def test_of_many_that_look_at_once_one_follows() -> None:
    index = MemoryIndex()
    process, seen = followed(index), list[Generation]()
    process.on_move(lambda generation: (time.sleep(0.05), seen.append(generation))[1])
    build(index, "new")
    index.swap(NEW)
    threads = [threading.Thread(target=process.look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [generation.name for generation in seen] == [NEW]


def test_a_store_that_is_away_leaves_everything_as_it_is() -> None:
    index = MemoryIndex()
    process, stop = followed(index), Stop()
    real, calls = index.current, list[int]()

    def away() -> str | None:
        calls.append(1)
        if len(calls) < 4:
            raise StoreUnreachable("away")
        return real()

    index.current = away  # type: ignore[method-assign]
    thread = threading.Thread(target=process.run, args=(stop,))
    thread.start()
    until(lambda: len(calls) > 5)
    stop.set()
    thread.join()
    assert process.current.name == OLD


class Work:
    """A worker that notes when it runs."""

    def __init__(self, generation: Generation, log: list[str]) -> None:
        self.name = "worker"
        self._generation, self._log = generation, log

    def ready(self) -> bool:
        return True

    def run(self, stop: Stop) -> None:
        self._log.append(f"begin {self._generation.name}")
        stop.wait(10)
        self._log.append(f"end {self._generation.name}")


def test_the_worker_of_the_former_generation_ends_before_the_next_one_begins() -> None:
    index, log = MemoryIndex(), list[str]()
    process, stop = followed(index), Stop()

    def make(generation: Generation) -> Service:
        return Work(generation, log)

    worker = FollowingWorker(process, make)
    assert not worker.ready()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    until(lambda: log == [f"begin {OLD}"])
    build(index, "new")
    index.swap(NEW)
    process.look()
    until(lambda: len(log) == 3)
    assert worker.ready()
    stop.set()
    thread.join()
    assert log == [f"begin {OLD}", f"end {OLD}", f"begin {NEW}", f"end {NEW}"]


def test_a_server_that_is_away_while_the_worker_is_made_holds_it_up() -> None:
    process, stop, log = followed(MemoryIndex()), Stop(), list[str]()

    def make(generation: Generation) -> Service:
        log.append("asked")
        if len(log) < 3:
            raise StoreUnreachable("away")
        return Work(generation, log)

    worker = FollowingWorker(process, make)
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    until(lambda: len(log) == 4)
    assert worker.ready()
    stop.set()
    thread.join()
    assert log == ["asked", "asked", "asked", f"begin {OLD}", f"end {OLD}"]


def test_nobody_waits_for_a_worker_of_a_generation_that_is_no_longer_named() -> None:
    index, log = MemoryIndex(), list[str]()
    process, stop = followed(index), Stop()

    def make(generation: Generation) -> Service:
        log.append(f"asked for {generation.name}")
        if generation.name == OLD:
            raise StoreUnreachable("away")
        return Work(generation, log)

    worker = FollowingWorker(process, make)
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    until(lambda: len(log) > 1)
    assert not worker.ready()
    build(index, "new")
    index.swap(NEW)
    process.look()
    until(worker.ready)
    stop.set()
    thread.join()
    assert log[-3:] == [f"asked for {NEW}", f"begin {NEW}", f"end {NEW}"]
