"""Kills workers during a roll-out: the right version is used again, and each frame is processed once."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from detectors.settings import ModelStoreSettings
from detectors.store.open import open_model_store
from schemas.events import DetectionsMade, FrameCaptured
from tests.faults.fleet import Fleet
from tests.faults.forked import ForkedProcess
from tests.harnesses.model_versions import NAME, write_version
from tests.harnesses.worker_site import WorkerSite

pytestmark = [pytest.mark.integration, pytest.mark.faults, pytest.mark.timeout(240)]

SCORES = {"1.0.0": 1.0, "2.0.0": 0.8, "3.0.0": 0.6}
TIMEOUT_S = 90.0
FRAMES = 400
DEVICES = 6


@dataclass
class KilledSite:
    """Holds a data folder with a broker, frames and models, and detectors as processes that a test kills."""

    site: WorkerSite
    fleet: Fleet

    async def standgale(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "standgale", *arguments]
        return await asyncio.to_thread(
            subprocess.run, command, env=self.fleet.environment, capture_output=True, text=True, timeout=90, check=False
        )

    async def wait_for_events(self, count: int) -> list[DetectionsMade]:
        deadline = time.monotonic() + TIMEOUT_S
        while len(events := await self.site.detections()) < count:
            self.fleet.check()
            assert time.monotonic() < deadline, f"{len(events)} of {count}; {self.fleet.log('worker-1')}"
            await asyncio.sleep(0.1)
        return events


@pytest.fixture
async def killed_site(tmp_path: Path) -> AsyncIterator[KilledSite]:
    async with AsyncExitStack() as stack:
        site = WorkerSite(tmp_path)
        stack.push_async_callback(site.close)
        store = open_model_store(ModelStoreSettings(), tmp_path)
        cards = [write_version(tmp_path / "made", version, scores) for version, scores in SCORES.items()]
        for card in cards:
            await store.publish(card)
        await store.close()
        (tmp_path / "logs").mkdir()
        settings = {
            "DATA_DIR": str(tmp_path),
            "DETECTOR__MODEL": str(cards[0]),
            "DETECTOR__ENGINE": "onnxruntime",
            "DETECTOR__THREADS": "1",
            "DETECTOR__MEASURE_S": "0",
            "DETECTOR__REPORT_INTERVAL_S": "1",
            "RETRY__MAX_DELAY_S": "1",
            "TELEMETRY__HEALTH_PORT": "0",
        }
        fleet = Fleet(
            {f"STANDGALE_{name}": value for name, value in settings.items()}, tmp_path / "logs", ForkedProcess
        )
        stack.callback(fleet.stop)
        yield KilledSite(site, fleet)


async def test_workers_killed_during_roll_out_lose_and_double_no_frame(killed_site: KilledSite) -> None:
    site, fleet = killed_site.site, killed_site.fleet
    frames = [await site.frame(f"drone-{n % DEVICES}", n) for n in range(FRAMES)]
    for number in (1, 2):
        fleet.start(f"worker-{number}", "detector", "--instance-id", f"worker-{number}")
    await site.publish(*frames[:20])
    await killed_site.wait_for_events(20)
    sending = asyncio.create_task(_send(site, frames[20:]))
    await asyncio.sleep(1)
    activated = await killed_site.standgale("model", "activate", NAME, "2.0.0", "--comment", "better")
    assert activated.returncode == 0, activated.stderr
    # During the roll-out the workers lose the frames that they had not committed, and the models that they had loaded.
    fleet.kill("worker-1")
    await asyncio.sleep(0.2)
    fleet.kill("worker-2")
    waited = await killed_site.standgale("model", "activate", NAME, "3.0.0", "--wait", "--timeout", "60")
    assert waited.returncode == 0, waited.stderr
    fleet.kill("worker-1")
    back = await killed_site.standgale("model", "rollback", "--wait", "--timeout", "60")
    assert back.returncode == 0, back.stderr
    await sending
    last = [await site.frame(f"drone-{n % DEVICES}", FRAMES + n) for n in range(20)]
    await killed_site.wait_for_events(FRAMES)
    await site.publish(*last)
    events = await killed_site.wait_for_events(FRAMES + len(last))
    _check(events, [*frames, *last])
    assert await site.dead_letters() == []
    newest = {frame.frame_id for frame in last}
    assert {event.model.version for event in events if event.frame_id in newest} == {"2.0.0"}
    status = json.loads((await killed_site.standgale("model", "status", "--json")).stdout)
    (lane,) = status
    assert lane["activation"]["stable"] == {"name": NAME, "version": "2.0.0"}
    live = {report["worker"]: report["state"] for report in lane["workers"] if report["live"]}
    assert live == {"worker-1": "enabled", "worker-2": "enabled"}
    for number in (1, 2):
        await fleet.leave(f"worker-{number}")


async def _send(site: WorkerSite, frames: list[FrameCaptured]) -> None:
    publisher = await site.broker.publisher()
    for frame in frames:
        await publisher.publish([site.record(frame)])
        await asyncio.sleep(0.03)
    await publisher.close()


def _check(events: list[DetectionsMade], frames: list[FrameCaptured]) -> None:
    counts = Counter(event.frame_id for event in events)
    assert counts == Counter(frame.frame_id for frame in frames)
    for number in range(DEVICES):
        device = f"drone-{number}"
        wanted = [frame.frame_id for frame in frames if frame.device_id == device]
        assert [event.frame_id for event in events if event.device_id == device] == wanted
    for event in events:
        (found,) = event.detections
        assert found.confidence == pytest.approx(0.9 * SCORES[event.model.version], abs=1e-5), event.model
