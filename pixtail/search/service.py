"""The API as a service: uvicorn in the service's thread, on a port taken before anything else starts."""

from __future__ import annotations

import errno
import socket

import structlog
import uvicorn
from starlette.types import ASGIApp

from pixtail.core.errors import SettingError
from pixtail.core.lifecycle import Stop
from pixtail.core.settings import Api

DRAIN_S = 5
"""Requests in flight get so long to finish; the whole process has 20 seconds."""


class ApiService:
    """Serves the application until it is told to stop. Installs no signal handlers.

    `bind` may be called early, to know the address (port 0 picks one) before anything runs; `run` does it otherwise.
    """

    name = "api"

    def __init__(self, app: ASGIApp, settings: Api) -> None:
        self._app = app
        self._settings = settings
        self._socket: socket.socket | None = None
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        """Where the console is, for a browser on this machine. Raises `RuntimeError` before `bind`."""
        if self._socket is None:
            raise RuntimeError("the API has no address before it is bound")
        host, port = self._socket.getsockname()[:2]
        local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        return f"http://[{local}]:{port}" if ":" in local else f"http://{local}:{port}"

    def bind(self) -> str:
        """Takes the port and returns `url`; connections wait from now on. Raises `SettingError` if it cannot be had."""
        if self._socket is None:
            self._socket = _listen(self._settings)
        return self.url

    def run(self, stop: Stop) -> None:
        """Serves in this thread. Raises `SettingError` if the port cannot be had."""
        url = self.bind()
        assert self._socket is not None
        self._server = _Server(self._config(), stop)
        structlog.get_logger().info("api started", url=url)
        self._server.run(sockets=[self._socket])
        structlog.get_logger().info("api stopped", url=url)

    def ready(self) -> bool:
        return self._server is not None and self._server.serving

    def _config(self) -> uvicorn.Config:
        return uvicorn.Config(
            self._app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=DRAIN_S,
        )


class _Server(uvicorn.Server):
    """Looks at `stop` with every tick, ten times a second. In a thread that is not the main one uvicorn leaves signals alone."""

    def __init__(self, config: uvicorn.Config, stop: Stop) -> None:
        super().__init__(config)
        self._stop = stop

    @property
    def serving(self) -> bool:
        return self.started and not self._stop

    async def on_tick(self, counter: int) -> bool:
        return bool(self._stop) or await super().on_tick(counter)


def _listen(settings: Api) -> socket.socket:
    """A listening socket. Uvicorn's own way of binding ends the process when the port is taken."""
    host, port = settings.host, settings.port
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address[:2], family=family, backlog=2048)
        # Connections inherit it. asyncio sets it only on sockets that name TCP as their protocol, which this one does not; without it every
        # second answer on a kept connection waits 40 ms for the client's delayed acknowledgement.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:  # socket.gaierror is one as well
        raise _cannot_listen(error, host, port) from error


def _cannot_listen(error: OSError, host: str, port: int) -> SettingError:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return SettingError(
            f"api.host {host} is no address of this machine", "Set api.host, e.g. to 127.0.0.1 or 0.0.0.0"
        )
    if error.errno == errno.EADDRINUSE:
        return SettingError(f"port {port} of {host} is in use", "Set api.port to a free port (0 picks one)")
    return SettingError(
        f"the API cannot listen on port {port} of {host}: {error.strerror}", "Set api.port and api.host"
    )
