"""The way to a Qdrant server over real sockets: REST where gRPC does not answer, and an error where nothing does."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import grpc
import pytest
from structlog.testing import capture_logs

from pixtail.core.backoff import Backoff
from pixtail.core.errors import SettingError, StoreUnreachable
from pixtail.core.lifecycle import Stop
from pixtail.core.points import Delete, Gone
from pixtail.core.settings import Qdrant
from sink.qdrant import QdrantStore
from sink.qdrant_connection import Connection, server
from tests.support.certificates import DAY, Authority, Pair
from tests.support.points import DIMENSION, sync, upsert
from tests.support.qdrant_grpc import GrpcServer, Moods
from tests.support.stores import Serialised


class Rest(BaseHTTPRequestHandler):
    """Just enough of Qdrant to be counted; it wants the key `k3y`. `trouble`: what it does with the next requests instead."""

    version = "1.17.0"
    trouble: ClassVar[list[Callable[[Rest], None]]] = []
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        if self.path == "/aliases":
            aliases = [{"alias_name": "images", "collection_name": "images__f00d"}]
            return self._answer(200, {"status": "ok", "time": 0, "result": {"aliases": aliases}})
        return self._answer(200, {"title": "qdrant", "version": self.version})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.asked.append(self.path)
        if self.trouble:
            return self.trouble.pop(0)(self)
        if self.headers["api-key"] != "k3y":
            return self._answer(401, {"status": {"error": "Must provide an API key"}})
        return self._answer(200, {"status": "ok", "time": 0, "result": {"count": 5}})

    def _answer(self, status: int, body: object, **headers: str) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-length": str(len(text)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


class Quiet(ThreadingHTTPServer):
    """Clients that hang up in the middle of a handshake are meant to."""

    def handle_error(self, *_: object) -> None:
        """Nothing on stderr."""


@contextmanager
def rest_server(tls: ssl.SSLContext | None = None) -> Iterator[str]:
    Rest.trouble.clear()
    Rest.asked.clear()
    with Quiet(("127.0.0.1", 0), Rest) as http:
        if tls:
            http.socket = tls.wrap_socket(http.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"{'https' if tls else 'http'}://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.fixture
def rest_url() -> Iterator[str]:
    with rest_server() as url:
        yield url


def settings(url: str, key: str = "k3y", **more: object) -> Qdrant:
    return Qdrant.model_validate({"url": url, "api_key": key, **more})


@contextmanager
def opened(described: Qdrant) -> Iterator[tuple[QdrantStore, list[float]]]:
    """A store, and the pauses that it would have made."""
    pauses: list[float] = []
    made = server(described)
    with closing(QdrantStore(Connection(made.place, made._connect, sleep=pauses.append), "images", described)) as store:
        yield store, pauses


def test_rest_is_used_where_grpc_does_not_answer(rest_url: str) -> None:
    with capture_logs() as logs, closing(QdrantStore(server(settings(rest_url)), "images")) as store:
        assert store.count() == 5
        assert store.count() == 5
    assert [entry["event"] for entry in logs] == ["gRPC does not answer, REST is used instead", "connected to Qdrant"]


def test_a_wrong_key_is_named_and_not_shown(rest_url: str) -> None:
    store = QdrantStore(server(settings(rest_url, "wr0ng")), "images")
    with closing(store), pytest.raises(SettingError, match=r"qdrant\.api_key") as error:
        store.count()
    assert "wr0ng" not in str(error.value)


def test_an_old_server_is_refused_before_the_first_request(rest_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rest, "version", "1.15.0")
    with (
        closing(QdrantStore(server(settings(rest_url)), "images")) as store,
        pytest.raises(SettingError, match="Upgrade"),
    ):
        store.count()


# --- trouble -----------------------------------------------------------------------------------------------------------------


def says(status: int, **headers: str) -> Callable[[Rest], None]:
    return lambda rest: rest._answer(status, {"status": {"error": "because"}}, **headers)


def hangs_up(rest: Rest) -> None:
    rest.close_connection = True


def stops_in_the_middle(rest: Rest) -> None:
    rest.send_response(200)
    rest.send_header("content-length", "1000")
    rest.end_headers()
    rest.close_connection = True


IN_A_MINUTE = "Wed, 21 Oct 2026 07:28:00 GMT"
PASSING = [
    *(pytest.param(says(status), id=str(status)) for status in (408, 429, 500, 502, 503, 504)),
    pytest.param(says(429, **{"Retry-After": IN_A_MINUTE}), id="429-date"),
    pytest.param(hangs_up, id="hangs-up"),
    pytest.param(stops_in_the_middle, id="stops-in-the-middle"),
]


@pytest.mark.parametrize("trouble", PASSING)
def test_trouble_that_passes_costs_pauses_that_grow(rest_url: str, trouble: Callable[[Rest], None]) -> None:
    with opened(settings(rest_url, grpc=False)) as (store, pauses):
        Rest.trouble += [trouble, trouble]
        assert store.count() == 5
    assert len(Rest.asked) == 3
    assert 0 <= pauses[0] <= 0.2
    assert 0 <= pauses[1] <= 0.4


def test_a_server_that_says_how_long_to_wait_is_obeyed(rest_url: str) -> None:
    with opened(settings(rest_url, grpc=False)) as (store, pauses):
        Rest.trouble.append(says(429, **{"Retry-After": "3"}))
        assert store.count() == 5
    assert pauses == [3.0]


@pytest.mark.parametrize("status", [400, 401, 403, 405, 409, 413, 507])
def test_what_more_tries_do_not_mend_is_asked_once(rest_url: str, status: int) -> None:
    with opened(settings(rest_url, grpc=False)) as (store, pauses):
        Rest.trouble.append(says(status))
        with pytest.raises(StoreUnreachable if status == 507 else SettingError, match=str(status)):
            store.count()
    assert (len(Rest.asked), pauses) == (1, [])


@pytest.fixture
def moods() -> Moods:
    return Moods("k3y")


@pytest.fixture
def grpc_server(moods: Moods) -> Iterator[GrpcServer]:
    with closing(GrpcServer(Serialised(), moods=moods)) as served:
        yield served


Code = grpc.StatusCode


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.FAILED_PRECONDITION])
def test_trouble_by_grpc_costs_a_pause_and_no_write(grpc_server: GrpcServer, moods: Moods, code: Code) -> None:
    with opened(settings(grpc_server.url)) as (store, pauses):
        store.prepare(DIMENSION, "f00d")
        for _ in range(5):  # wherever it comes in the course of the two calls
            moods.trouble.append((code, {}))
            store.apply([upsert(1, 1), Delete(2, 1)])
        assert store.versions([1, 2]) == {1: sync(1), 2: Gone(1)}
    assert len(pauses) == 5


def test_grpc_too_says_how_long_to_wait(grpc_server: GrpcServer, moods: Moods) -> None:
    with opened(settings(grpc_server.url)) as (store, pauses):
        store.prepare(DIMENSION, "f00d")
        moods.trouble.append((Code.RESOURCE_EXHAUSTED, {"retry-after": "4"}))
        assert store.count() == 0
    assert pauses == [4.0]


@pytest.mark.parametrize("code", [Code.PERMISSION_DENIED, Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED])
def test_what_more_tries_do_not_mend_is_asked_once_by_grpc(grpc_server: GrpcServer, moods: Moods, code: Code) -> None:
    with opened(settings(grpc_server.url)) as (store, pauses):
        store.prepare(DIMENSION, "f00d")
        moods.asked = 0
        moods.trouble.append((code, {}))
        with pytest.raises(SettingError, match=code.name):
            store.count()
    assert (moods.asked, pauses) == (1, [])


def test_a_wrong_key_by_grpc_is_named_and_not_shown(grpc_server: GrpcServer) -> None:
    with (
        opened(settings(grpc_server.url, "wr0ng")) as (store, _),
        pytest.raises(SettingError, match=r"qdrant\.api_key") as error,
    ):
        store.count()
    assert "wr0ng" not in str(error.value)


def test_a_server_that_comes_back_finds_the_same_store(moods: Moods) -> None:
    client = Serialised()
    first = GrpcServer(client, moods=moods)
    with opened(settings(first.url)) as (store, _):
        store.prepare(DIMENSION, "f00d")
        store.apply([upsert(1, 1)])
        first.close()
        with pytest.raises(StoreUnreachable):
            store.apply([upsert(2, 1)])
        with closing(GrpcServer(client, port=first.port, moods=moods)):
            Backoff("Qdrant", first_s=0.05).call(lambda: store.apply([upsert(2, 1)]), Stop())
            assert store.count() == 2


# --- TLS ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def shown(pair: Pair, asks_for: Authority | None = None) -> ssl.SSLContext:
    """As a server with that certificate; it wants to see one itself if it `asks_for` them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    if asks_for:
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # where the refusal is part of the handshake
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(asks_for.certificate)
    return context


