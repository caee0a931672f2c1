"""The way to a Qdrant server over real sockets: REST where gRPC does not answer, and an error where nothing does."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from structlog.testing import capture_logs

from pixtail.core.errors import SettingError, StoreUnreachable
from pixtail.core.settings import Qdrant
from sink.qdrant import QdrantStore
from sink.qdrant_connection import Connection, server


class Rest(BaseHTTPRequestHandler):
    """Just enough of Qdrant to be counted; it wants the key `k3y`."""

    version = "1.17.0"

    def do_GET(self) -> None:
        if self.path == "/aliases":
            aliases = [{"alias_name": "images", "collection_name": "images__f00d"}]
            return self._answer(200, {"status": "ok", "time": 0, "result": {"aliases": aliases}})
        return self._answer(200, {"title": "qdrant", "version": self.version})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if self.headers["api-key"] != "k3y":
            return self._answer(401, {"status": {"error": "Must provide an API key"}})
        return self._answer(200, {"status": "ok", "time": 0, "result": {"count": 5}})

    def _answer(self, status: int, body: object) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def rest_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Rest) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def settings(url: str, key: str = "k3y") -> Qdrant:
    return Qdrant.model_validate({"url": url, "api_key": key})


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
