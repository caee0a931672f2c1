"""Search: the HTTP API, the console page, and the service that runs them. Knows the index and the model only by their ports."""

from pixtail.search.api import create_app
from pixtail.search.deps import Deps
from pixtail.search.service import ApiService

__all__ = ["ApiService", "Deps", "create_app"]
