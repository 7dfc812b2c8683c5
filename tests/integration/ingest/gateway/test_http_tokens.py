"""Without a valid token no body is read, and no token reaches a log."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import aiohttp
import pytest

from infra.storage.frames.folder import FolderFrameStore
from ingest.gateway import GatewayParts, create_gateway
from ingest.settings import GatewaySettings
from tests.servers.gateway import FRAME, PATH, TOKEN, WHEN, Gateway, Tokens, jpeg
from tests.servers.gateway_checks import assert_error, assert_nothing_stored


async def test_upload_without_valid_token_is_refused(gateway: Gateway) -> None:
    cases: list[tuple[dict[str, str], str]] = [
        ({}, "no device token"),
        ({"X-API-Token": "stg_wrong_0123456789"}, "not valid"),
        ({"Authorization": "Bearer stg_wrong_0123456789"}, "not valid"),
        ({"Authorization": f"Basic {TOKEN}"}, "no device token"),
        ({"X-API-Token": " "}, "no device token"),
    ]
    responses = await asyncio.gather(*(gateway.send(token=None, headers=headers) for headers, _ in cases))
    for response, (_, why) in zip(responses, cases, strict=True):
        assert why in assert_error(response, 401, "UNAUTHORIZED")["message"]
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    await assert_nothing_stored(gateway)


async def test_a_revoked_token_stops_at_once(gateway: Gateway) -> None:
    assert (await gateway.send()).status == 202
    del gateway.tokens.known[TOKEN]
    assert_error(await gateway.send(jpeg(seed=2)), 401, "UNAUTHORIZED")
    assert len(gateway.stored()) == len(await gateway.records()) == 1


async def test_without_a_token_the_body_is_not_read(gateway: Gateway) -> None:
    """The response is sent before the body is read, and then the connection is closed."""
    head = "Content-Type: image/jpeg\r\nContent-Length: 5000000\r\nExpect: 100-continue\r\n"
    raw = await gateway.raw(head)
    response = await raw.read_response()
    assert_error(response, 401, "UNAUTHORIZED")
    assert response.headers["connection"] == "close"
    assert await raw.closed()


async def test_unauthorized_response_arrives_while_client_still_sends(gateway: Gateway) -> None:
    raw = await gateway.raw("Content-Type: image/jpeg\r\nContent-Length: 5000000\r\n", bytes(20_000))
    assert_error(await raw.read_response(), 401, "UNAUTHORIZED")
    assert await raw.closed()


async def test_without_a_token_receive_is_never_called(gateway: Gateway) -> None:
    parts = GatewayParts(GatewaySettings(), Tokens(), FolderFrameStore(gateway.frames), gateway.publisher)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "headers": [(b"content-length", b"10")],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("x", 80),
        "client": ("y", 1),
        "root_path": "",
    }
    await create_gateway(parts)(scope, receive, send)  # type: ignore[arg-type]  # a plain dict is a scope
    assert sent[0]["status"] == 401


async def test_another_device_s_frame_is_refused(gateway: Gateway) -> None:
    assert_error(await gateway.send(params={"device_id": "drone-2"}), 403, "ACCESS_DENIED", "device_id")
    form = aiohttp.FormData()
    form.add_field("image", FRAME, filename="a.jpg")
    form.add_field("device_id", "drone-2")
    assert_error(await gateway.send(form), 403, "ACCESS_DENIED", "device_id")
    await assert_nothing_stored(gateway)
    own = await gateway.send(params={"device_id": "drone-1", "captured_at": WHEN})
    assert own.status == 202


async def test_tokens_not_known_yet_is_503_not_401(gateway: Gateway) -> None:
    gateway.tokens.unavailable = True
    response = await gateway.send()
    assert_error(response, 503, "DATABASE_UNAVAILABLE")
    assert b"secret-host" not in response.body
    await assert_nothing_stored(gateway)


async def test_tokens_never_reach_a_log(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await gateway.send()
    await gateway.send(token="stg_wrong_0123456789")
    gateway.publisher.fault = RuntimeError("broken")
    await gateway.send(headers={"Authorization": f"Bearer {TOKEN}"}, token=None)
    assert caplog.text
    assert TOKEN not in caplog.text
    assert "stg_wrong" not in caplog.text
