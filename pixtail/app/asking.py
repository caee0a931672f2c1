"""How short commands ask the store: directly, or the process that holds the embedded store open."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any, TypeVar

from pixtail.app.wiring import needs
from pixtail.core.errors import PixtailError, StoreBusy, StoreUnreachable
from pixtail.core.ports import Index, VectorStore
from pixtail.core.settings import Settings

T = TypeVar("T")
TIMEOUT_S = 60.0

Request = tuple[str, str, dict[str, Any]]
"""Method, path, and the further arguments of `httpx.request`."""


def ask(
    settings: Settings, from_store: Callable[[VectorStore], T], request: Request, from_api: Callable[[Any], T]
) -> T:
    """As `ask_index`, of the collection that is searched."""
    return ask_index(settings, lambda index: from_store(index.store(index.current() or "")), request, from_api)


def ask_index(
    settings: Settings, from_index: Callable[[Index], T], request: Request, from_api: Callable[[Any], T]
) -> T:
    """The answer of the index; if the embedded store is open elsewhere, of that process's API.

    Raises `StoreBusy` if that process serves no API, `PixtailError` with the API's own words if it refuses.
    """
    with needs("encode"):
        from sink.open import open_index
    try:
        with closing(open_index(settings)) as index:
            return from_index(index)
    except StoreBusy as busy:
        if busy.api is None:
            raise
        return from_api(call(busy.api, request))


def call(api: str, request: Request) -> Any:
    """The JSON that the API of another process answers with. Raises `StoreUnreachable`, and `PixtailError` in the API's own words."""
    import httpx

    method, path, options = request
    try:
        answer = httpx.request(method, api + path, timeout=TIMEOUT_S, trust_env=False, **options)
    except httpx.TransportError as error:
        raise StoreUnreachable(
            f"the process that holds the store open does not answer at {api}: {error}", "Look at its log"
        ) from None
    if answer.is_success:
        return answer.json()
    problem = answer.json() if "json" in answer.headers.get("content-type", "") else {}
    raise PixtailError(f"{api} refused: {problem.get('detail') or answer.status_code}", problem.get("remedy", ""))
