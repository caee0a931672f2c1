"""`/healthz`, `/readyz` and `/metrics` for the services that have no API of their own."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson
import structlog

from pixtail.core.errors import SettingError
from pixtail.core.lifecycle import Stop
from pixtail.core.metrics import Metrics
from pixtail.core.settings import Metrics as MetricsSettings

POLL_S = 0.2


class HealthService:
    """Serves on `metrics.host:metrics.port`. `/readyz` is 503 while `not_ready` names anything."""

    name = "health"

    def __init__(self, settings: MetricsSettings, metrics: Metrics, not_ready: Callable[[], list[str]]) -> None:
        self._settings = settings
        self._metrics = metrics
        self._not_ready = not_ready

    def run(self, stop: Stop) -> None:
        """Raises `SettingError` when the port is taken."""
        server = self._bind()
        server.timeout = POLL_S
        structlog.get_logger().info("metrics", url=f"http://{self._settings.host}:{server.server_address[1]}/metrics")
        with server:
            while not stop:
                server.handle_request()

    def ready(self) -> bool:
        return True

    def _bind(self) -> ThreadingHTTPServer:
        where = f"{self._settings.host}:{self._settings.port}"
        try:
            return ThreadingHTTPServer((self._settings.host, self._settings.port), self._handler())
        except OSError as error:
            raise SettingError(
                f"metrics cannot be served on {where}: {error.strerror}",
                "Choose another metrics.port (PIXTAIL_METRICS__PORT)",
            ) from None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                status, body, content_type = service.answer(self.path, self.headers.get("Accept", ""))
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args: object) -> None:
                """A scrape every few seconds is no news."""

        return Handler

    def answer(self, path: str, accept: str) -> tuple[HTTPStatus, bytes, str]:
        """Status, body and content type for a path."""
        if path == "/metrics":
            return (HTTPStatus.OK, *self._metrics.exposition(accept))
        if path == "/healthz":
            return HTTPStatus.OK, b'{"status":"ok"}', "application/json"
        if path != "/readyz":
            return HTTPStatus.NOT_FOUND, b'{"status":404,"title":"Not Found"}', "application/problem+json"
        missing = self._not_ready()
        status = HTTPStatus.SERVICE_UNAVAILABLE if missing else HTTPStatus.OK
        return status, orjson.dumps({"ready": not missing, "missing": missing}), "application/json"
