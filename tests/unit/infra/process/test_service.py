"""The life of a process: start, drain, failure, and health that tells the truth."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientConnectionError, ClientSession
from prometheus_client import REGISTRY
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from infra.errors import SettingsError
from infra.process.health import Health, HealthPart
from infra.process.service import (
    EXIT_FAILED,
    EXIT_OK,
    Component,
    HttpComponent,
    health_component,
    run_components,
    run_service,
)
from infra.telemetry.settings import TelemetrySettings


class Worker:
    """A component whose every step a test decides."""

    def __init__(self, name: str, *, drains: bool = True, fails: str | None = None, returns: bool = False) -> None:
        self.name = name
        self.started = asyncio.Event()
        self.drained = False
        self.cancelled = False
        self._drains = drains
        self._fails = fails
        self._returns = returns

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        health.set_ready()
        self.started.set()
        if self._fails == "at once":
            raise RuntimeError("boom")
        if self._returns:
            return
        await stop.wait()
        if self._fails == "draining":
            raise RuntimeError("boom")
        try:
            await asyncio.sleep(0 if self._drains else 3600)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        self.drained = True


async def run(*components: Component, stop: asyncio.Event | None = None, drain_timeout_s: float = 5.0) -> int:
    return await asyncio.wait_for(
        run_components(components, health=Health(), drain_timeout_s=drain_timeout_s, stop=stop), 20
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_everybody(number: signal.Signals) -> None:
    one, two = Worker("one"), Worker("two")
    running = asyncio.create_task(run(one, two))
    await one.started.wait()
    await two.started.wait()
    os.kill(os.getpid(), number)
    assert await running == EXIT_OK
    assert one.drained
    assert two.drained


async def test_stop_can_be_told_from_inside() -> None:
    stop = asyncio.Event()
    worker = Worker("one")
    running = asyncio.create_task(run(worker, stop=stop))
    await worker.started.wait()
    stop.set()
    assert await running == EXIT_OK


@pytest.mark.parametrize(
    "bad", [Worker("bad", fails="at once"), Worker("bad", returns=True)], ids=["raises", "returns"]
)
async def test_a_dead_component_stops_the_process(bad: Worker, caplog: pytest.LogCaptureFixture) -> None:
    good = Worker("good")
    health = Health()
    assert await run_components([good, bad], health=health, drain_timeout_s=5) == EXIT_FAILED
    assert good.drained
    assert "component bad" in caplog.text
    assert not health.report().live
    assert health.report().parts["bad"].fault is not None


async def test_the_causes_in_a_group_of_errors_are_told(caplog: pytest.LogCaptureFixture) -> None:
    class Grouped(Worker):
        async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._fail())

        async def _fail(self) -> None:
            raise SettingsError("detector.model: no such file")

    health = Health()
    assert await run_components([Grouped("detector")], health=health, drain_timeout_s=5) == EXIT_FAILED
    assert "component detector failed: detector.model: no such file" in caplog.text
    assert "Traceback" not in caplog.text
    fault = health.report().parts["detector"].fault
    assert fault is not None
    assert "SettingsError: detector.model: no such file" in fault


async def test_a_component_that_fails_while_draining_is_told() -> None:
    stop = asyncio.Event()
    stop.set()
    assert await run(Worker("bad", fails="draining"), stop=stop) == EXIT_FAILED


async def test_who_does_not_drain_in_time_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    stop = asyncio.Event()
    slow, quick = Worker("slow", drains=False), Worker("quick")
    running = asyncio.create_task(run(slow, quick, stop=stop, drain_timeout_s=0.05))
    await slow.started.wait()
    stop.set()
    assert await running == EXIT_FAILED
    assert slow.cancelled
    assert quick.drained
    assert "component slow did not drain in time" in caplog.text


async def test_a_second_signal_cancels_at_once() -> None:
    slow = Worker("slow", drains=False)
    running = asyncio.create_task(run(slow, drain_timeout_s=3600))
    await slow.started.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == EXIT_FAILED
    assert slow.cancelled


async def test_cancelling_the_run_leaves_nothing_behind() -> None:
    worker = Worker("one", drains=False)
    running = asyncio.create_task(run(worker))
    await worker.started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.sleep(0.01)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "one"]


def test_an_error_standgale_can_name_is_a_line_and_a_status(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> int:
        raise SettingsError("gateway.port: taken")

    assert run_service(main) == EXIT_FAILED
    assert "gateway.port: taken" in caplog.text


def test_the_exit_status_is_mains_own_under_uvloop() -> None:
    async def main() -> int:
        return 7 if "uvloop" in type(asyncio.get_running_loop()).__module__ else 0

    assert run_service(main) == 7


# --- health


def test_a_part_is_not_ready_until_it_says_so() -> None:
    health = Health()
    part = health.part("test-part")
    assert health.part("test-part") is part
    assert (health.report().live, health.report().ready) == (True, False)
    assert REGISTRY.get_sample_value("standgale_ready", {"part": "test-part"}) == 0
    part.set_ready()
    assert health.report().ready
    assert REGISTRY.get_sample_value("standgale_ready", {"part": "test-part"}) == 1
    part.set_not_ready("database away")
    assert health.report().parts["test-part"].reason == "database away"
    assert health.report().live


def test_a_part_that_falls_silent_is_not_live() -> None:
    now = 100.0
    health = Health(silence_s=30, clock=lambda: now)
    quiet, chatty = health.part("test-quiet"), health.part("test-chatty")
    quiet.set_ready()
    chatty.set_ready()
    chatty.beat()
    now = 131.0
    assert health.report().parts["test-quiet"].fault is None
    assert health.report().parts["test-chatty"].fault == "no sign of life for 31 s"
    assert not health.report().live
    assert not health.report().ready
    chatty.beat_if_expected()
    quiet.beat_if_expected()
    assert health.report().ready
    chatty.set_done()
    now = 500.0
    assert health.report().live


def test_a_part_that_waits_for_several_things_names_them_all() -> None:
    health = Health()
    part = health.part("test-waits")
    part.set_waiting("reading", "broker away")
    part.set_waiting("writing", "database away")
    assert part.reason == "broker away; database away"
    part.set_ready()
    assert not health.report().ready
    part.clear_waiting("reading")
    assert part.reason == "database away"
    part.set_not_ready("draining")
    assert part.reason == "database away; draining"
    part.set_ready()
    part.clear_waiting("writing")
    assert health.report().ready


def test_a_part_whose_work_hangs_is_not_live_until_it_goes_on() -> None:
    health = Health(silence_s=30)
    part = health.part("test-hangs")
    part.set_ready()
    part.set_hanging("engine", "no batch for 31 s")
    assert health.report().parts["test-hangs"].fault == part.reason == "no batch for 31 s"
    assert not health.report().live
    part.clear_waiting("engine")
    assert health.report().ready
    part.set_hanging("engine", "no batch for 31 s")
    part.set_done()
    assert health.report().live


def test_notes_stand_side_by_side_and_change_nothing_about_being_ready() -> None:
    part = Health().part("test-notes")
    part.set_ready()
    part.set_note("models", "small 1.0.0")
    part.set_note("clock", "6 s ahead")
    assert (part.report().ready, part.report().note) == (True, "small 1.0.0; 6 s ahead")
    part.set_note("models", None)
    part.set_note("models", None)
    assert part.report().note == "6 s ahead"


def test_the_readiness_metric_follows_silence() -> None:
    now = 100.0
    part = Health(silence_s=30, clock=lambda: now).part("test-hanging")
    part.set_ready()
    part.beat()
    assert REGISTRY.get_sample_value("standgale_ready", {"part": "test-hanging"}) == 1
    now = 131.0
    assert REGISTRY.get_sample_value("standgale_ready", {"part": "test-hanging"}) == 0
    part.beat()
    assert REGISTRY.get_sample_value("standgale_ready", {"part": "test-hanging"}) == 1


@asynccontextmanager
async def served(component: HttpComponent) -> AsyncIterator[str]:
    stop = asyncio.Event()
    serving = asyncio.create_task(component.run(stop, Health().part(component.name)))
    yield f"http://127.0.0.1:{component.bind()}"
    stop.set()
    await asyncio.wait_for(serving, 10)


async def test_probes_tell_the_truth_and_the_reason() -> None:
    health = Health()
    part = health.part("test-sink")
    async with (
        served(health_component(TelemetrySettings(health_port=0), health)) as url,
        ClientSession(url) as client,
    ):

        async def probe(path: str) -> tuple[int, dict[str, object]]:
            async with client.get(path) as answer:
                return answer.status, await answer.json()

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
        async with client.get("/metrics") as answer:
            assert 'standgale_ready{part="test-sink"} 0.0' in await answer.text()


# --- HTTP under uvicorn


def app_with(endpoint: Callable[[Request], object]) -> Starlette:
    return Starlette(routes=[Route("/", endpoint)])


async def test_an_open_request_is_finished_before_the_stop() -> None:
    inside, release = asyncio.Event(), asyncio.Event()

    async def slow(_: Request) -> PlainTextResponse:
        inside.set()
        await release.wait()
        return PlainTextResponse("finished")

    told: list[str] = []
    component = HttpComponent("slow", app_with(slow), host="127.0.0.1", port=0, on_stop=lambda: told.append("stop"))
    other = HttpComponent("other", app_with(slow), host="127.0.0.1", port=0)
    stop = asyncio.Event()
    port = component.bind()
    assert other.bind() not in (0, port)
    running = asyncio.create_task(run(component, other, stop=stop, drain_timeout_s=10))
    async with ClientSession() as client:
        asking = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/"))
        await inside.wait()
        stop.set()
        while not told:  # noqa: ASYNC110 (the stop is told by a plain callable)
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
            SettingsError, match=r"gateway can't listen on 127.0.0.1:\d+ .*change gateway.host or gatew"
        ):
            component.bind()


async def test_an_app_that_does_not_start_stops_the_process(caplog: pytest.LogCaptureFixture) -> None:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        raise RuntimeError("no model")
        yield

    component = HttpComponent("sse", Starlette(lifespan=lifespan), host="127.0.0.1", port=0)
    assert await run(component) == EXIT_FAILED
    assert "component sse failed: the HTTP app did not start" in caplog.text
    assert "no model" in caplog.text
