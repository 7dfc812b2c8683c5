"""Refuses parameters that a route does not have, or has once and were given twice: they would be ignored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

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
        self._names: dict[str, dict[str, bool] | None] = {}

    def names_of(self, path: str) -> dict[str, bool] | None:
        """Return the names of a route's parameters, and whether each may be given several times.

        None for a route that the document does not have.
        """
        if path not in self._names:
            self._names[path] = self._described(path)
        return self._names[path]

    def _described(self, path: str) -> dict[str, bool] | None:
        route = self._routes.get(path)
        paths = {} if route is None else get_openapi(title="", version="", routes=[route])["paths"]
        if path not in paths:
            return None
        parameters = [each for each in paths[path]["get"].get("parameters", ()) if each["in"] == "query"]
        return {each["name"]: _is_list(each["schema"]) for each in parameters}


async def require_known_query(request: Request) -> None:
    """Raise InvalidConfigError for a parameter that the route of a GET request does not have, or takes only once.

    It names the nearest one that the route has.
    A dependency of all routes of an app with :class:`KnownQueries` in its state.
    """
    if request.method != "GET" or not request.scope["query_string"]:
        return
    queries: KnownQueries = request.app.state.queries
    known = queries.names_of(endpoint_of(request.scope))
    if known is None:
        return
    given = Counter(name for name, _ in request.query_params.multi_items())
    for name, times in given.items():
        if name not in known:
            raise InvalidConfigError.of(shortened(name, _LONGEST_NAME) or "query", _advice(name, known))
        if times > 1 and not known[name]:
            raise InvalidConfigError.of(name, f"Was given {times} times; give it once")


def _is_list(schema: Mapping[str, Any]) -> bool:
    return any(each.get("type") == "array" for each in (schema, *schema.get("anyOf", ())))


def _advice(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, 1, _NEAR)
    if near:
        return f"Is not known; {near[0]} is"
    return f"Is not known; this path takes {', '.join(known)}" if known else "Is not known; this path takes none"
