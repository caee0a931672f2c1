"""What qdrant-client raises, by HTTP status or gRPC code, to what it means for the caller. Pure.

gRPC codes are Qdrant's own choice for its errors (src/tonic/api/mod.rs in qdrant/qdrant: `Status` of a `StorageError`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import grpc  # type: ignore[import-untyped]
import httpx
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

VENDOR_ERRORS = (ApiException, QdrantException, grpc.RpcError, httpx.HTTPError, ValueError)
"""Everything a call may raise; local mode raises `ValueError`."""


class Kind(StrEnum):
    TRANSIENT = "transient"
    """The same request may well succeed in a moment."""
    FULL = "full"
    """The server has no space left: more tries make it worse, a person has to act."""
    FORBIDDEN = "forbidden"
    MISSING = "missing"
    EXISTS = "exists"
    TOO_LARGE = "too_large"
    """One row alone is more than the server takes in a request."""
    REFUSED = "refused"
    """The request is wrong, and stays so."""


@dataclass(frozen=True, slots=True)
class Failure:
    kind: Kind
    detail: str
    retry_after_s: float | None = None


HTTP = {
    400: Kind.REFUSED,
    401: Kind.FORBIDDEN,
    403: Kind.FORBIDDEN,
    404: Kind.MISSING,
    408: Kind.TRANSIENT,
    409: Kind.EXISTS,
    413: Kind.TOO_LARGE,
    429: Kind.TRANSIENT,
    500: Kind.TRANSIENT,
    502: Kind.TRANSIENT,
    503: Kind.TRANSIENT,
    504: Kind.TRANSIENT,
    507: Kind.FULL,
}
GRPC = {
    grpc.StatusCode.UNAUTHENTICATED: Kind.FORBIDDEN,
    grpc.StatusCode.PERMISSION_DENIED: Kind.FORBIDDEN,
    grpc.StatusCode.NOT_FOUND: Kind.MISSING,
    grpc.StatusCode.ALREADY_EXISTS: Kind.EXISTS,
    grpc.StatusCode.UNAVAILABLE: Kind.TRANSIENT,
    grpc.StatusCode.DEADLINE_EXCEEDED: Kind.TRANSIENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Kind.TRANSIENT,
    grpc.StatusCode.CANCELLED: Kind.TRANSIENT,
    grpc.StatusCode.ABORTED: Kind.TRANSIENT,
    grpc.StatusCode.INTERNAL: Kind.TRANSIENT,
    grpc.StatusCode.UNKNOWN: Kind.TRANSIENT,
    grpc.StatusCode.FAILED_PRECONDITION: Kind.TRANSIENT,  # locked by an administrator, or a shard is not ready: by REST a 500
}


def failure(error: BaseException) -> Failure:
    """What the vendor's error means. What is unknown counts as refused: trying a wrong request again helps nobody."""
    match error:
        case ResourceExhaustedResponse():
            return Failure(Kind.TRANSIENT, str(error), error.retry_after_s)
        case QdrantException():  # a proxy's 429, whose Retry-After is a date: the client takes numbers only
            return Failure(Kind.TRANSIENT, _words(error))
        case UnexpectedResponse():
            return Failure(HTTP.get(error.status_code or 0, Kind.REFUSED), f"HTTP {error.status_code} {_said(error)}")
        case ResponseHandlingException():
            return failure(error.source)
        case httpx.TransportError():
            return Failure(Kind.TRANSIENT, _words(error))
        case grpc.RpcError() if isinstance(error, grpc.Call):
            return Failure(GRPC.get(error.code(), Kind.REFUSED), f"gRPC {error.code().name}: {_short(error.details())}")
        case _:
            return Failure(Kind.REFUSED, _words(error))


def _said(error: UnexpectedResponse) -> str:
    """The server's own words, where the answer has Qdrant's form."""
    try:
        return _short(error.structured()["status"]["error"])
    except (ValueError, KeyError, TypeError):
        return error.reason_phrase


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {_short(str(error))}" if str(error) else type(error).__name__


def _short(text: str | None) -> str:
    return " ".join((text or "").split())[:200]
