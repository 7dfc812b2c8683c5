"""Refuses parameters of a query that a route does not have: a misspelt one would change nothing without a word."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from fastapi import APIRouter
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.requests import Request

from console.http.errors import InvalidConfigError
from infra.telemetry.http import endpoint_of
from infra.texts import shortened

_LONGEST_NAME = 60
_NEAR = 0.6


class KnownQueries:
    """Knows the parameters that the OpenAPI document describes, of each route that was asked with some.

    The whole document takes a third of a second to make, and no other request could be served meanwhile.
    """

    def __init__(self, routers: Iterable[APIRouter]) -> None:
        routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
        self._routes = {route.path: route for route in routes if "GET" in (route.methods or ())}
        self._names: dict[str, list[str] | None] = {}

    def names_of(self, path: str) -> list[str] | None:
        """Return the names of a route's parameters; None for one that the document does not have."""
        if path not in self._names:
            self._names[path] = self._described(path)
        return self._names[path]

    def _described(self, path: str) -> list[str] | None:
        route = self._routes.get(path)
        paths = {} if route is None else get_openapi(title="", version="", routes=[route])["paths"]
        if path not in paths:
            return None
        return [each["name"] for each in paths[path]["get"].get("parameters", ()) if each["in"] == "query"]


async def require_known_query(request: Request) -> None:
    """Raise InvalidConfigError that names the nearest parameter for one that the route of a GET request does not have.

    A dependency of all routes of an app with :class:`KnownQueries` in its state.
    """
    if request.method != "GET" or not request.scope["query_string"]:
        return
    queries: KnownQueries = request.app.state.queries
    known = queries.names_of(endpoint_of(request.scope))
    if known is None:
        return
    for name in request.query_params:
        if name not in known:
            raise InvalidConfigError.of(shortened(name, _LONGEST_NAME) or "query", _advice(name, known))


def _advice(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, 1, _NEAR)
    if near:
        return f"Is not known; {near[0]} is"
    return f"Is not known; this path takes {', '.join(known)}" if known else "Is not known; this path takes none"
