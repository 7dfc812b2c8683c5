"""The gateway as a component of a process: it has detect, and a stop ends the requests that wait."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import aiohttp

from infra.auth.verifier import TokenVerifier
from infra.deploy.ports import free_port
from ingest.limits.settings import LimitsSettings
from ingest.settings import GatewaySettings
from schemas.topics import FRAMES_LIVE
from sinks.settings import SseSettings
from sinks.sse import STREAM_PATH as SSE_PATH
from sinks.sse.access.access import TOKENS_PATH
from sinks.sse.pictures.addresses import IMAGES_PATH
from standgale.services.composition import Composition
from standgale.services.gateway import GatewayComponent
from standgale.services.sinks import make_hub
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


async def test_settings_of_limits_reach_the_gateway_and_its_live_stream_is_documented(tmp_path: Path) -> None:
    gateway = GatewaySettings(port=free_port())
    limits = LimitsSettings(max_lag_frames=2, lag_interval_s=0.1, device_per_minute=1_000)
    settings = Settings(data_dir=tmp_path, gateway=gateway, limits=limits)
    async with Composition(settings, "gateway") as process:
        process._verifier = cast(TokenVerifier, Tokens())
        parts, stop = [GatewayComponent(process, make_hub(process)), *process.lag_watches()], asyncio.Event()
        running = [asyncio.create_task(part.run(stop, process.health.part(part.name))) for part in parts]
        await until(lambda: process.health.report().parts["gateway"].ready)
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{gateway.port}") as client:
                async with client.get("/openapi.json") as page:
                    paths = (await page.json())["paths"]
                assert paths[SSE_PATH]["get"]["operationId"] == "stream_detections"
                assert "/api/v1/flights/{flight}" in paths

                async def is_refused() -> bool:
                    query, headers = {"captured_at": WHEN}, {"X-API-Token": TOKEN}
                    async with client.post("/api/v1/frames", data=FRAME, params=query, headers=headers) as response:
                        body = await response.json()
                        assert response.status == 202 or body["error_code"] == "DETECTORS_BEHIND"
                        assert response.headers["X-RateLimit-Limit"] == "1000"
                        return response.status == 503

                await until(is_refused)
                async with client.get("/api/v1/health") as page:
                    assert (page.status, (await page.json())["parts"]["lag"]) == (200, "ready")
        finally:
            stop.set()
            await asyncio.wait_for(asyncio.gather(*running), 30)


async def test_the_live_stream_of_all_in_one_process_has_tokens_and_pictures(tmp_path: Path) -> None:
    gateway = GatewaySettings(port=free_port())
    settings = Settings(data_dir=tmp_path, gateway=gateway, sse=SseSettings(access="keys"))
    async with Composition(settings, "gateway") as process:
        process._verifier = process._keys = cast(TokenVerifier, Tokens())
        component, stop = GatewayComponent(process, make_hub(process)), asyncio.Event()
        running = asyncio.create_task(component.run(stop, process.health.part(component.name)))
        await until(lambda: process.health.report().parts["gateway"].ready)
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{gateway.port}") as client:
                async with client.get("/openapi.json") as page:
                    paths = (await page.json())["paths"]
                assert {TOKENS_PATH, f"{IMAGES_PATH}/{{name}}"} <= set(paths)
                for path, status in ((SSE_PATH, 401), (f"{IMAGES_PATH}/{'0' * 64}.jpg", 403)):
                    async with client.get(path) as response:
                        assert response.status == status
                async with client.post(TOKENS_PATH) as response:
                    assert response.status == 401
        finally:
            stop.set()
            await asyncio.wait_for(running, 30)


async def _status(request: aiohttp.client._RequestContextManager) -> int:
    async with request as response:
        return response.status