def test_a_server_whose_ca_is_named_is_trusted(authority: Authority) -> None:
    with rest_server(shown(authority.pair("rest", "127.0.0.1"))) as url:
        trusting = settings(url, grpc=False, ssl_cafile=str(authority.certificate))
        with opened(trusting) as (store, _):
            assert store.count() == 5


def test_by_grpc_too(authority: Authority, moods: Moods) -> None:
    pair = authority.pair("grpc", "127.0.0.1")
    credentials = grpc.ssl_server_credentials([(pair.key.read_bytes(), pair.certificate.read_bytes())])
    with closing(GrpcServer(Serialised(), credentials=credentials, moods=moods)) as served, capture_logs() as logs:
        trusting = settings(served.url, ssl_cafile=str(authority.certificate))
        with opened(trusting) as (store, _):
            assert store.count() == 0
    assert moods.asked == 1
    assert [entry["event"] for entry in logs] == ["connected to Qdrant"]


def test_a_server_that_nobody_vouches_for_is_not_asked_twice(authority: Authority) -> None:
    with (
        rest_server(shown(authority.pair("stranger", "127.0.0.1"))) as url,
        opened(settings(url, grpc=False)) as (store, pauses),
        pytest.raises(SettingError, match=r"Set qdrant\.ssl_cafile"),
    ):
        store.count()
    assert (Rest.asked, pauses) == ([], [])


