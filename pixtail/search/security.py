"""The outermost layer: headers that keep a browser from doing what it should not, and a last net for errors."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pixtail.search.problems import BodyTooLarge, problem_response, too_large, unforeseen

CONSOLE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# FastAPI's documentation page loads Swagger UI from a content delivery network and starts it with an inline script.
DOCS_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' https://cdn.jsdelivr.net; style-src 'unsafe-inline' "
    "https://cdn.jsdelivr.net; img-src 'self' data: https://fastapi.tiangolo.com; connect-src 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
DOCS_PATH = "/docs"
MULTIPART_OVERHEAD = 64 << 10
"""Bytes that the boundaries and headers of a form may take besides the picture."""


class Guard:
    """Every answer gets the security headers, and an error that nobody foresaw becomes a problem without a traceback.

    It leaves nothing to Starlette's own net, whose 500 is plain text and passes no middleware.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                _protect(MutableHeaders(scope=message), scope["path"])
            await send(message)

        try:
            await self._app(scope, receive, guarded)
        except Exception as error:
            if started:
                raise
            await problem_response(unforeseen(error, scope["path"]), scope["path"])(scope, receive, guarded)


class BodyLimit:
    """No request body is read further than `max_bytes` and a form's overhead; what is longer is refused with 413."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._max_bytes + MULTIPART_OVERHEAD
        if _announced(scope) > limit:
            await problem_response(too_large(self._max_bytes), scope["path"], _CLOSE)(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise BodyTooLarge(self._max_bytes, _CLOSE)
            return message

        await self._app(scope, counted, send)


_CLOSE = {"Connection": "close"}  # the rest of the body was not read, so the connection cannot be used again


def _announced(scope: Scope) -> int:
    text = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(text) if text.isdigit() else 0


def _protect(headers: MutableHeaders, path: str) -> None:
    headers["Content-Security-Policy"] = DOCS_POLICY if path == DOCS_PATH else CONSOLE_POLICY
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "same-origin"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers.setdefault("Cache-Control", "no-cache")
