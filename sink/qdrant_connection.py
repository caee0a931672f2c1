"""The connection to a Qdrant server: made at the first use, tried again where that helps, its errors translated."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

import structlog
import tenacity
from qdrant_client import QdrantClient

from pixtail.core.errors import PixtailError, SettingError, StoreUnreachable
from pixtail.core.settings import Qdrant
from pixtail.core.tls import Names, client_context, tls_problem
from sink.qdrant_errors import VENDOR_ERRORS, Failure, Kind, failure

OLDEST_VERSION = (1, 16)  # the first with `update_filter`; older ones ignore it, and stale writes would pass
TIMEOUT_S = 30
GRPC_PROBE_S = 3
TRIES = 4
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
REST_PORT = 6333
TLS = Names("qdrant.ssl_cafile", "qdrant.ssl_certfile", "qdrant.ssl_keyfile", "qdrant.url")

T = TypeVar("T")
log = structlog.get_logger(__name__)


class Refused(SettingError):
    """The server understood the request and will not do it. `kind` says why."""

    def __init__(self, kind: Kind, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.kind = kind


class Connection:
    """One client for all threads. `connect` makes it, `place` is what people call the server; `sleep` is for tests."""

    def __init__(
        self, place: str, connect: Callable[[], QdrantClient], *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.place = place
        self._connect = connect
        self._sleep = sleep
        self._client: QdrantClient | None = None
        self._connecting = threading.Lock()

    def call(self, doing: str, request: Callable[[QdrantClient], T]) -> T:
        """The request's answer; requests are idempotent and so may be sent again. Raises `StoreUnreachable` after a few tries, `Refused`
        or `SettingError` at once."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_worth_another_try),
            stop=tenacity.stop_after_attempt(TRIES),
            wait=_pause,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return retrying(lambda: request(self._connected()))
        except VENDOR_ERRORS as error:
            raise tls_problem(error, self.place, TLS) or translated(failure(error), doing, self.place) from error

    def read(self, doing: str, request: Callable[[QdrantClient], T], *, otherwise: T) -> T:
        """As `call`, or `otherwise` if there is no such collection yet: to a reader that is an empty one."""
        try:
            return self.call(doing, request)
        except Refused as error:
            if error.kind is Kind.MISSING:
                return otherwise
            raise

    def make(self, doing: str, request: Callable[[QdrantClient], object]) -> None:
        """As `call`, for something that somebody else may make at the same time."""
        try:
            self.call(doing, request)
        except Refused as error:
            if error.kind is not Kind.EXISTS:
                raise

    def version(self) -> str:
        return self.call("reach", lambda client: client.info().version)

    def close(self) -> None:
        with self._connecting:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _connected(self) -> QdrantClient:
        with self._connecting:
            if self._client is None:
                client = self._connect()
                version = client.info().version
                require_version(version, self.place)
                log.info("connected to Qdrant", place=self.place, version=version)
                self._client = client
            return self._client


def _worth_another_try(error: BaseException) -> bool:
    if not isinstance(error, VENDOR_ERRORS) or tls_problem(error, "", TLS):
        return False
    return failure(error).kind is Kind.TRANSIENT


_backoff = tenacity.wait_random_exponential(multiplier=FIRST_PAUSE_S, max=LONGEST_PAUSE_S)


def _pause(state: tenacity.RetryCallState) -> float:
    """As long as the server asks for (within reason), else growing with jitter."""
    error = state.outcome.exception() if state.outcome else None
    asked = failure(error).retry_after_s if error else None
    return min(asked, LONGEST_PAUSE_S) if asked is not None else _backoff(state)


def translated(what: Failure, doing: str, place: str) -> PixtailError:
    problem = f"cannot {doing} {place}: {what.detail}"
    match what.kind:
        case Kind.TRANSIENT:
            return StoreUnreachable(problem, "Check that Qdrant runs and that qdrant.url is its address")
        case Kind.FULL:
            return StoreUnreachable(problem, "The server's disk is full: give it space; the work goes on by itself")
        case Kind.FORBIDDEN:
            remedy = "Set qdrant.api_key to a key that may write to the collection; if somebody locked it, unlock it"
            return Refused(what.kind, problem, remedy)
        case Kind.TOO_LARGE:
            return Refused(
                what.kind, problem, "Raise service.max_request_size_mb on the server, or let qdrant.grpc be true"
            )
        case Kind.MISSING | Kind.EXISTS | Kind.REFUSED:
            return Refused(what.kind, problem, "Check qdrant.url and qdrant.collection, and the server's log")