@pytest.mark.parametrize(
    ("host", "lifetime", "said"), [("elsewhere", timedelta(days=1), "another host"), ("127.0.0.1", -DAY, "expired")]
)
def test_a_certificate_that_does_not_count_is_named(
    authority: Authority, host: str, lifetime: timedelta, said: str
) -> None:
    with (
        rest_server(shown(authority.pair(said.replace(" ", "-"), host, lifetime=lifetime))) as url,
        opened(settings(url, grpc=False, ssl_cafile=str(authority.certificate))) as (store, _),
        pytest.raises(SettingError, match=said),
    ):
        store.count()


def test_a_server_that_asks_for_a_certificate_gets_it(authority: Authority) -> None:
    client = authority.pair("client")
    trusting = {"grpc": False, "ssl_cafile": str(authority.certificate)}
    showing = {"ssl_certfile": str(client.certificate), "ssl_keyfile": str(client.key)}
    with rest_server(shown(authority.pair("asking", "127.0.0.1"), asks_for=authority)) as url:
        with opened(settings(url, **trusting, **showing)) as (store, _):
            assert store.count() == 5
        with (
            opened(settings(url, **trusting)) as (store, _),
            pytest.raises(SettingError, match=r"qdrant\.ssl_certfile"),
        ):
            store.count()


def test_a_file_that_is_no_certificate_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("hello")
    with (
        opened(settings("https://127.0.0.1:1", ssl_cafile=str(tmp_path / "ca.pem"))) as (store, _),
        pytest.raises(SettingError, match=r"qdrant\.ssl_cafile"),
    ):
        store.count()


def test_a_server_that_is_not_there_is_unreachable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        described = server(settings(url))
        connection = Connection(described.place, described._connect, sleep=lambda _: None)
        with (
            closing(QdrantStore(connection, "images")) as store,
            pytest.raises(StoreUnreachable, match=r"qdrant\.url") as error,
        ):
            store.count()
    assert url in error.value.problem
