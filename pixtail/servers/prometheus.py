"""A private Prometheus, from the distribution's package."""

from __future__ import annotations

import http.client
import json
import urllib.request
from pathlib import Path

from pixtail.servers.parts import Part, require
from pixtail.servers.process import HOST, ServerProcess

_ANSWER_LIMIT_S = 2


class PrometheusServer(ServerProcess):
    """Prometheus with `config_text` as its prometheus.yml. Rule files that it names must have absolute paths."""

    name = "prometheus"

    def __init__(self, config_text: str, folder: Path | None = None, port: int = 0) -> None:
        super().__init__(folder, port)
        self.config_text = config_text

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def prepare(self) -> None:
        (self.folder / "prometheus.yml").write_text(self.config_text)

    def command(self) -> list[str]:
        return [
            str(require(Part.PROMETHEUS)),
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.data}",
            f"--web.listen-address={HOST}:{self.port}",
            "--log.level=warn",
        ]

    def answers(self) -> bool:
        """Its flags are only served when it is ready, and tell it from another one on the same port."""
        try:
            flags = json.loads(_get(f"{self.url}/api/v1/status/flags"))
        except (OSError, ValueError, http.client.HTTPException):
            return False
        return bool(flags["data"]["storage.tsdb.path"] == str(self.data))


def _get(url: str) -> bytes:
    # No proxies: the environment's would be asked for 127.0.0.1 too.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=_ANSWER_LIMIT_S) as response:
        body: bytes = response.read()
    return body
