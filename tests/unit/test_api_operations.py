"""Pictures, statistics, probes, problems and headers over HTTP."""

import httpx2
import pytest
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from pixtail.core.errors import PictureError, Reason
from pixtail.search import create_app
from pixtail.search.security import CONSOLE_POLICY
from tests.api_world import World, png

PICTURE = "/api/v1/images/1/picture"


@pytest.fixture
def world() -> World:
    world = World()
    world.add(1, "red")
    return world


@pytest.fixture
def client(world: World) -> TestClient:
    return TestClient(create_app(world.deps()))


def problem(answer: httpx2.Response, status: int) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.json()


def test_a_thumbnail_is_a_picture_that_browsers_may_keep_while_its_address_names_the_version(
    client: TestClient,
) -> None:
    versioned = client.get("/api/v1/images/1").json()["picture"]
    answer = client.get(f"{versioned}&size=32")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.content.startswith(b"\xff\xd8\xff")
    assert "immutable" in answer.headers["cache-control"]
    assert "no-cache" in client.get(PICTURE).headers["cache-control"]


def test_an_unchanged_thumbnail_is_not_even_fetched(client: TestClient, world: World) -> None:
    tag = client.get(PICTURE).headers["etag"]
    world.pictures.fetched.clear()
    again = client.get(PICTURE, headers={"If-None-Match": f'"other", W/{tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert world.pictures.fetched == []
    assert client.get(PICTURE, params={"size": 64}, headers={"If-None-Match": tag}).status_code == 200


def test_a_file_that_changed_without_its_row_is_never_kept_under_the_old_version(
    client: TestClient, world: World
) -> None:
    versioned = client.get("/api/v1/images/1").json()["picture"]
    old = client.get(versioned)
    world.pictures.files["1.png"] = png("blue")
    new = client.get(versioned)
    assert new.headers["etag"] != old.headers["etag"]
    assert "no-cache" in new.headers["cache-control"]


@pytest.mark.parametrize(
    ("reason", "status"),
    [(Reason.NOT_FOUND, 404), (Reason.TIMEOUT, 503), (Reason.CORRUPT, 502), (Reason.FORBIDDEN_ADDRESS, 502)],
)
def test_a_picture_that_cannot_be_had_says_why(client: TestClient, world: World, reason: Reason, status: int) -> None:
    world.pictures.fail_with = PictureError(reason, "the picture 1.png fails")
    body = problem(client.get(PICTURE), status)
    assert (body["reason"], body["detail"]) == (reason.value, "the picture 1.png fails")


@pytest.mark.parametrize("size", ["0", "15", "2049", "large"])
def test_a_thumbnail_of_a_senseless_size_is_refused(client: TestClient, size: str) -> None:
    assert problem(client.get(PICTURE, params={"size": size}), 422)["errors"][0]["parameter"] == "size"


def test_only_programs_of_this_machine_may_have_the_store_packed(client: TestClient) -> None:
    assert "another machine" in problem(client.post("/api/v1/snapshot"), 403)["detail"]


def test_statistics_join_store_model_and_pipeline(client: TestClient, world: World) -> None:
    world.pipeline = {"lag_records": 7, "dead_letters": 2}
    assert client.get("/api/v1/stats").json() == {
        "points": 1,
        "model": {"name": "colours", "fingerprint": "c0ffee", "dimension": 3},
        "max_picture_bytes": 50_000,
        "pipeline": {"lag_records": 7, "dead_letters": 2},
        "details": None,
    }


def test_failures_come_in_pages_with_their_total(client: TestClient, world: World) -> None:
    failure = {"reason": "not_found", "message": "no file", "attempts": 1, "first_failed": "2026-11-21T08:00:00Z"}
    world.failures = [{"id": n, **failure} for n in range(3)]
    body = client.get("/api/v1/failures", params={"limit": 2, "offset": 1}).json()
    assert [found["id"] for found in body["failures"]] == [1, 2]
    assert body["total"] == 3
    assert body["failures"][0]["message"] == "no file"


def test_readiness_names_what_is_missing(client: TestClient, world: World) -> None:
    assert client.get("/readyz").json() == {"status": "ready"}
    world.missing = ["store", "worker"]
    answer = client.get("/readyz")
    assert problem(answer, 503)["missing"] == ["store", "worker"]
    assert "retry-after" in answer.headers


def test_metrics_come_in_the_format_that_the_scraper_reads(client: TestClient) -> None:
    plain = client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "pixtail_search_seconds_count" in plain.text
    openmetrics = client.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert openmetrics.text.endswith("# EOF\n")


def test_an_unforeseen_error_shows_an_incident_and_logs_its_cause(client: TestClient, world: World) -> None:
    world.embedder.fail_with = ValueError("secret innards")
    with capture_logs() as logs:
        answer = client.get("/api/v1/search", params={"text": "red"})
    body = problem(answer, 500)
    assert "secret innards" not in answer.text
    assert "Traceback" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    (entry,) = logs
    assert entry["incident"] == body["incident"]
    assert repr(entry["exc_info"]) == "ValueError('secret innards')"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/console/nowhere.js", 404), ("PUT", "/healthz", 405)],
)
def test_an_address_that_does_not_exist_is_a_problem_too(
    client: TestClient, method: str, path: str, status: int
) -> None:
    body = problem(client.request(method, path), status)
    assert (body["status"], body["instance"]) == (status, path)


@pytest.mark.parametrize("path", ["/", "/healthz", "/nowhere", "/console/console.js", "/api/v1/images/1"])
def test_every_answer_has_the_security_headers_and_no_cors(client: TestClient, path: str) -> None:
    headers = client.get(path, headers={"Origin": "https://elsewhere.example"}).headers
    assert headers["content-security-policy"] == CONSOLE_POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers


def test_the_console_consists_of_files_that_all_exist(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    for name, media_type in [
        ("console.js", "text/javascript"),
        ("console.css", "text/css"),
        ("icon.svg", "image/svg+xml"),
    ]:
        assert f"/console/{name}" in page.text
        assert client.get(f"/console/{name}").headers["content-type"].startswith(media_type)


def test_the_api_describes_itself_with_problems_under_their_own_media_type(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    search = schema["paths"]["/api/v1/search"]["get"]
    assert list(search["responses"]["422"]["content"]) == ["application/problem+json"]
    assert {parameter["name"] for parameter in search["parameters"]} >= {
        "text",
        "limit",
        "offset",
        "min_score",
        "columns",
    }
    assert search["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/SearchAnswer")
    assert "cdn.jsdelivr.net" in client.get("/docs").headers["content-security-policy"]
