"""The HTTP API and the console page as one ASGI application. Read-only."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

from pixtail.search import images, operations, problems, searching, snapshots, whole
from pixtail.search.deps import Deps
from pixtail.search.problems import MEDIA_TYPE, Problem
from pixtail.search.security import DOCS_PATH, BodyLimit, Guard

CONSOLE = Path(__file__).parent / "console"
_ERRORS: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "Not found"},
    413: {"model": Problem, "description": "Picture too large"},
    422: {"model": Problem, "description": "Invalid request or unusable picture"},
    500: {"model": Problem, "description": "Internal error"},
    503: {"model": Problem, "description": "Server unreachable; try again after `Retry-After` seconds"},
}


class Api(FastAPI):
    """FastAPI, with problems described under their own media type."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            _describe_problems(super().openapi())
        return super().openapi()


def create_app(deps: Deps) -> FastAPI:
    """The application over these collaborators. Nothing is opened or connected; it may be made in any thread."""
    app = Api(
        title="Pixtail",
        version=version("pixtail"),
        description="Finds the pictures of a MySQL table by text and by picture.",
        docs_url=DOCS_PATH,
        redoc_url=None,
        responses=_ERRORS,
    )
    app.state.deps = deps
    app.state.duplicates = whole.DuplicatesJob()
    problems.install(app)
    app.add_middleware(BodyLimit, max_bytes=deps.settings.pictures.max_bytes)
    app.add_middleware(Guard)  # the last one added is the outermost
    for module in (searching, images, whole, operations, snapshots):
        app.include_router(module.router)
    app.add_api_route("/", _console, include_in_schema=False, methods=["GET", "HEAD"])
    app.mount("/console", StaticFiles(directory=CONSOLE))
    return app


async def _console() -> FileResponse:
    return FileResponse(CONSOLE / "index.html")


def _describe_problems(schema: dict[str, Any]) -> None:
    """FastAPI describes every model as `application/json`."""
    for path in schema["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400 and "application/json" in response.get("content", {}):
                    response["content"][MEDIA_TYPE] = response["content"].pop("application/json")
