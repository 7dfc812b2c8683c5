"""I14: uploads that were never announced are removed, and no error ends the sweeping."""

from __future__ import annotations

import asyncio
import logging

import pytest

from infra.errors import StoreUnavailableError
from infra.process.health import Health
from infra.storage.originals.folder import FolderUploads
from ingest.acceptance.originals_sweep import OriginalsSweep


class Uploads(FolderUploads):
    """Fails at the first two sweeps."""

    def __init__(self) -> None:
        self.ages: list[float] = []

    async def sweep(self, max_age_s: float) -> int:
        self.ages.append(max_age_s)
        if len(self.ages) < 3:
            raise StoreUnavailableError("the disk is away")
        return 1


async def test_sweeping_goes_on_after_errors(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    uploads, stop, health = Uploads(), asyncio.Event(), Health()
    part = health.part("originals")
    sweep = OriginalsSweep(uploads, valid_s=100.0)
    monkeypatch.setattr(sweep, "_pause_s", 0.01)
    with caplog.at_level(logging.INFO):
        running = asyncio.create_task(sweep.run(stop, part))
        while len(uploads.ages) < 4:
            assert health.report().parts["originals"].ready or not uploads.ages
            await asyncio.sleep(0.005)
        stop.set()
        await asyncio.wait_for(running, 5)
    assert set(uploads.ages) == {200.0}
    texts = [record.getMessage() for record in caplog.records]
    assert len([text for text in texts if "cannot be removed" in text]) == 1
    assert "1 uploads of originals were removed: never announced" in texts


async def test_a_pause_longer_than_a_part_may_be_silent_is_no_hang() -> None:
    uploads, stop, health = Uploads(), asyncio.Event(), Health(silence_s=0.2)
    sweep = OriginalsSweep(uploads, valid_s=3_600.0)
    running = asyncio.create_task(sweep.run(stop, health.part("originals")))
    for _ in range(12):
        await asyncio.sleep(0.05)
        assert health.report().live
    assert len(uploads.ages) == 1
    stop.set()
    await asyncio.wait_for(running, 5)
