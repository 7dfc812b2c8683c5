"""The key of a request is checked before its body is read; public routes need none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from console.http.callers import PUBLIC, Caller, KeyMiddleware, caller_in, key_of
from infra.http_api.errors.api_errors import UnauthorizedError


@dataclass(frozen=True)
class Verified:
    holder_id: str
    scope: None = None


class Keys:
    """Knows one key."""

    def verify(self, token: str) -> Verified | None:
        return Verified("desktop") if token == "sgk_right" else None

    async def look_up(self, token: str) -> None:
        """Find nothing new."""


async def nothing(message: Message) -> None:
    raise AssertionError(message)


async def never() -> Message:
    raise AssertionError("the body was read")


async def call(path: str, headers: dict[bytes, bytes], public: tuple[str, ...] = PUBLIC) -> Any:
    """What the app behind the middleware sees as the caller."""
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope.get("state", {}).get("caller"))

    scope: Scope = {"type": "http", "path": path, "headers": list(headers.items())}
    await KeyMiddleware(app, Keys(), public)(scope, never, nothing)
    return seen[0]


@pytest.mark.parametrize(
    "headers",
    [
        {b"x-api-key": b"sgk_right"},
        {b"x-api-token": b"sgk_right"},
        {b"authorization": b"Bearer sgk_right"},
        {b"x-api-key": b"sgk_right", b"authorization": b"Bearer of-another-service"},
    ],
    ids=["key", "token", "bearer", "key before bearer"],
)
async def test_a_valid_key_names_the_client(headers: dict[bytes, bytes]) -> None:
    assert await call("/api/v1/jobs", headers) == Caller("desktop")


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({}, "no API key"),
        ({b"x-api-key": b"sgk_wrong"}, "not valid"),
        ({b"x-api-key": b"stg_0123_secret"}, "a device token"),
        ({b"authorization": b"Basic sgk_right"}, "no API key"),
    ],
)
async def test_without_a_valid_key_nothing_of_a_request_is_read(headers: dict[bytes, bytes], text: str) -> None:
    with pytest.raises(UnauthorizedError, match=text) as caught:
        await call("/api/v1/jobs", headers)
    assert caught.value.status == 401
    assert "sgk_" not in str(caught.value)


@pytest.mark.parametrize("path", ["/docs", "/api/v1/health", "/docs/assets/redoc.js", "/api/v1/errors/X"])
async def test_public_routes_need_no_key(path: str) -> None:
    assert await call(path, {}) is None


@pytest.mark.parametrize("path", ["/docs/", "/docs/assets/a/b", "/api/v1/healthy", "//docs", "/Docs"])
async def test_paths_like_public_ones_need_a_key(path: str) -> None:
    with pytest.raises(UnauthorizedError):
        await call(path, {})


async def test_a_route_with_its_own_secret_is_public_by_its_template() -> None:
    own = (*PUBLIC, "/api/v1/jobs/{job}/results")
    assert await call("/api/v1/jobs/7/results", {}, own) is None
    with pytest.raises(UnauthorizedError):
        await call("/api/v1/jobs/7/8/results", {}, own)


def test_an_endpoint_without_a_key_may_not_ask_for_its_caller() -> None:
    from starlette.requests import Request

    scope = {"type": "http", "path": "/docs", "headers": [], "query_string": b"", "server": ("a", 1), "scheme": "http"}
    with pytest.raises(RuntimeError, match="/docs is a route without a key"):
        caller_in(Request(scope))


def test_spaces_around_a_key_do_not_count() -> None:
    assert key_of({b"x-api-key": b"  sgk_right "}) == "sgk_right"


async def test_a_key_that_is_revoked_while_a_body_is_received_ends_the_request() -> None:
    valid, pieces = {"sgk_right"}, [b"a", b"b", b"c"]

    class Revocable:
        def verify(self, token: str) -> Verified | None:
            return Verified("desktop") if token in valid else None

        async def look_up(self, token: str) -> None:
            """Find nothing new."""

    async def receive() -> Message:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["body"] == b"a"
        valid.clear()
        with pytest.raises(UnauthorizedError, match="revoked"):
            await receive()

    scope: Scope = {"type": "http", "path": "/api/v1/jobs", "headers": [(b"x-api-key", b"sgk_right")]}
    await KeyMiddleware(app, Revocable())(scope, receive, nothing)
    assert pieces == [b"c"]