def require_version(version: str, place: str) -> None:
    """Raises `SettingError` if the server is too old to write conditionally. A version that is no number (a build of one's own) passes."""
    try:
        major, minor = (int(part) for part in version.split(".")[:2])
    except ValueError:
        return
    if (major, minor) < OLDEST_VERSION:
        raise SettingError(
            f"{place} is version {version}, which cannot write on a condition",
            f"Upgrade Qdrant to {'.'.join(map(str, OLDEST_VERSION))} or newer",
        )


def server(settings: Qdrant) -> Connection:
    """The connection that the settings describe; nothing is connected yet."""
    url = _url(settings)
    place = f"Qdrant at {url.scheme}://{_address(url)}"
    return Connection(place, lambda: _client(settings, url))


def _url(settings: Qdrant) -> SplitResult:
    text = settings.url or ""
    url = urlsplit(text if "//" in text else f"http://{text}")
    try:
        port_is_fine = url.port is None or url.port > 0
    except ValueError:
        port_is_fine = False
    if url.scheme not in ("http", "https") or not url.hostname or not port_is_fine:
        raise SettingError("qdrant.url is no address of a Qdrant server", "Write http://host:6333 or https://host:6333")
    return url


def _address(url: SplitResult) -> str:
    """Host, port and path: what is left of a URL when nobody's password is to be shown."""
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
    return f"{host}:{url.port or REST_PORT}{url.path.rstrip('/')}"


def _client(settings: Qdrant, url: SplitResult) -> QdrantClient:
    if settings.grpc and not url.path.strip("/"):  # a path means a proxy that speaks HTTP only
        if _answers(_open(settings, url, grpc=True, timeout_s=GRPC_PROBE_S)):
            return _open(settings, url, grpc=True)
        log.info("gRPC does not answer, REST is used instead", place=_address(url), grpc_port=_grpc_port(url))
    return _open(settings, url, grpc=False)


def _open(settings: Qdrant, url: SplitResult, *, grpc: bool, timeout_s: int = TIMEOUT_S) -> QdrantClient:
    # The key goes as a header, since the client's own parameter warns on stderr where ours is a structured log.
    headers = {"api-key": settings.api_key.get_secret_value()} if settings.api_key else {}
    if headers and url.scheme == "http" and not _is_loopback(url.hostname or ""):
        log.warning("the API key travels unencrypted", place=_address(url), remedy="use https in qdrant.url")
    return QdrantClient(
        url=f"{url.scheme}://{_address(url)}",
        port=None,
        grpc_port=_grpc_port(url),
        prefer_grpc=grpc,
        headers=headers,
        timeout=timeout_s,
        check_compatibility=False,
        **(_trust(settings) if url.scheme == "https" else {}),
    )


def _trust(settings: Qdrant) -> dict[str, Any]:
    """The same files for both ways: httpx takes a context, gRPC their contents. Raises `SettingError` for a file that is none."""
    ca, certificate, key = settings.ssl_cafile, settings.ssl_certfile, settings.ssl_keyfile or settings.ssl_certfile
    context = client_context(TLS, ca, certificate, settings.ssl_keyfile)
    files = {"root_certificates": ca, "certificate_chain": certificate, "private_key": key}
    return {"verify": context, "grpc_options": {name: Path(file).read_bytes() for name, file in files.items() if file}}


def _grpc_port(url: SplitResult) -> int:
    """One above the REST port, as in Qdrant's default 6333 and 6334. Taking 6334 always could reach another server on the same host."""
    return (url.port or REST_PORT) + 1


def _answers(client: QdrantClient) -> bool:
    try:
        client.info()
    except VENDOR_ERRORS as error:
        return failure(error).kind is Kind.FORBIDDEN  # it speaks gRPC; the key is another matter
    finally:
        client.close()
    return True


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
