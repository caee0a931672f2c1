"""Every error as a problem of RFC 9457 (`application/problem+json`): what is wrong, where, and the remedy.

An answer never holds a traceback. What nobody foresaw is logged under an incident number, and the answer names that number.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from pixtail.core.errors import PictureError, PixtailError, Reason, ServerUnreachable, StoreBusy, UsageError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
"""A restarted store answers again within seconds."""


class InvalidParameter(BaseModel):
    parameter: str
    message: str


class Problem(BaseModel):
    """A problem as RFC 9457 has it; the members after `instance` are ours and stand only where they apply."""

    type: str = Field(examples=["urn:pixtail:problem:not-found"])
    title: str
    status: int
    detail: str
    instance: str = Field(description="The path that was asked for.")
    remedy: str | None = Field(None, description="What to do about it.")
    reason: str | None = Field(None, description="Why a picture cannot be used.", examples=[Reason.NOT_AN_IMAGE.value])
    errors: list[InvalidParameter] | None = Field(None, description="The parameters that are wrong.")
    missing: list[str] | None = Field(None, description="What is not ready.")
    incident: str | None = Field(None, description="Find the cause in the log by this.")


class ApiError(Exception):
    """A problem to answer with. `name` ends the problem's type; `members` are further members of the body."""

    def __init__(self, status: int, name: str, title: str, detail: str, remedy: str = "", **members: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.name = name
        self.title = title
        self.detail = detail
        self.remedy = remedy
        self.members = members


class BodyTooLarge(HTTPException):
    """The body goes on past the limit. An HTTPException: FastAPI makes 400 of any other error that comes up while it reads a body."""

    def __init__(self, max_bytes: int, headers: Mapping[str, str]) -> None:
        super().__init__(413, headers=headers)
        self.max_bytes = max_bytes


def problem_response(error: ApiError, path: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    body = Problem(
        type=f"urn:pixtail:problem:{error.name}",
        title=error.title,
        status=error.status,
        detail=error.detail,
        instance=path,
        remedy=error.remedy or None,
        **error.members,
    )
    retry = {"Retry-After": str(RETRY_AFTER_S)} if error.status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    content = body.model_dump(mode="json", exclude_none=True)
    return JSONResponse(content, error.status, headers={**retry, **(headers or {})}, media_type=MEDIA_TYPE)


def not_found(detail: str, remedy: str = "") -> ApiError:
    return ApiError(404, "not-found", "Not found", detail, remedy)


def invalid(parameter: str, message: str, remedy: str = "") -> ApiError:
    return _invalid([InvalidParameter(parameter=parameter, message=message)], remedy)


def too_large(max_bytes: int) -> ApiError:
    detail = f"the picture is larger than {max_bytes} bytes"
    remedy = "Send a smaller one, or raise pictures.max_bytes"
    return ApiError(413, "too-large", "Picture too large", detail, remedy, reason=Reason.TOO_LARGE.value)


def unforeseen(error: Exception, path: str) -> ApiError:
    """The answer to an error that nobody foresaw; its traceback goes to the log, never to the caller."""
    incident = uuid.uuid4().hex[:12]
    structlog.get_logger().error("request failed", path=path, incident=incident, exc_info=error)
    return ApiError(
        500,
        "internal-error",
        "Internal error",
        "the request could not be answered",
        f"Look for incident {incident} in the log",
        incident=incident,
    )


def from_pixtail(error: PixtailError) -> ApiError:
    """Our own errors say in one line what is wrong and never hold a secret, so they may be shown."""
    match error:
        case PictureError(reason=Reason.TOO_LARGE):
            return ApiError(
                413, "too-large", "Picture too large", error.problem, error.remedy, reason=error.reason.value
            )
        case PictureError():
            return ApiError(
                422, "bad-picture", "Unusable picture", error.problem, error.remedy, reason=error.reason.value
            )
        case UsageError():
            return ApiError(422, "invalid-request", "Invalid request", error.problem, error.remedy)
        case StoreBusy() | ServerUnreachable():
            return ApiError(503, "unreachable", "Server unreachable", error.problem, error.remedy)
        case _:
            return ApiError(500, "misconfigured", "Cannot be answered as things stand", error.problem, error.remedy)


def from_http(error: HTTPException) -> ApiError:
    if isinstance(error, BodyTooLarge):
        return too_large(error.max_bytes)
    phrase = HTTPStatus(error.status_code).phrase
    name = phrase.lower().replace(" ", "-").replace("'", "")
    detail = error.detail if error.detail != phrase else f"{phrase.lower()} at this address"
    return ApiError(error.status_code, name, phrase, detail)


def from_validation(error: RequestValidationError) -> ApiError:
    """Names each parameter and what is expected of it; the values themselves are not repeated."""
    return _invalid(
        [InvalidParameter(parameter=_parameter(e["loc"]), message=_sentence(e["msg"])) for e in error.errors()]
    )


def install(app: FastAPI) -> None:
    """Makes every error that leaves an endpoint a problem. Errors that nobody foresaw are left to `security.Guard`."""

    async def api_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)
        return problem_response(error, request.url.path)

    async def pixtail_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, PixtailError)
        return problem_response(from_pixtail(error), request.url.path)

    async def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return problem_response(from_http(error), request.url.path, error.headers)

    async def validation_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return problem_response(from_validation(error), request.url.path)

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(PixtailError, pixtail_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, validation_error)


def _invalid(errors: list[InvalidParameter], remedy: str = "") -> ApiError:
    detail = "; ".join(f"{e.parameter}: {e.message}" for e in errors)
    return ApiError(422, "invalid-request", "Invalid request", detail, remedy, errors=errors)


def _parameter(location: tuple[int | str, ...]) -> str:
    """`("query", "limit")` is the parameter `limit`."""
    return ".".join(str(part) for part in location[1:]) or str(location[0])


def _sentence(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]
