"""Pictures from the web, over a real server on this machine."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from encoder import addresses
from encoder.pictures import Pictures
from pixtail.core import settings
from pixtail.core.errors import PictureError, Reason

Handler = http.server.BaseHTTPRequestHandler


class Server(http.server.ThreadingHTTPServer):
    """Answers each path as the test says, and remembers who asked what."""

    daemon_threads = True

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[Handler], None]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up early is what some tests are about."""


class _Handler(Handler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        self.server.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
        self.server.answers[self.path](self)

    def log_message(self, *_args: Any) -> None: ...


def answer(status: int = 200, body: bytes = b"picture", **headers: str) -> Callable[[Handler], None]:
    def send(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return send


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Fetcher:
    def __init__(self, **fields: Any) -> None:
        self.pauses: list[float] = []
        chosen = {"allow_private": True, "max_bytes": 1000, "timeout_s": 5, **fields}
        self.source = Pictures(settings.Pictures(**chosen), pause=self.pauses.append)

    def fetch(self, url: str) -> bytes:
        try:
            return self.source.fetch(url)
        finally:
            self.source.close()

    def reason(self, url: str) -> Reason:
        with pytest.raises(PictureError) as caught:
            self.fetch(url)
        assert "\n" not in str(caught.value)
        return caught.value.reason


def test_a_url_gives_its_body(server: Server) -> None:
    server.answers["/a.jpg?v=1"] = answer()
    assert Fetcher().fetch(f"{server.url}/a.jpg?v=1") == b"picture"


def test_the_request_asks_for_no_compression_and_sends_no_cookies(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers["/a.jpg"] = answer(set_cookie="session=1; path=/")
    source = Fetcher().source
    source.fetch(f"{server.url}/a.jpg")
    source.fetch(f"{server.url}/a.jpg")
    source.close()
    headers = server.requests[1][1]
    assert headers["accept-encoding"] == "identity"
    assert headers["host"] == f"127.0.0.1:{server.server_port}"
    assert "cookie" not in headers


def test_environment_proxies_are_ignored(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    server.answers["/a.jpg"] = answer()
    assert Fetcher().fetch(f"{server.url}/a.jpg") == b"picture"


def test_a_relative_path_is_fetched_below_the_base_url(server: Server) -> None:
    server.answers["/img/a%20b.jpg"] = answer()
    assert Fetcher(base_url=f"{server.url}/img").fetch("a b.jpg") == b"picture"


def test_private_addresses_are_refused_unless_allowed(server: Server) -> None:
    for host in ("127.0.0.1", "localhost"):
        assert (
            Fetcher(allow_private=False).reason(f"http://{host}:{server.server_port}/a.jpg") is Reason.FORBIDDEN_ADDRESS
        )
    assert server.requests == []


def as_public(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """Lets these names pass as public, though they lead to this machine."""
    truly = addresses.require_public
    monkeypatch.setattr(addresses, "require_public", lambda host, found: None if host in hosts else truly(host, found))


def test_a_redirect_to_a_private_address_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    as_public(monkeypatch, "localhost")
    server.answers["/a.jpg"] = answer(302, location=f"http://127.0.0.1:{server.server_port}/secret")
    start = f"http://localhost:{server.server_port}/a.jpg"
    assert Fetcher(allow_private=False).reason(start) is Reason.FORBIDDEN_ADDRESS
    assert [path for path, _ in server.requests] == ["/a.jpg"]


def test_a_redirect_is_followed_to_where_it_may_lead(server: Server) -> None:
    server.answers["/a.jpg"] = answer(301, location="/b.jpg")
    server.answers["/b.jpg"] = answer()
    assert Fetcher().fetch(f"{server.url}/a.jpg") == b"picture"


def test_a_redirect_to_another_scheme_or_host_is_refused(server: Server) -> None:
    server.answers["/file"] = answer(302, location="file:///etc/passwd")
    server.answers["/ftp"] = answer(302, location="ftp://127.0.0.1/a.jpg")
    server.answers["/host"] = answer(302, location=f"http://localhost:{server.server_port}/a.jpg")
    assert Fetcher().reason(f"{server.url}/file") is Reason.FORBIDDEN_ADDRESS
    assert Fetcher().reason(f"{server.url}/ftp") is Reason.FORBIDDEN_ADDRESS
    assert Fetcher(allow_hosts=("127.0.0.1",)).reason(f"{server.url}/host") is Reason.FORBIDDEN_ADDRESS


def test_redirects_without_end_come_to_an_end(server: Server) -> None:
    server.answers["/a.jpg"] = answer(302, location="/a.jpg")
    assert Fetcher().reason(f"{server.url}/a.jpg") is Reason.HTTP_STATUS
    assert len(server.requests) == 6


def test_a_host_that_is_not_on_the_list_is_refused_before_it_is_asked(server: Server) -> None:
    assert Fetcher(allow_hosts=("cdn.example",)).reason(f"{server.url}/a.jpg") is Reason.FORBIDDEN_ADDRESS
    assert server.requests == []


def test_a_name_is_resolved_once_and_the_very_address_is_connected_to(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: a second look-up would have given another address."""
    asked: list[str] = []

    def rebinding(host: str, *_args: Any, **_kwargs: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.server_port))]

    def no_name(address: Any, *args: Any, **kwargs: Any) -> socket.socket:
        assert address[0] == "127.0.0.1"
        made = socket.socket()
        made.connect(address)
        return made

    monkeypatch.setattr(addresses.socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(socket, "create_connection", no_name)
    server.answers["/a.jpg"] = answer()
    assert Fetcher().fetch(f"http://pictures.example:{server.server_port}/a.jpg") == b"picture"
    assert asked == ["pictures.example"]
    assert server.requests[0][1]["host"] == f"pictures.example:{server.server_port}"


def test_https_sends_the_name_by_sni_and_refuses_an_untrusted_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has no certificate at all: what is looked at is the name in the client's greeting."""
    names: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def greet() -> None:
        for _ in range(3):
            peer, _ = listener.accept()
            with peer:
                try:
                    context.wrap_socket(peer, server_side=True)
                except OSError:
                    continue

    thread = threading.Thread(target=greet)
    thread.start()
    monkeypatch.setattr(
        addresses.socket,
        "getaddrinfo",
        lambda *_a, **_k: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))],
    )
    assert Fetcher().reason(f"https://pictures.example:{port}/a.jpg") is Reason.UNREACHABLE
    thread.join()
    listener.close()
    assert names == ["pictures.example"] * 3


@pytest.mark.parametrize(
    ("status", "reason", "tries"),
    [
        (404, Reason.NOT_FOUND, 1),
        (410, Reason.NOT_FOUND, 1),
        (403, Reason.HTTP_STATUS, 1),
        (304, Reason.HTTP_STATUS, 1),
        (429, Reason.HTTP_STATUS, 3),
        (500, Reason.HTTP_STATUS, 3),
        (503, Reason.HTTP_STATUS, 3),
    ],
)
def test_a_status_becomes_a_reason_and_only_passing_ones_are_tried_again(
    server: Server, status: int, reason: Reason, tries: int
) -> None:
    server.answers["/a.jpg"] = answer(status, b"")
    fetcher = Fetcher()
    assert fetcher.reason(f"{server.url}/a.jpg") is reason
    assert len(server.requests) == tries
    assert len(fetcher.pauses) == tries - 1


def test_a_server_that_recovers_between_tries_costs_nothing(server: Server) -> None:
    statuses = iter([503, 200])
    server.answers["/a.jpg"] = lambda handler: answer(next(statuses))(handler)
    assert Fetcher().fetch(f"{server.url}/a.jpg") == b"picture"


def test_a_port_where_nobody_listens_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    fetcher = Fetcher()
    assert fetcher.reason(f"http://127.0.0.1:{port}/a.jpg") is Reason.UNREACHABLE
    assert len(fetcher.pauses) == 2


def test_a_connection_that_breaks_off_is_unreachable(server: Server) -> None:
    server.answers["/a.jpg"] = answer(content_length="100", connection="close")

    def broken(handler: Handler) -> None:
        answer(200, b"half", **{"content-length": "100", "connection": "close"})(handler)
        handler.close_connection = True

    server.answers["/a.jpg"] = broken
    assert Fetcher().reason(f"{server.url}/a.jpg") is Reason.UNREACHABLE


def test_a_declared_length_beyond_the_limit_is_refused_unread(server: Server) -> None:
    server.answers["/a.jpg"] = answer(200, b"", **{"content-length": "1001"})
    assert Fetcher().reason(f"{server.url}/a.jpg") is Reason.TOO_LARGE


def test_a_body_without_a_declared_length_is_cut_off_at_the_limit(server: Server) -> None:
    sent: list[int] = []

    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        while len(sent) < 100_000:
            handler.wfile.write(b"400\r\n" + bytes(1024) + b"\r\n")
            sent.append(1024)

    server.answers["/a.jpg"] = endless
    assert Fetcher().reason(f"{server.url}/a.jpg") is Reason.TOO_LARGE
    assert len(sent) < 100_000


def test_a_body_compressed_unasked_is_refused(server: Server) -> None:
    server.answers["/a.jpg"] = answer(content_encoding="gzip")
    assert Fetcher().reason(f"{server.url}/a.jpg") is Reason.UNSUPPORTED


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_server_that_drips_is_given_up_after_the_time_limit(server: Server, part: str) -> None:
    """Each byte comes well within the read time-out; only the whole takes too long."""
    done = threading.Event()

    def drip(handler: Handler) -> None:
        handler.close_connection = True
        if part == "body":
            handler.send_response(200)
            handler.send_header("content-length", "900")
            handler.end_headers()
        else:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nx: ")
        while not done.wait(0.05):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    server.answers["/a.jpg"] = drip
    started = time.monotonic()
    assert Fetcher(timeout_s=0.2).reason(f"{server.url}/a.jpg") is Reason.TIMEOUT
    assert time.monotonic() - started < 3
    done.set()


@pytest.mark.parametrize(
    "url", ["http://", "http://[::1", "http:///a.jpg", "http://a\nb/c.jpg", "http://host:99999/a.jpg"]
)
def test_what_is_no_url_is_unsupported_or_leads_nowhere_but_never_anything_else(url: str) -> None:
    assert Fetcher().reason(url) in (Reason.UNSUPPORTED, Reason.UNREACHABLE)
