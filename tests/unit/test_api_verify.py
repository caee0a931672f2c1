"""Verifications over HTTP: who may begin one, and how it is followed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from pixtail.app.asking import have_done
from pixtail.app.verify.options import Options
from pixtail.core.errors import PixtailError, UsageError
from pixtail.core.lifecycle import Stop
from pixtail.core.settings import Api, Settings
from pixtail.search import create_app
from tests.api_world import World, serving

VERIFY = "/api/v1/verify"
HERE = ("127.0.0.1", 5000)
TOKEN = "open sesame"
REST = {"remedy": "", "refused": False}


@pytest.fixture
def world() -> World:
    return World()


def client(world: World, address: str = "127.0.0.1", host: str = "127.0.0.1:8080") -> TestClient:
    return TestClient(create_app(world.deps()), base_url=f"http://{host}", client=(address, 5000))


def with_token(world: World) -> World:
    world.settings = Settings(api=Api(token=SecretStr(TOKEN)))
    return world


def test_one_is_begun_and_followed(world: World) -> None:
    answer = client(world).post(VERIFY, json={"repair": True, "chunk_rows": 7})
    assert (answer.status_code, answer.json()["number"], answer.json()["running"]) == (202, 1, True)
    assert world.verification.asked == [{"repair": True, "chunk_rows": 7, "wait_s": 300}]
    assert client(world).get(VERIFY).json()["running"] is True


def test_a_second_one_at_once_is_refused(world: World) -> None:
    client(world).post(VERIFY, json={})
    answer = client(world).post(VERIFY, json={})
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:pixtail:problem:already-running")


@pytest.mark.parametrize("body", [{"repare": True}, {"chunk_rows": 0}, {"wait_s": -1}])
def test_what_cannot_be_meant_is_refused(world: World, body: dict[str, Any]) -> None:
    assert client(world).post(VERIFY, json=body).status_code == 422


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "[::1]:8080"])
def test_without_a_token_programs_of_this_machine_may_begin_one(world: World, address: str, host: str) -> None:
    assert client(world, address, host).post(VERIFY, json={}).status_code == 202


@pytest.mark.parametrize(
    ("address", "host", "headers"),
    [
        ("192.0.2.7", "127.0.0.1:8080", {}),
        ("127.0.0.1", "evil.example:8080", {}),  # a name that was made to lead here
        ("127.0.0.1", "127.0.0.1:8080", {"Origin": "http://evil.example"}),
        ("127.0.0.1", "127.0.0.1:8080", {"Origin": "null"}),
        ("127.0.0.1", "127.0.0.1:8080", {"Origin": "http://127.0.0.1:9999"}),
    ],
)
def test_other_machines_and_pages_of_other_sites_may_not(
    world: World, address: str, host: str, headers: dict[str, str]
) -> None:
    answer = client(world, address, host).post(VERIFY, json={}, headers=headers)
    assert (answer.status_code, answer.json()["remedy"]) == (403, "Set api.token, and send it")
    assert world.verification.asked == []


def test_a_page_of_our_own_may(world: World) -> None:
    answer = client(world).post(VERIFY, json={}, headers={"Origin": "http://127.0.0.1:8080"})
    assert answer.status_code == 202


@pytest.mark.parametrize("header", ["", "Bearer wrong", f"Basic {TOKEN}", "Bearer sésame"])
def test_with_a_token_nobody_may_without_it(world: World, header: str) -> None:
    answer = client(with_token(world)).post(VERIFY, json={}, headers={"Authorization": header.encode()})
    assert (answer.status_code, answer.json()["type"]) == (401, "urn:pixtail:problem:token-needed")


def test_with_the_token_other_machines_may(world: World) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = client(with_token(world), "192.0.2.7", "pixtail.example").post(VERIFY, json={}, headers=headers)
    assert answer.status_code == 202


# The command that asks


@pytest.fixture
def api(world: World) -> Iterator[str]:
    with serving(with_token(world)) as url:
        yield url


def test_the_command_follows_the_verification_of_the_process_that_holds_the_store(world: World, api: str) -> None:
    shown = []
    states = [
        {"running": True, "doing": "Comparing", "done": 5, "about": 9},
        {"running": False, "report": {"ok": True}},
    ]

    def state() -> dict[str, Any]:
        idle = {"number": 1, "doing": "", "done": 0, "about": 0, "report": None, "problem": None, **REST}
        return {**idle, **(states.pop(0) if len(states) > 1 else states[0])}

    world.verification.state = state  # type: ignore[method-assign]
    report = have_done(
        world.settings, api, VERIFY, asdict(Options(repair=True, wait_s=3)), lambda *seen: shown.append(seen), Stop()
    )
    assert report == {"ok": True}
    assert shown == [("Comparing", 5, 9)]
    assert world.verification.asked == [{"repair": True, "chunk_rows": 4000, "wait_s": 3}]


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ({"number": 1, "problem": "MySQL does not answer"}, "MySQL does not answer"),
        ({"number": 2, "report": {"ok": True}}, "another one came after it"),
    ],
)
def test_one_without_a_result_is_an_error_that_says_why(
    world: World, api: str, outcome: dict[str, Any], said: str
) -> None:
    idle = {"number": 1, "doing": "", "done": 0, "about": 0, "report": None, "problem": None, **REST}
    states = [{**idle, "running": True}, {**idle, "running": False, **outcome}]
    lock = threading.Lock()

    def state() -> dict[str, Any]:
        with lock:
            return states.pop(0) if len(states) > 1 else states[0]

    world.verification.state = state  # type: ignore[method-assign]
    with pytest.raises(PixtailError, match=said):
        have_done(world.settings, api, VERIFY, {}, lambda *_: None, Stop())


def test_a_command_that_is_stopped_has_the_job_stopped(world: World, api: str) -> None:
    stop = Stop()
    stop.set()
    with pytest.raises(PixtailError):
        have_done(world.settings, api, "/api/v1/reindex", {"limit": 5}, lambda *_: None, stop)
    assert world.reindexing.asked[0]["limit"] == 5
    assert not world.reindexing.running


def test_where_there_is_nothing_to_do_it_is_a_wrong_use(world: World, api: str) -> None:
    refused = {"number": 1, "running": False, "doing": "", "done": 0, "about": 0, "report": None}
    world.reindexing.state = lambda: {**refused, "problem": "done before", "remedy": "Say --force", "refused": True}  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="--force"):
        have_done(world.settings, api, "/api/v1/reindex", {}, lambda *_: None, Stop())


def test_a_rollback_without_a_former_collection_is_refused(world: World) -> None:
    answer = client(world).post("/api/v1/rollback")
    assert (answer.status_code, "former" in answer.json()["detail"]) == (422, True), answer.text
