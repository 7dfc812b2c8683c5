"""Requests that name an endpoint exactly reach it directly; all others go on to the framework."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from infra.http_api.direct_routes import DirectRouting, NamedRoute


class Endpoint:
    """Keeps the scopes that it gets."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)


async def receive() -> Any:
    raise AssertionError("nobody reads the body here")


async def send(message: Any) -> None:
    raise AssertionError("nobody responds here")


def scope_of(method: str, path: str, **more: object) -> Scope:
    return {"type": "http", "method": method, "path": path, **more}


@pytest.mark.parametrize(
    ("scope", "direct"),
    [
        (scope_of("POST", "/frames"), True),
        (scope_of("POST", "/frames", root_path=""), True),
        (scope_of("POST", "/frames", root_path="/behind"), False),
        (scope_of("GET", "/frames"), False),
        (scope_of("POST", "/frames/"), False),
        (scope_of("POST", "/flights"), False),
        (scope_of("GET", "/flights/7"), False),
        (scope_of("POST", "/flights/7/8"), False),
        (scope_of("POST", "/other"), False),
        (scope_of("POST", "/plain"), False),
        ({"type": "websocket", "path": "/frames"}, False),
        ({"type": "lifespan"}, False),
    ],
)
async def test_requests_with_the_exact_path_skip_the_framework(scope: Scope, direct: bool) -> None:
    frames, flight, plain, framework = Endpoint(), Endpoint(), Endpoint(), Endpoint()
    named = NamedRoute("/frames", frames, methods=["POST"])
    routes = [
        named,
        NamedRoute("/flights/{flight}", flight, methods=["POST"]),
        Route("/plain", plain, methods=["POST"]),
        WebSocketRoute("/frames", frames),
    ]
    await DirectRouting(framework, routes)(scope, receive, send)
    assert [len(each.scopes) for each in (frames, flight, plain, framework)] == [int(direct), 0, 0, int(not direct)]
    # The telemetry names the request by it.
    assert (scope.get("route") is named) == direct


async def test_parts_of_a_path_are_in_the_scope() -> None:
    flight, framework = Endpoint(), Endpoint()
    route = NamedRoute("/flights/{flight}", flight, methods=["POST"])
    await DirectRouting(framework, [route])(scope_of("POST", "/flights/7", headers=[]), receive, send)
    assert [scope["path_params"] for scope in flight.scopes] == [{"flight": "7"}]
    assert flight.scopes[0]["route"] is route
    assert framework.scopes == []
