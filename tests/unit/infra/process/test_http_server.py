"""The HTTP component: health pages, open requests at a stop, and errors at the start."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientConnectionError, ClientSession
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from infra.errors import SettingsError
from infra.process import http_server
from infra.process.components import EXIT_FAILED, EXIT_OK, Component, run_components
from infra.process.health import Health
from infra.process.http_server import HttpComponent, health_component
from infra.process.http_settings import HttpSettings
from infra.telemetry.settings import TelemetrySettings


async def run(*components: Component, stop: asyncio.Event | None = None, drain_timeout_s: float = 5.0) -> int:
    return await asyncio.wait_for(
        run_components(components, health=Health(), drain_timeout_s=drain_timeout_s, stop=stop), 20
    )


@asynccontextmanager
async def served(component: HttpComponent) -> AsyncIterator[str]:
    stop = asyncio.Event()
    serving = asyncio.create_task(component.run(stop, Health().part(component.name)))
    yield f"http://127.0.0.1:{component.bind()}"
    stop.set()
    await asyncio.wait_for(serving, 10)


async def test_a_stop_ends_the_server_before_its_next_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "_TICK_S", 60.0)
    stop = asyncio.Event()
    server = health_component(TelemetrySettings(health_port=0), Health())
    serving = asyncio.create_task(server.run(stop, Health().part("health")))
    await asyncio.sleep(0.05)
    stop.set()
    await asyncio.wait_for(serving, 10)


async def test_a_server_starts_with_the_longest_times_that_settings_take() -> None:
    limits = HttpSettings(write_timeout_s=604_800, header_timeout_s=604_800, keep_alive_s=604_800)
    async with (
        served(health_component(TelemetrySettings(health_port=0), Health(), limits)) as url,
        ClientSession(url) as client,
        client.get("/health/live") as response,
    ):
        assert response.status == 200


async def test_health_pages_show_state_and_reason() -> None:
    health = Health()
    part = health.part("test-sink")
    async with (
        served(health_component(TelemetrySettings(health_port=0), health)) as url,
        ClientSession(url) as client,
    ):

        async def probe(path: str) -> tuple[int, dict[str, object]]:
            async with client.get(path) as response:
                return response.status, await response.json()

        part.set_not_ready("writing to postgres: connection refused")
        assert await probe("/health/ready") == (
            503,
            {"status": "not ready", "parts": {"test-sink": "writing to postgres: connection refused"}},
        )
        assert await probe("/health/live") == (200, {"status": "live", "parts": {"test-sink": "live"}})
        part.set_ready()
        assert await probe("/health/ready") == (200, {"status": "ready", "parts": {"test-sink": "ready"}})
        part.set_note("losses", "3 records lost")
        assert (await probe("/health/ready"))[1]["parts"] == {"test-sink": "ready: 3 records lost"}
        part.set_not_ready("away")
        assert (await probe("/health/ready"))[1]["parts"] == {"test-sink": "away (note: 3 records lost)"}
        part.set_dead("RuntimeError")
        assert (await probe("/health/live"))[0] == 503
        async with client.get("/metrics") as response:
            assert 'standgale_ready{part="test-sink"} 0.0' in await response.text()


def app_with(endpoint: Callable[[Request], object]) -> Starlette:
    return Starlette(routes=[Route("/", endpoint)])


async def test_an_open_request_is_finished_before_the_stop() -> None:
    inside, release = asyncio.Event(), asyncio.Event()

    async def slow(_: Request) -> PlainTextResponse:
        inside.set()
        await release.wait()
        return PlainTextResponse("finished")

    stops: list[str] = []
    component = HttpComponent("slow", app_with(slow), host="127.0.0.1", port=0, on_stop=lambda: stops.append("stop"))
    other = HttpComponent("other", app_with(slow), host="127.0.0.1", port=0)
    stop = asyncio.Event()
    port = component.bind()
    assert other.bind() not in (0, port)
    running = asyncio.create_task(run(component, other, stop=stop, drain_timeout_s=10))
    async with ClientSession() as client:
        asking = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/"))
        await inside.wait()
        stop.set()
        while not stops:  # noqa: ASYNC110 (the stop is reported by a plain callable)
            await asyncio.sleep(0.01)
        release.set()
        assert await (await asking).text() == "finished"
        assert await running == EXIT_OK
        with pytest.raises(ClientConnectionError):
            await client.get(f"http://127.0.0.1:{port}/")


async def test_a_taken_port_names_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        component = HttpComponent("gateway", Starlette(), host="127.0.0.1", port=taken.getsockname()[1])
        with pytest.raises(
            SettingsError, match=r"gateway cannot listen on 127.0.0.1:\d+ .*change gateway.host or gatew"
        ):
            component.bind()
        settings = TelemetrySettings(health_port=taken.getsockname()[1])
        with pytest.raises(SettingsError, match=r"change telemetry.health_host or telemetry.health_port,"):
            health_component(settings, Health()).bind()


async def test_an_app_that_does_not_start_stops_the_process(caplog: pytest.LogCaptureFixture) -> None:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        raise RuntimeError("no model")
        yield

    component = HttpComponent("sse", Starlette(lifespan=lifespan), host="127.0.0.1", port=0)
    assert await run(component) == EXIT_FAILED
    assert "component sse failed: the HTTP app did not start" in caplog.text
    assert "no model" in caplog.text
