"""The close of a flight at gateways that cannot, will not, or not yet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from pydantic import SecretStr

from ingest.edge.sending.flight import close_flight
from ingest.edge.sending.gateway import GatewayConnection
from ingest.edge.settings import EdgeSettings
from tests.servers.http import serving

Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]


def responding(*responses: tuple[int, dict[str, object]]) -> tuple[list[object], Respond]:
    """Give the responses one after the other; return the bodies of the requests, too."""
    left, bodies = list(responses), []

    async def respond(request: web.Request) -> web.StreamResponse:
        bodies.append((request.path, await request.json()))
        status, body = left.pop(0)
        return web.json_response(body, status=status)

    return bodies, respond


async def closes(respond: Respond, stop: asyncio.Event | None = None) -> bool:
    async with serving(respond) as url:
        settings = EdgeSettings.model_validate(
            {"url": url, "token": SecretStr("t"), "first_delay_s": 0.01, "max_delay_s": 0.02}
        )
        async with GatewayConnection(settings, None) as connection:
            return await close_flight(connection, settings, "north", 5, stop or asyncio.Event())


async def test_close_is_tried_again_and_waits_until_all_frames_have_arrived(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    unavailable = (503, {"error_code": "DATABASE_UNAVAILABLE", "message": "the database did not answer"})
    early, done = (200, {"summary": "4 of 5 arrived", "missing": 1}), (200, {"summary": "5 of 5 arrived", "missing": 0})
    bodies, respond = responding(unavailable, unavailable, early, done)
    assert await closes(respond)
    assert bodies == [("/api/v1/flights/north/close", {"count": 5})] * 4
    assert caplog.text.count("is not closed yet: the gateway responds 503 DATABASE_UNAVAILABLE") == 1
    assert "the flight north is closed with 5 frames: 5 of 5 arrived" in caplog.text


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (409, {"error_code": "FLIGHT_CLOSED", "message": "closed with 4"}, "409 FLIGHT_CLOSED: closed with 4"),
        (404, {}, "the gateway responds 404"),
        (200, {"hello": "portal"}, "does not describe a flight"),
    ],
)
async def test_close_that_is_refused_ends_with_the_reason(
    caplog: pytest.LogCaptureFixture, status: int, body: dict[str, object], said: str
) -> None:
    _, respond = responding((status, body))
    assert not await closes(respond)
    assert said in caplog.text


async def test_close_ends_at_the_stop(caplog: pytest.LogCaptureFixture) -> None:
    stop = asyncio.Event()

    async def respond(request: web.Request) -> web.StreamResponse:
        stop.set()
        return web.Response(status=503)

    assert not await closes(respond, stop)
    assert "because the client was stopped; run the command again" in caplog.text
