"""How short commands ask the store: directly, or the process that holds the embedded store open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from pixtail.app.jobs import Show
from pixtail.app.wiring import needs
from pixtail.core.errors import PixtailError, StoreBusy, StoreUnreachable, UsageError
from pixtail.core.lifecycle import Stop
from pixtail.core.ports import Index, VectorStore
from pixtail.core.settings import Settings

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
TIMEOUT_S = 60.0
POLL_S = 0.3
WHOLE_TIMEOUT_S = 600.0
"""For what makes the other process look at its whole index before it answers."""

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


def no_collection(settings: Settings) -> PixtailError:
    """There is nothing to ask yet."""
    return PixtailError(
        f"there is no collection {settings.qdrant.collection} in {settings.qdrant.url or settings.qdrant.path} yet",
        "Start `pixtail run`, or name the settings of the one that runs with --config",
    )


def call(api: str, request: Request) -> Any:
    """The JSON that the API of another process answers with. Raises `StoreUnreachable`, and `PixtailError` in the API's own words."""
    import httpx

    method, path, options = request
    with _translated(api):
        answer = httpx.request(method, api + path, **{"timeout": TIMEOUT_S, "trust_env": False, **options})
    if not answer.is_success:
        raise _refusal(api, answer)
    return answer.json()


@contextmanager
def _translated(api: str) -> Iterator[None]:
    import httpx

    try:
        yield
    except httpx.TransportError as error:
        raise StoreUnreachable(
            f"the process that holds the store open does not answer at {api}: {error}", "Look at its log"
        ) from None


def _refusal(api: str, answer: httpx.Response) -> PixtailError:
    problem = answer.json() if "json" in answer.headers.get("content-type", "") else {}
    detail, remedy = problem.get("detail") or answer.status_code, problem.get("remedy", "")
    if problem.get("type") == "urn:pixtail:problem:invalid-request":
        return UsageError(str(detail), remedy)
    return PixtailError(f"{api} refused: {detail}", remedy)


def credentials(settings: Settings) -> dict[str, str]:
    """The header that shows `api.token`, if one is set."""
    token = settings.api.token
    return {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}


def have_done(
    settings: Settings, api: str, path: str, options: Mapping[str, Any], show: Show, stop: Stop
) -> dict[str, Any]:
    """Has another process do a job, and returns its report. `stop` asks it to stop.

    Raises `PixtailError` if it does another one of the kind already, or fails; `UsageError` if there is nothing to do.
    """
    headers = credentials(settings)
    state = call(api, ("POST", path, {"json": dict(options), "headers": headers}))
    number, asked_to_stop = state["number"], False
    while state["running"] and state["number"] == number:
        show(state["doing"] or "Beginning", state["done"], state["about"])
        if stop.wait(POLL_S) and not asked_to_stop:
            call(api, ("DELETE", path, {"headers": headers}))
            asked_to_stop = True
        state = call(api, ("GET", path, {}))
    if state["refused"]:
        raise UsageError(state["problem"], state["remedy"])
    if state["report"] is None or state["number"] != number:
        problem = state["problem"] or "another one came after it"
        raise PixtailError(f"the process at {api} could not do it: {problem}", state["remedy"])
    report: dict[str, Any] = state["report"]
    return report


@contextmanager
def streamed(
    api: str, path: str, params: Sequence[tuple[str, str]], headers: Mapping[str, str]
) -> Iterator[Iterator[bytes]]:
    """The lines of the API's answer, as they come. Raises as `ask` does, and `StoreUnreachable` for an answer that breaks off."""
    import httpx

    with (
        _translated(api),
        httpx.stream(
            "GET", api + path, params=tuple(params), headers=headers, timeout=WHOLE_TIMEOUT_S, trust_env=False
        ) as answer,
    ):
        if not answer.is_success:
            answer.read()
            raise _refusal(api, answer)
        yield _lines(answer.iter_bytes())


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Ended by line feeds only: httpx's own lines end at U+2028 too, which JSON's texts may contain."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
