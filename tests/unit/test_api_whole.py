"""The whole index over HTTP: export, duplicates, statistics in detail, one vector."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import orjson
import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from pixtail.core.errors import StoreUnreachable
from pixtail.core.points import StoredPoint
from pixtail.core.settings import Api, Settings
from pixtail.search import create_app, whole
from pixtail.search.rows import from_line
from tests.api_world import World
from tests.support.points import direction, sync

EXPORT, DUPLICATES = "/api/v1/export", "/api/v1/duplicates"
LOCAL = ("127.0.0.1", 50_000)


@pytest.fixture
def world() -> World:
    world = World()
    world.add(1, "red", category="car")
    world.add(2, "green", category="bus")
    world.add(3, "red", category="bus")
    world.add(4, "blue", category="car")
    return world


@pytest.fixture
def client(world: World) -> TestClient:
    return TestClient(create_app(world.deps()), client=LOCAL, base_url="http://127.0.0.1")


def points(answer: httpx2.Response) -> list[StoredPoint]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [from_line(line) for line in answer.content.splitlines()]


def problem(answer: httpx2.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return dict(answer.json())


def test_an_export_is_what_the_store_holds_in_the_order_of_ids(client: TestClient, world: World) -> None:
    assert points(client.get(EXPORT)) == list(world.store.scan())
    with_vectors = points(client.get(EXPORT, params={"vectors": True}))
    for found, stored in zip(with_vectors, world.store.scan(with_vectors=True), strict=True):
        assert found.vector is not None
        assert stored.vector is not None
        assert np.array_equal(np.float32(found.vector), np.float32(stored.vector))


def test_an_export_takes_the_columns_that_a_search_takes(client: TestClient) -> None:
    assert [point.id for point in points(client.get(EXPORT, params={"category": "bus"}))] == [2, 3]
    assert points(client.get(EXPORT, params={"category": "tram"})) == []
    body = problem(client.get(EXPORT, params={"colour": "red"}), 422)
    assert body["detail"] == "no image has a column colour"
    assert "category" in body["remedy"]


def test_a_long_export_comes_in_pieces_and_whole(
    client: TestClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole, "LINES_A_CHUNK", 2)
    world.add(5, "pink")
    assert [point.id for point in points(client.get(EXPORT))] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 200), ("::1", 200), ("192.0.2.1", 403), ("x", 403)])
def test_without_a_token_only_this_machine_gets_everything(world: World, host: str, status: int) -> None:
    answer = TestClient(create_app(world.deps()), client=(host, 1), base_url="http://localhost").get(EXPORT)
    assert answer.status_code == status
    if status == 403:
        assert "api.token" in problem(answer, 403)["remedy"]


@pytest.mark.parametrize(
    ("header", "status"),
    [({"Authorization": "Bearer s3cret"}, 200), ({"Authorization": "Bearer s3cre"}, 401), ({}, 401)],
)
def test_with_a_token_everybody_needs_it_and_anybody_with_it_gets_everything(
    world: World, header: dict[str, str], status: int
) -> None:
    world.settings = Settings(api=Api(token=SecretStr("s3cret")))
    for host in ("127.0.0.1", "192.0.2.1"):
        answer = TestClient(create_app(world.deps()), client=(host, 1), base_url="http://localhost").get(
            EXPORT, headers=header
        )
        assert answer.status_code == status
        assert "s3cret" not in answer.text


def test_a_store_that_fails_before_the_first_image_is_a_problem(client: TestClient, world: World) -> None:
    world.store.fail_with = StoreUnreachable("Qdrant does not answer")
    assert problem(client.get(EXPORT), 503)["detail"] == "Qdrant does not answer"


def test_a_vector_is_the_index_own(client: TestClient, world: World) -> None:
    body = client.get("/api/v1/vectors/1").json()
    assert (body["id"], body["model"], body["dimension"]) == (1, "c0ffee", 3)
    assert body["vector"] == world.store.get([1], with_vectors=True)[0].vector
    assert problem(client.get("/api/v1/vectors/99"), 404)["detail"] == "the index has no image '99'"


def test_duplicates_name_copies_and_neighbours(client: TestClient, world: World) -> None:
    world.add(5, "pink", category="car")
    body = client.get(DUPLICATES, params={"min_score": 0.8}).json()
    red = world.store.get([1])[0].sync
    assert red is not None
    assert body["exact"] == [{"sha256": red.facts.sha256, "ids": [1, 3]}]
    ((first, second),) = body["near"]
    assert (first["id"], first["nearest"], second["id"], second["nearest"]) == (1, 5, 5, 1)
    assert 0.8 < first["score"] == second["score"] < 1
    assert {name: body[name] for name in ("points", "exact_groups", "near_groups", "near_pairs", "min_score")} == {
        "points": 5, "exact_groups": 1, "near_groups": 1, "near_pairs": 1, "min_score": 0.8,
    }  # fmt: skip
    only_exact = client.get(DUPLICATES, params={"exact": True}).json()
    assert (only_exact["exact"], only_exact["near"], only_exact["min_score"]) == (body["exact"], [], None)


@pytest.mark.parametrize("query", ["min_score=0", "min_score=1.1", "min_score=nan", "limit=0", "limit=1001"])
def test_a_senseless_search_for_duplicates_is_refused(client: TestClient, query: str) -> None:
    body = problem(client.get(f"{DUPLICATES}?{query}"), 422)
    assert body["errors"][0]["parameter"] == query.split("=")[0]


class SlowScan:
    """A store's `scan` that waits for `go`; `begun` says that it was asked, `scans` how often."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go, self.scans = threading.Event(), threading.Event(), 0
        self._scan = world.store.scan
        monkeypatch.setattr(world.store, "scan", self)

    def __call__(self, **options: Any) -> Iterator[StoredPoint]:
        self.scans += 1
        self.begun.set()
        assert self.go.wait(20)
        return self._scan(**options)


