"""Limits: uploads at a time, bytes in memory, and the time for a body."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.http_api import error_middleware
from ingest.settings import GatewaySettings
from tests.servers.gateway import FRAME, OTHER_TOKEN, PATH, TOKEN, WHEN, Gateway, jpeg, running
from tests.servers.gateway_checks import assert_error


async def test_uploads_beyond_max_concurrent_uploads_are_overloaded(tmp_path: Path) -> None:
    async with running(tmp_path, GatewaySettings(max_concurrent_uploads=1)) as gateway:
        raw = await gateway.raw(f"X-API-Token: {TOKEN}\r\nContent-Length: {len(FRAME)}\r\n", FRAME[:1000])
        await _until(lambda: _refused(gateway))
        raw.writer.write(FRAME[1000:])
        assert (await raw.read_response()).status == 202
        assert (await gateway.send()).status == 202


async def test_refused_upload_gets_its_503_when_its_small_body_arrives_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(error_middleware, "_DISCARD_S", 0.1)
    async with running(tmp_path, GatewaySettings(max_concurrent_uploads=1)) as gateway:
        head = f"X-API-Token: {TOKEN}\r\nContent-Length: {len(FRAME)}\r\n"
        held = await gateway.raw(head, FRAME[:1000])
        await _until(lambda: _refused(gateway))
        request = f"POST {PATH}?captured_at={WHEN} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode()
        response = await asyncio.to_thread(_send_slowly, gateway.port, request + FRAME[:1000], FRAME[1000:])
        assert response.startswith(b"HTTP/1.1 503")
        held.writer.close()


def _send_slowly(port: int, first: bytes, rest: bytes) -> bytes:
    """Send all, with a pause, before anything of the response is read, as simple clients do."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for part in (first, rest[:1000], rest[1000:]):
            # Of a connection that was closed meanwhile the second part tells nothing yet, and the third one fails.
            connection.sendall(part)
            time.sleep(0.4)
        return connection.recv(65_536)


async def test_uploads_beyond_max_in_flight_bytes_are_overloaded(tmp_path: Path) -> None:
    settings = GatewaySettings(max_image_bytes=82_000, max_in_flight_bytes=164_000)
    async with running(tmp_path, settings) as gateway:
        # A form of unknown length may have any, so one holds nearly all the bytes there are.
        head = f"X-API-Token: {OTHER_TOKEN}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        held = await gateway.raw(head + "Transfer-Encoding: chunked\r\n", b"1\r\n\xff\r\n")
        await _until(lambda: _refused(gateway))
        held.writer.close()
        await _until(lambda: _taken(gateway))


async def test_slow_bodies_of_one_device_leave_slots_for_another(tmp_path: Path) -> None:
    async with running(tmp_path, GatewaySettings(max_concurrent_uploads=8)) as gateway:
        head = f"X-API-Token: {OTHER_TOKEN}\r\nContent-Length: {len(FRAME)}\r\n"
        slow = [await gateway.raw(head, FRAME[:1000]) for _ in range(20)]
        statuses = [(await raw.read_response()).json["message"] for raw in slow[4:]]
        assert all("this client has 4 uploads in progress" in message for message in statuses)
        for seed in range(3):
            assert (await gateway.send(jpeg(seed=seed))).status == 202
        slow[0].writer.write(FRAME[1000:])
        assert (await slow[0].read_response()).status == 202
        for raw in slow:
            raw.writer.close()


async def _refused(gateway: Gateway) -> bool:
    response = await gateway.send()
    if response.status == 503:
        assert_error(response, 503, "OVERLOADED")
    return response.status == 503


async def _taken(gateway: Gateway) -> bool:
    return (await gateway.send()).status == 202


async def _until(check: Callable[[], Any]) -> None:
    """Repeat ``check``, which sends a request, until it returns True."""
    for _ in range(500):
        if await check():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never came true")


async def test_a_body_that_trickles_is_cut_off(tmp_path: Path) -> None:
    async with running(tmp_path, GatewaySettings(body_timeout_s=0.2)) as gateway:
        raw = await gateway.raw(f"X-API-Token: {TOKEN}\r\nContent-Length: 1000\r\n", b"\xff")
        assert_error(await raw.read_response(), 408, "UPLOAD_TIMEOUT")
        assert await raw.closed()


async def test_disconnected_client_leaves_no_frame_and_no_slot(gateway: Gateway) -> None:
    raw = await gateway.raw(f"X-API-Token: {TOKEN}\r\nContent-Length: {len(FRAME)}\r\n", FRAME[:-1])
    raw.writer.close()
    assert (await gateway.send(jpeg(seed=3))).status == 202
    assert len(gateway.stored()) == len(await gateway.records()) == 1
