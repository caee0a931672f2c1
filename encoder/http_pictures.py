"""Pictures from the web: bounded in bytes, time and tries; no environment proxies, no cookies, no compression."""

from __future__ import annotations

import time
from collections.abc import Callable
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from encoder.guarded_http import Deadlines, GuardedTransport
from encoder.local_pictures import shown
from pixtail.core.errors import PictureError, Reason
from pixtail.core.settings import Pictures

ATTEMPTS = 3
MAX_REDIRECTS = 5
CHUNK_BYTES = 1 << 16

_HEADERS = {"User-Agent": "pixtail", "Accept": "image/*, */*;q=0.5", "Accept-Encoding": "identity"}
_AGAIN = (408, 425, 429)


class _Overloaded(PictureError):
    """A status that asks for another try, as other statuses do not."""


def worth_another_try(error: BaseException) -> bool:
    """True for what may pass within seconds: time-outs, broken connections, an overloaded server."""
    if not isinstance(error, PictureError):
        return False
    return isinstance(error, _Overloaded) or error.reason in (Reason.TIMEOUT, Reason.UNREACHABLE)


class HttpPictures:
    """Fetches URLs. Thread-safe; each attempt takes at most `timeout_s`, and there are up to three."""

    def __init__(self, settings: Pictures, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._settings = settings
        self._pause = pause
        self._deadlines = Deadlines()
        self._client = httpx.Client(
            transport=GuardedTransport(settings, self._deadlines),
            headers=_HEADERS,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            timeout=settings.timeout_s,
            follow_redirects=True,
            max_redirects=MAX_REDIRECTS,
            trust_env=False,
        )

    def fetch(self, url: str) -> bytes:
        """The body. Raises `PictureError`: `not_found` (404, 410), `http_status`, `timeout`, `unreachable`, `forbidden_address`,
        `too_large`, `unsupported`."""
        attempts = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.2, max=2),
            retry=retry_if_exception(worth_another_try),
            sleep=self._pause,
            reraise=True,
        )
        return attempts(self._attempt, url)

    def close(self) -> None:
        self._client.close()

    def _attempt(self, url: str) -> bytes:
        try:
            with self._deadlines.within(self._settings.timeout_s), self._client.stream("GET", _parsed(url)) as response:
                _require_ok(response, url)
                return self._body(response, url)
        except httpx.TimeoutException as error:
            seconds = f"{self._settings.timeout_s:g} s"
            raise PictureError(Reason.TIMEOUT, f"{shown(url)} took longer than {seconds}") from error
        except httpx.TooManyRedirects as error:
            raise PictureError(Reason.HTTP_STATUS, f"{shown(url)} redirects more than {MAX_REDIRECTS} times") from error
        except httpx.TransportError as error:
            raise PictureError(Reason.UNREACHABLE, f"{shown(url)} does not answer ({_cause(error)})") from error
        except (httpx.InvalidURL, httpx.HTTPError, ValueError) as error:
            raise PictureError(Reason.UNSUPPORTED, f"{shown(url)} is no usable URL") from error

    def _body(self, response: httpx.Response, url: str) -> bytes:
        limit = self._settings.max_bytes
        declared = response.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > limit:
            raise _too_large(url, limit)
        body = bytearray()
        for chunk in response.iter_raw(CHUNK_BYTES):  # raw: a compressed body could swell past every limit
            body += chunk
            if len(body) > limit:
                raise _too_large(url, limit)
        return bytes(body)


def _parsed(url: str) -> httpx.URL:
    """Raises `ValueError` for a URL without a host, which httpx would take for a relative one."""
    parsed = httpx.URL(url)
    if not parsed.host:
        raise ValueError("no host")
    return parsed


def _require_ok(response: httpx.Response, url: str) -> None:
    status = response.status_code
    if status in (404, 410):
        raise PictureError(Reason.NOT_FOUND, f"{shown(url)} is not there (HTTP {status})")
    if status in _AGAIN or status >= 500:
        raise _Overloaded(Reason.HTTP_STATUS, f"{shown(url)} answers HTTP {status}")
    if not 200 <= status < 300:
        raise PictureError(Reason.HTTP_STATUS, f"{shown(url)} answers HTTP {status}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise PictureError(Reason.UNSUPPORTED, f"{shown(url)} is sent compressed although that was not asked for")


def _too_large(url: str, limit: int) -> PictureError:
    return PictureError(Reason.TOO_LARGE, f"{shown(url)} has more than {limit} bytes", "Raise pictures.max_bytes")


def _cause(error: BaseException) -> str:
    """What lies at the bottom: `ConnectionRefusedError` says more than httpx's own name for it."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return str(error.strerror or error) if isinstance(error, OSError) else type(error).__name__
