"""An httpx transport that reaches only the addresses it may (server-side request forgery), and that no slow server can hold for long.

A host name is resolved once per connection; every answer must be public, and the connection goes to one of these very addresses while Host
and SNI keep the name. The redirects of httpx pass through the same gate.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import httpcore
import httpx

from encoder.addresses import resolve
from pixtail.core.errors import PictureError, Reason
from pixtail.core.settings import Pictures


class Deadlines:
    """The time by which what this thread is fetching must be there: the per-read time-outs alone would let a slow server drip for ever."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Whatever this thread waits for inside ends after `seconds`."""
        self._of_thread.end = time.monotonic() + seconds
        try:
            yield
        finally:
            self._of_thread.end = None

    def left(self, timeout_s: float | None) -> float | None:
        """At most `timeout_s`, and no more than is left; never 0, which a socket would take for "do not block"."""
        end: float | None = getattr(self._of_thread, "end", None)
        if end is None:
            return timeout_s
        left = end - time.monotonic()
        return max(0.001, left if timeout_s is None else min(left, timeout_s))


class GuardedTransport(httpx.BaseTransport):
    """httpx over a connection pool that only connects to allowed addresses. Every hop of a redirect comes through here."""

    def __init__(self, settings: Pictures, deadlines: Deadlines) -> None:
        self._allow_hosts = frozenset(host.lower() for host in settings.allow_hosts)
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            network_backend=GuardedBackend(settings.allow_private, deadlines),
            max_connections=None,  # the fetching threads are bounded; the pool must never be what they wait for
            max_keepalive_connections=32,
            keepalive_expiry=30.0,
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._require_allowed(request.url)
        try:
            answer = self._pool.handle_request(_core_request(request))
        except _CORE_ERRORS as error:
            raise _translate(error, request) from error
        return httpx.Response(
            status_code=answer.status,
            headers=answer.headers,
            stream=_Stream(answer, request),
            extensions=answer.extensions,
        )

    def close(self) -> None:
        self._pool.close()

    def _require_allowed(self, url: httpx.URL) -> None:
        if url.scheme not in ("http", "https"):
            raise PictureError(Reason.FORBIDDEN_ADDRESS, f"it is redirected to a {url.scheme}: URL")
        if self._allow_hosts and url.host.lower() not in self._allow_hosts:
            raise PictureError(
                Reason.FORBIDDEN_ADDRESS,
                f"the host {url.host} is not in pictures.allow_hosts",
                "Add it if it is trusted",
            )


_CORE_ERRORS = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol)


def _core_request(request: httpx.Request) -> httpcore.Request:
    url = request.url
    return httpcore.Request(
        method=request.method,
        url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=request.headers.raw,
        extensions=request.extensions,
    )


def _translate(error: BaseException, request: httpx.Request) -> httpx.TransportError:
    if isinstance(error, httpcore.TimeoutException):
        return httpx.TimeoutException(str(error), request=request)
    return httpx.NetworkError(str(error), request=request)


class _Stream(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response, request: httpx.Request) -> None:
        self._answer = answer
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._answer.iter_stream()
        except _CORE_ERRORS as error:
            raise _translate(error, self._request) from error

    def close(self) -> None:
        self._answer.close()


class GuardedBackend(httpcore.NetworkBackend):
    """Opens TCP connections to allowed addresses only."""

    def __init__(self, allow_private: bool, deadlines: Deadlines) -> None:
        self._allow_private = allow_private
        self._deadlines = deadlines
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in resolve(host, port, allow_private=self._allow_private):
            try:
                stream = self._sockets.connect_tcp(
                    address, port, self._deadlines.left(timeout), local_address, socket_options
                )
                return _TimedStream(stream, self._deadlines)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


class _TimedStream(httpcore.NetworkStream):
    """A connection whose every wait ends with the deadline."""

    def __init__(self, stream: httpcore.NetworkStream, deadlines: Deadlines) -> None:
        self._stream = stream
        self._deadlines = deadlines

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadlines.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadlines.left(timeout))

    def close(self) -> None:
        with suppress(OSError):
            self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, self._deadlines.left(timeout))
        return _TimedStream(secured, self._deadlines)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)
