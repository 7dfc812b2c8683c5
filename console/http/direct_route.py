"""Describes routes that are asked for so often that their requests go past the layers of the web framework."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import signature

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from console.http.callers import caller_in
from console.http.query_names import require_known_query
from infra.http_api.direct_routes import NamedRoute


class DirectRoute(APIRoute):
    """Is a route whose endpoint takes parts of its path, as text, ``caller`` and perhaps ``request``.

    It returns a response. The framework only describes it in the OpenAPI document.
    """


class _Endpoint:
    def __init__(self, route: DirectRoute) -> None:
        self._call = route.endpoint
        self._takes_request = "request" in signature(route.endpoint).parameters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        await require_known_query(request)
        arguments: dict[str, object] = {**scope["path_params"], "caller": caller_in(request)}
        if self._takes_request:
            arguments["request"] = request
        response = await self._call(**arguments)
        await response(scope, receive, send)


def direct_routes(routers: Iterable[APIRouter]) -> list[NamedRoute]:
    """Return what serves each :class:`DirectRoute` of ``routers`` directly."""
    found: list[NamedRoute] = []
    for router in routers:
        for route in router.routes:
            if isinstance(route, DirectRoute):
                named = NamedRoute(route.path, _Endpoint(route))
                # Without HEAD, which Starlette adds, as for all other routes here.
                named.methods = route.methods
                found.append(named)
    return found
