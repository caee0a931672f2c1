"""The demo's view of the product from outside: its HTTP API."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_S = 10.0


class ApiClient:
    """Asks a running pipeline. For one thread."""

    def __init__(self, base_url: str) -> None:
        self._client = httpx.Client(base_url=base_url, timeout=TIMEOUT_S, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def is_ready(self) -> bool:
        try:
            return self._client.get("/readyz").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def stats(self) -> dict[str, Any]:
        return dict(self._client.get("/api/v1/stats").raise_for_status().json())

    def points(self) -> int:
        return int(self.stats()["points"])

    def image(self, key: int) -> dict[str, Any] | None:
        """What is stored of a row; None if it is not in the index."""
        answer = self._client.get(f"/api/v1/images/{key}")
        return None if answer.status_code == httpx.codes.NOT_FOUND else dict(answer.raise_for_status().json())

    def search(self, text: str, **options: Any) -> list[dict[str, Any]]:
        answer = self._client.get("/api/v1/search", params={"text": text, **options}).raise_for_status()
        return list(answer.json()["hits"])

    def search_image(self, data: bytes, limit: int = 5) -> list[dict[str, Any]]:
        answer = self._client.post("/api/v1/search/image", files={"file": data}, params={"limit": limit})
        return list(answer.raise_for_status().json()["hits"])

    def failures(self) -> list[dict[str, Any]]:
        return list(self._client.get("/api/v1/failures").raise_for_status().json()["failures"])

    def metric(self, name: str, **labels: str) -> float:
        """The value of one sample of `/metrics`; 0 if there is none."""
        text = self._client.get("/metrics").raise_for_status().text
        samples = (s for family in text_string_to_metric_families(text) for s in family.samples)
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())
