"""What every `Index` promises: several collections behind one alias, swapped in one step."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixtail.core.errors import ModelMismatch, SettingError, UsageError
from pixtail.core.points import Delete, Gone
from pixtail.core.ports import Index
from pixtail.core.settings import Qdrant
from sink.edge_index import EdgeIndex
from sink.memory_index import MemoryIndex
from sink.qdrant import QdrantStore
from sink.qdrant_connection import Connection, server
from sink.qdrant_index import QdrantIndex
from tests.support.points import DIMENSION, direction, upsert
from tests.support.qdrant_grpc import GrpcServer
from tests.support.stores import Serialised

OLD, NEW = "f00d", "beef"


@pytest.fixture(params=["memory", "edge", "qdrant-local", "qdrant-local-grpc"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Index]:
    client: Any = Serialised()
    if request.param == "memory":
        yield MemoryIndex()
    elif request.param == "edge":
        with closing(EdgeIndex(tmp_path / "store", "images")) as edge:
            yield edge
    elif request.param == "qdrant-local":
        yield QdrantIndex(Connection("Qdrant in memory", lambda: client), "images")
    else:
        grpc_server = GrpcServer(client)
        with closing(QdrantIndex(server(Qdrant(url=grpc_server.url)), "images")) as remote:
            yield remote
        grpc_server.close()


def prepare(index: Index, generation: str, points: int = 0, dimension: int = DIMENSION) -> None:
    store = index.store(generation)
    store.prepare(dimension, generation.partition("-")[0], {"name": f"model of {generation}"})
    store.apply([upsert(i, 1, {"from": generation}, direction(i, dimension)) for i in range(points)])


def test_there_is_nothing_at_first(index: Index) -> None:
    assert (index.current(), index.previous(), index.generations()) == (None, None, [])
    assert index.made_by(OLD) == {}


def test_the_first_collection_is_the_current_one_and_later_ones_stand_beside_it(index: Index) -> None:
    prepare(index, OLD, points=3)
    prepare(index, NEW, points=5, dimension=DIMENSION * 2)
    assert (index.current(), index.previous(), index.generations()) == (OLD, None, [NEW, OLD])
    assert (index.store(OLD).count(), index.store(NEW).count()) == (3, 5)
    assert (index.store(OLD).dimension(), index.store(NEW).dimension()) == (DIMENSION, DIMENSION * 2)


def test_a_collection_remembers_how_its_model_is_loaded(index: Index) -> None:
    prepare(index, OLD)
    index.store(OLD).prepare(DIMENSION, OLD, {"name": "somebody else"})
    assert index.made_by(OLD) == {"name": "model of f00d"}


def test_a_swap_goes_there_and_back_and_stores_stay_with_their_collection(index: Index) -> None:
    prepare(index, OLD, points=3)
    prepare(index, NEW, points=5)
    before = index.store(OLD)
    index.swap(NEW)
    assert (index.current(), index.previous()) == (NEW, OLD)
    assert before.count() == 3, "whoever still searches with the old model finds the old vectors"
    assert before.search(direction(1), limit=1)[0].point.payload == {"from": OLD}
    index.swap(OLD)
    assert (index.current(), index.previous()) == (OLD, NEW)


def test_a_collection_takes_vectors_of_its_own_model_only(index: Index) -> None:
    prepare(index, OLD)
    with pytest.raises(ModelMismatch):
        index.store(NEW + "-2").prepare(DIMENSION, OLD)


def test_the_same_model_may_be_used_anew(index: Index) -> None:
    prepare(index, OLD, points=1)
    prepare(index, OLD + "-2", points=2)
    index.swap(OLD + "-2")
    assert (index.current(), index.previous()) == (OLD + "-2", OLD)


def test_each_collection_has_tombstones_of_its_own(index: Index) -> None:
    prepare(index, OLD, points=3)
    prepare(index, NEW, points=3)
    index.store(OLD).apply([Delete(1, 5)])
    assert index.store(OLD).versions([1]) == {1: Gone(5)}
    assert index.store(NEW).versions([1])[1] == upsert(1, 1).sync
    index.store(OLD).forget(6)
    index.store(NEW).apply([Delete(2, 4)])
    assert index.store(NEW).versions([2]) == {2: Gone(4)}


def test_what_is_dropped_is_gone_and_may_be_made_anew(index: Index) -> None:
    prepare(index, OLD, points=3)
    prepare(index, NEW, points=5)
    index.swap(NEW)
    index.store(OLD).apply([Delete(1, 9)])
    index.drop(OLD)
    assert (index.generations(), index.current(), index.previous()) == ([NEW], NEW, None)
    prepare(index, OLD, points=2)
    assert index.store(OLD).count() == 2, "the tombstones went too"


def test_the_current_collection_cannot_be_dropped(index: Index) -> None:
    prepare(index, OLD)
    with pytest.raises(UsageError):
        index.drop(OLD)
    assert index.current() == OLD


def test_a_store_may_be_read_while_another_one_is_built(index: Index) -> None:
    prepare(index, OLD, points=10)
    prepare(index, NEW)
    scanned = index.store(OLD).scan(with_vectors=True)
    for point in scanned:
        index.store(NEW).apply([upsert(point.id, 1, point.payload, np.asarray(point.vector, dtype=np.float32))])
    assert index.store(NEW).count() == 10


def qdrant() -> tuple[Any, QdrantIndex]:
    client: Any = Serialised()
    return client, QdrantIndex(Connection("Qdrant in memory", lambda: client), "images")


def test_a_plain_collection_of_that_name_is_written_in_place_and_cannot_be_swapped() -> None:
    from qdrant_client import models

    client, index = qdrant()
    client.create_collection("images", models.VectorParams(size=DIMENSION, distance=models.Distance.COSINE))
    assert index.current() == ""
    index.store("").prepare(DIMENSION, OLD)
    index.store("").apply([upsert(1, 1)])
    assert client.count("images").count == 1
    assert (index.generations(), index.previous()) == ([""], None), "the tombstones are no generation"
    prepare(index, NEW)
    with pytest.raises(SettingError, match=r"qdrant\.collection"):
        index.swap(NEW)


def test_a_collection_that_somebody_put_behind_the_alias_is_adopted_and_can_be_left_and_taken_back() -> None:
    from qdrant_client import models

    client, index = qdrant()
    client.create_collection("theirs_v3", models.VectorParams(size=DIMENSION, distance=models.Distance.COSINE))
    alias = models.CreateAlias(collection_name="theirs_v3", alias_name="images")
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    assert index.current() == ""
    theirs = index.store("")
    theirs.prepare(DIMENSION, OLD)
    theirs.apply([upsert(1, 1)])
    prepare(index, NEW, points=5)
    index.swap(NEW)
    assert (index.current(), index.previous(), theirs.count()) == (NEW, "", 1)
    index.swap("")
    assert (index.current(), index.previous(), QdrantStore(index._connection, "images").count()) == ("", NEW, 1)


def test_an_embedded_index_survives_its_process(tmp_path: Path) -> None:
    path = tmp_path / secrets.token_hex(3)
    with closing(EdgeIndex(path, "images")) as index:
        prepare(index, OLD, points=3)
        prepare(index, NEW, points=5)
        index.swap(NEW)
    with closing(EdgeIndex(path, "images")) as again:
        assert (again.current(), again.previous(), again.made_by(NEW)) == (NEW, OLD, {"name": "model of beef"})
        assert (again.store(OLD).count(), again.store(NEW).count()) == (3, 5)


def test_a_crash_before_the_first_alias_was_set_is_no_obstacle(tmp_path: Path) -> None:
    with closing(EdgeIndex(tmp_path, "images")) as index:
        prepare(index, OLD, points=3)
    (tmp_path / "images.alias").unlink()
    with closing(EdgeIndex(tmp_path, "images")) as again:
        assert again.current() is None
        again.store(OLD).prepare(DIMENSION, OLD)
        assert (again.current(), again.store(OLD).count()) == (OLD, 3)
