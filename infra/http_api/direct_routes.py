"""Gives requests to hot endpoints directly to them, past the layers of the web framework."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send


class NamedRoute(Route):
    """Is a plain route to an ASGI app, that names itself to the telemetry, as FastAPI's routes do."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        scope["route"] = self
        await super().handle(scope, receive, send)


class DirectRouting:
    """Is the innermost middleware; what no :class:`NamedRoute` takes goes on to the framework."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        """``routes`` are all of the app; the framework calls this when it has them, at the first request."""
        self._app = app
        named = [route for route in routes if isinstance(route, NamedRoute)]
        self._exact = {
            (method, route.path): route
            for route in named
            if not route.param_convertors
            for method in route.methods or ()
        }
        self._patterns = [route for route in named if route.param_convertors]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        route = None
        if scope["type"] == "http" and not scope.get("root_path"):
            route = self._exact.get((scope["method"], scope["path"])) or self._matching(scope)
        if route is None:
            await self._app(scope, receive, send)
        else:
            scope["route"] = route
            await route.app(scope, receive, send)

    def _matching(self, scope: Scope) -> NamedRoute | None:
        """Return the route whose pattern the path has; its values are in the scope then."""
        for route in self._patterns:
            match, child_scope = route.matches(scope)
            if match is Match.FULL:
                scope.update(child_scope)
                return route
        return None
