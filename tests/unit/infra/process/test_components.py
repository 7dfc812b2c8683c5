"""Components start, drain on a signal, and end the process when one of them fails."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from infra.errors import SettingsError
from infra.process import stopping
from infra.process.components import EXIT_FAILED, EXIT_OK, Component, run_components
from infra.process.health import Health, HealthPart


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
async def test_signal_drains_all_components(number: signal.Signals) -> None:
    one, two = Worker("one"), Worker("two")
    running = asyncio.create_task(run(one, two))
    await one.started.wait()
    await two.started.wait()
    os.kill(os.getpid(), number)
    assert await running == EXIT_OK
    assert one.drained
    assert two.drained


async def test_stop_event_drains_components() -> None:
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
    assert health.report().parts["bad"].failure is not None


async def test_causes_in_an_error_group_are_reported(caplog: pytest.LogCaptureFixture) -> None:
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
    failure = health.report().parts["detector"].failure
    assert failure is not None
    assert "SettingsError: detector.model: no such file" in failure


async def test_component_that_fails_while_draining_is_exit_failed() -> None:
    stop = asyncio.Event()
    stop.set()
    assert await run(Worker("bad", fails="draining"), stop=stop) == EXIT_FAILED


async def test_component_that_does_not_drain_in_time_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    stop = asyncio.Event()
    slow, quick = Worker("slow", drains=False), Worker("quick")
    running = asyncio.create_task(run(slow, quick, stop=stop, drain_timeout_s=0.05))
    await slow.started.wait()
    stop.set()
    assert await running == EXIT_FAILED
    assert slow.cancelled
    assert quick.drained
    assert "component slow did not drain in time" in caplog.text


async def test_two_signals_at_once_are_one_request(caplog: pytest.LogCaptureFixture) -> None:
    slow = Worker("slow", drains=False)
    running = asyncio.create_task(run(slow, drain_timeout_s=0.3))
    await slow.started.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == EXIT_FAILED
    assert "cancelling the work" not in caplog.text


async def test_a_second_signal_later_cancels_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "REPEAT_S", 0.01)
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
