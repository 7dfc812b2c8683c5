"""The gateway as a component of a process: it has detect, and a stop ends the requests that wait."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import aiohttp

from infra.auth.verifier import TokenVerifier
from infra.deploy.ports import free_port
from ingest.settings import GatewaySettings
from schemas.topics import FRAMES_LIVE
from standgale.services.composition import Composition
from standgale.services.gateway import GatewayComponent
from standgale.settings import Settings
from standgale.testing.waiting import until
from tests.servers.gateway import FRAME, TOKEN, WHEN, Tokens


async def test_stop_ends_waiting_requests_with_202_and_keeps_their_frames(tmp_path: Path) -> None:
    gateway = GatewaySettings(port=free_port(), answer_timeout_s=60.0)
    async with Composition(Settings(data_dir=tmp_path, gateway=gateway), "gateway") as process:
        # Without a database: what is tested here needs none.
        process._verifier = cast(TokenVerifier, Tokens())
        component, stop = GatewayComponent(process), asyncio.Event()
        running = asyncio.create_task(component.run(stop, process.health.part(component.name)))
        await until(lambda: process.health.report().parts["gateway"].ready)
        reader = await process.broker().reader()

        async def published() -> int:
            return sum(end for _, end in (await reader.bounds(FRAMES_LIVE)).values())

        async with aiohttp.ClientSession() as client:
            url, headers = f"http://127.0.0.1:{gateway.port}/api/v1/detect", {"X-API-Token": TOKEN}
            sent = client.post(url, data=FRAME, params={"timestamp": WHEN}, headers=headers)
            waiting = asyncio.create_task(_status(sent))
            await until(published)
            stop.set()
            assert await asyncio.wait_for(waiting, 30) == 202
        await asyncio.wait_for(running, 30)
        await reader.close()


async def _status(request: aiohttp.client._RequestContextManager) -> int:
    async with request as response:
        return response.status
