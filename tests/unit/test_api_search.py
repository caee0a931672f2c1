"""Searching over HTTP, over the store in memory."""

import httpx2
import numpy as np
import pytest
from starlette.testclient import TestClient

from pixtail.core.errors import DimensionMismatch, StoreUnreachable
from pixtail.core.points import point_id
from pixtail.search import create_app
from tests.api_world import World, png

SEARCH = "/api/v1/search"


@pytest.fixture
def world() -> World:
    world = World()
    world.add(1, "red", category="car", model_id=5)
    world.add(2, "green", category="bus", model_id="5")
    world.add(3, "blue", category="bus", model_id=6, price="19.90", weight=19.9)
    world.add(4, "pink", category="car", model_id=6)
    return world


@pytest.fixture
def client(world: World) -> TestClient:
    return TestClient(create_app(world.deps()))


def ids(answer: httpx2.Response) -> list[int | str]:
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["hits"]]


def upload(client: TestClient, data: bytes, **options: object) -> httpx2.Response:
    return client.post(f"{SEARCH}/image", params=options, files={"file": ("query.png", data, "image/png")})


def problem(answer: httpx2.Response, status: int, name: str) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["type"] == f"urn:pixtail:problem:{name}"
    assert body["status"] == status
    assert body["title"]
    assert body["instance"] == answer.request.url.path
    return body


def test_text_finds_the_nearest_pictures_best_first(client: TestClient) -> None:
    assert ids(client.get(SEARCH, params={"text": "red"})) == [1, 4, 2, 3]
    assert ids(client.get(SEARCH, params={"text": "红色", "limit": 2})) == [1, 4]


def test_a_hit_carries_score_columns_bookkeeping_and_addresses(client: TestClient) -> None:
    body = client.get(SEARCH, params={"text": "red", "limit": 1}).json()
    (hit,) = body["hits"]
    assert hit["score"] == pytest.approx(1, abs=1e-3)
    assert hit["payload"] == {"image_id": 1, "title": "red 1", "file_path": "1.png", "category": "car", "model_id": 5}
    assert hit["sync"]["seq"] == 1
    assert (hit["sync"]["width"], hit["sync"]["height"], hit["sync"]["ref"]) == (64, 48, "1.png")
    assert hit["url"] == "/api/v1/images/1"
    assert hit["picture"] == f"/api/v1/images/1/picture?v={hit['sync']['sha256'][:12]}"
    assert body["took_ms"] > 0


def test_pages_follow_each_other_and_the_last_one_says_so(client: TestClient) -> None:
    first = client.get(SEARCH, params={"text": "red", "limit": 3})
    second = client.get(SEARCH, params={"text": "red", "limit": 3, "offset": 3})
    assert (ids(first), first.json()["more"]) == ([1, 4, 2], True)
    assert (ids(second), second.json()["more"]) == ([3], False)


def test_a_least_score_keeps_the_unlike_out(client: TestClient) -> None:
    assert ids(client.get(SEARCH, params={"text": "red", "min_score": 0.8})) == [1, 4]


def test_any_other_query_name_asks_for_equality_of_that_column(client: TestClient) -> None:
    assert ids(client.get(SEARCH, params={"text": "red", "category": "bus"})) == [2, 3]
    assert ids(client.get(SEARCH, params={"text": "red", "category": "bus", "model_id": "6"})) == [3]
    assert ids(client.get(SEARCH, params={"text": "red", "colour": "mauve"})) == []


def test_a_number_in_the_query_matches_the_number_and_the_text(client: TestClient) -> None:
    assert ids(client.get(SEARCH, params={"text": "red", "model_id": "5"})) == [1, 2]
    assert ids(client.get(SEARCH, params={"text": "red", "price": "19.90"})) == [3]
    assert ids(client.get(SEARCH, params={"text": "red", "weight": "19.9"})) == [3]


def test_pages_of_an_ambiguous_filter_follow_each_other_too(client: TestClient) -> None:
    first = client.get(SEARCH, params={"text": "red", "model_id": "5", "limit": 1})
    second = client.get(SEARCH, params={"text": "red", "model_id": "5", "limit": 1, "offset": 1})
    assert (ids(first), first.json()["more"]) == ([1], True)
    assert (ids(second), second.json()["more"]) == ([2], False)


def test_a_column_given_twice_asks_for_either_value(client: TestClient) -> None:
    assert ids(client.get(f"{SEARCH}?text=red&category=bus&category=car")) == [1, 4, 2, 3]


def test_too_many_combinations_of_values_are_refused(client: TestClient) -> None:
    body = problem(client.get(f"{SEARCH}?text=red&a=1&b=1&c=1&d=1&e=1"), 422, "invalid-request")
    assert "16 combinations" in body["detail"]


def test_a_picture_finds_its_like(client: TestClient) -> None:
    assert ids(upload(client, png("blue"), limit=1)) == [3]
    assert ids(upload(client, png("red"), category="bus", limit=1)) == [2]


