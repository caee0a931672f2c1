"""Who may change something, or have everything: whoever knows `api.token`; without a token, the programs of this machine."""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit

from fastapi import Request

from pixtail.search.deps import Collaborators
from pixtail.search.problems import ApiError


async def may_write(request: Request, deps: Collaborators) -> None:
    """A FastAPI dependency. Raises `ApiError`: 401 without the right token, 403 for another machine, or a page of another site."""
    if not _is_own_page(request):
        raise _forbidden("a page of another site asks for it")
    token = deps.settings.api.token
    if token is not None:
        if not hmac.compare_digest(_bearer(request).encode(), token.get_secret_value().encode()):
            raise ApiError(401, "token-needed", "Token needed", "this needs api.token", "Send Authorization: Bearer …")
    elif not (request.client and _is_loopback(request.client.host) and _is_loopback(request.url.hostname or "")):
        raise _forbidden("it is asked for from another machine")


def _forbidden(why: str) -> ApiError:
    return ApiError(403, "forbidden", "Forbidden", why, "Set api.token, and send it")


def _is_own_page(request: Request) -> bool:
    """Browsers say which page asks, and let any page in the world send a form to this machine."""
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _is_loopback(host: str) -> bool:
    """Names count only if nobody else can give them a meaning: a page may have its own name resolved to this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