def test_a_long_search_is_told_to_come_again_until_it_is_done_and_is_done_once(
    client: TestClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowScan(world, monkeypatch)
    monkeypatch.setattr(whole, "WAIT_S", 0.01)
    answer = client.get(DUPLICATES)
    assert (answer.status_code, answer.json()["status"]) == (202, "running")
    assert int(answer.headers["retry-after"]) > 0
    assert client.get(DUPLICATES).status_code == 202
    assert "another search" in problem(client.get(DUPLICATES, params={"min_score": 0.5}), 503)["detail"]
    assert client.get("/healthz").status_code == 200
    slow.go.set()
    monkeypatch.setattr(whole, "WAIT_S", 20)
    assert client.get(DUPLICATES).json()["points"] == 4
    assert slow.scans == 1


def test_an_answer_is_kept_for_a_minute_and_another_question_is_asked_anew(
    client: TestClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.get(DUPLICATES).json()["points"] == 4
    world.add(9, "blue")
    assert client.get(DUPLICATES).json()["points"] == 4
    assert client.get(DUPLICATES, params={"limit": 7}).json()["points"] == 5
    monkeypatch.setattr(whole, "KEEP_S", 0)
    world.add(10, "blue")
    assert client.get(DUPLICATES, params={"limit": 7}).json()["points"] == 6


def test_a_search_that_fails_says_why_and_is_tried_again(client: TestClient, world: World) -> None:
    world.store.fail_with = StoreUnreachable("Qdrant does not answer")
    assert problem(client.get(DUPLICATES), 503)["detail"] == "Qdrant does not answer"
    world.store.fail_with = None
    assert client.get(DUPLICATES).json()["points"] == 4


def test_a_search_that_fails_is_not_kept_because_the_one_before_succeeded(client: TestClient, world: World) -> None:
    assert client.get(DUPLICATES).status_code == 200
    world.store.fail_with = StoreUnreachable("Qdrant does not answer")
    assert client.get(DUPLICATES, params={"limit": 7}).status_code == 503
    world.store.fail_with = None
    assert client.get(DUPLICATES, params={"limit": 7}).status_code == 200


def test_too_many_near_pairs_are_a_wrong_question(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixtail.search.nearness.near_pairs.__kwdefaults__", {"most": 0, "between": lambda *_: None})
    assert "higher least score" in problem(client.get(DUPLICATES, params={"min_score": 0.01}), 422)["remedy"]


def test_statistics_in_detail_count_formats_models_columns_and_failures(client: TestClient, world: World) -> None:
    world.failures = [{"reason": "not_found"}, {"reason": "corrupt"}, {"reason": "not_found"}]
    details = client.get("/api/v1/stats", params={"details": True, "by": ["category"]}).json()["details"]
    assert (details["points"], details["foreign"], details["formats"]) == (4, 0, {"PNG": 4})
    assert details["models"] == {"c0ffee": 4}
    assert details["by"] == {"category": [{"value": "bus", "count": 2}, {"value": "car", "count": 2}]}
    assert details["dead_letters"] == {"not_found": 2, "corrupt": 1}
    assert details["sizes"]["width"] == {"min": 64, "mean": 64.0, "max": 64, "sum": 256}
    answer = client.get("/api/v1/stats", params={"details": True, "by": ["category", "colour"]})
    assert problem(answer, 422)["detail"] == "no image has a column colour"


def test_points_of_other_programs_take_part(client: TestClient, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = StoredPoint(7, {"old": 1}, None, [1.0, 0.0, 0.0])
    ours = StoredPoint(8, {}, sync(1), direction(1, 3).tolist())
    monkeypatch.setattr(world.store, "scan", lambda **_: iter([foreign, ours]))
    assert points(client.get(EXPORT))[0].sync is None
    assert client.get(DUPLICATES).json()["points"] == 2
    assert client.get("/api/v1/stats", params={"details": True}).json()["details"]["foreign"] == 1
    assert orjson.loads(client.get(EXPORT).content.splitlines()[0])["sync"] is None