def test_similar_leaves_the_image_itself_out(client: TestClient) -> None:
    assert ids(client.get("/api/v1/images/1/similar")) == [4, 2, 3]
    assert ids(client.get("/api/v1/images/1/similar", params={"category": "bus", "limit": 1})) == [2]


def test_an_upload_that_is_no_picture_is_refused_with_the_reason(client: TestClient) -> None:
    body = problem(upload(client, b"hello"), 422, "bad-picture")
    assert body["reason"] == "not_an_image"
    assert body["remedy"]


def test_an_upload_above_the_limit_is_refused(client: TestClient, world: World) -> None:
    limit = world.settings.pictures.max_bytes
    body = problem(upload(client, png("red").ljust(limit + 1, b"\0")), 413, "too-large")
    assert str(limit) in body["detail"]
    assert ids(upload(client, png("red").ljust(limit, b"\0"), limit=1)) == [1]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("text=", "text"),
        ("text=%20%20", "text"),
        ("", "text"),
        ("text=red&limit=0", "limit"),
        ("text=red&limit=101", "limit"),
        ("text=red&offset=-1", "offset"),
        ("text=red&min_score=nan", "min_score"),
        ("text=red&min_score=2", "min_score"),
        ("text=red&=5", "columns"),
    ],
)
def test_a_wrong_parameter_is_named(client: TestClient, query: str, parameter: str) -> None:
    body = problem(client.get(f"{SEARCH}?{query}"), 422, "invalid-request")
    assert [error["parameter"] for error in body["errors"]] == [parameter]
    assert body["detail"].startswith(f"{parameter}: ")


def test_an_upload_without_a_file_is_refused(client: TestClient) -> None:
    body = problem(client.post(f"{SEARCH}/image"), 422, "invalid-request")
    assert body["errors"][0]["parameter"] == "file"


def test_an_unreachable_store_is_503_with_the_remedy_and_when_to_come_back(client: TestClient, world: World) -> None:
    world.store.fail_with = StoreUnreachable("Qdrant at localhost:6333 does not answer", "Start it")
    answer = client.get(SEARCH, params={"text": "red"})
    body = problem(answer, 503, "unreachable")
    assert (body["detail"], body["remedy"]) == ("Qdrant at localhost:6333 does not answer", "Start it")
    assert int(answer.headers["retry-after"]) > 0


def test_a_model_that_does_not_fit_the_collection_is_said_plainly(client: TestClient, world: World) -> None:
    world.store.fail_with = DimensionMismatch("the collection has 512 dimensions", "Set model.name")
    body = problem(client.get(SEARCH, params={"text": "red"}), 500, "misconfigured")
    assert (body["detail"], body["remedy"]) == ("the collection has 512 dimensions", "Set model.name")


def test_searches_are_timed_by_kind_and_failed_ones_are_not(client: TestClient, world: World) -> None:
    client.get(SEARCH, params={"text": "red"})
    client.get(SEARCH, params={"text": "blue"})
    upload(client, png("red"))
    upload(client, b"hello")
    counts = {
        kind: world.metrics.registry.get_sample_value("pixtail_search_seconds_count", {"kind": kind})
        for kind in ("text", "image")
    }
    assert counts == {"text": 2, "image": 1}


def test_an_image_is_found_by_its_key_whatever_its_type(client: TestClient, world: World) -> None:
    by_text = point_id("images", {"id": "a-17"})
    by_digits = point_id("images", {"id": "007"})
    negative = point_id("images", {"id": -5})
    for point in (by_text, by_digits, negative):
        world.add(point, "red")
    asked = {"1": 1, "a-17": by_text, by_text: by_text, "007": by_digits, "-5": negative}
    found = {text: client.get(f"/api/v1/images/{text}").json().get("id") for text in asked}
    assert found == asked


def test_a_key_beyond_the_range_of_a_float_keeps_all_its_digits(client: TestClient, world: World) -> None:
    world.add((1 << 64) - 1, "red")
    assert client.get(f"/api/v1/images/{(1 << 64) - 1}").json()["id"] == (1 << 64) - 1


@pytest.mark.parametrize("path", ["99", "no-such-key", "9" * 5000, "99/similar", "99/picture"])
def test_an_image_that_is_not_there_is_404(client: TestClient, path: str) -> None:
    body = problem(client.get(f"/api/v1/images/{path}"), 404, "not-found")
    assert "/api/v1/failures" in body["remedy"]


def test_an_image_of_another_program_has_no_bookkeeping(client: TestClient, world: World) -> None:
    answer = world.store.get([1])[0]
    foreign = type(answer)(9, {"file_path": "old.png"}, None, np.ones(3, np.float32))
    world.store.get = lambda ids, *, with_vectors=False: [foreign]  # type: ignore[method-assign]
    body = client.get("/api/v1/images/9").json()
    assert (body["sync"], body["picture"]) == (None, "/api/v1/images/9/picture")
