"""Gives requests that name an endpoint exactly to it, past the layers of the web framework."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send


class NamedRoute(Route):
    """Is a plain route to an ASGI app, that names itself to the telemetry, as FastAPI's routes do."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        scope["route"] = self
        await super().handle(scope, receive, send)


class DirectRouting:
    """Is the innermost middleware; what no :class:`NamedRoute` without parameters takes goes on to the framework."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        """``routes`` are all of the app; the framework calls this when it has them, at the first request."""
        self._app = app
        self._routes = {
            (method, route.path): route
            for route in routes
            if isinstance(route, NamedRoute) and not route.param_convertors
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        route = None
        if scope["type"] == "http" and not scope.get("root_path"):
            route = self._routes.get((scope["method"], scope["path"]))
        if route is None:
            await self._app(scope, receive, send)
        else:
            scope["route"] = route
            await route.app(scope, receive, send)
