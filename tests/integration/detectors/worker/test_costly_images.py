"""Checks that images that cost far more than others become dead letters, while the worker continues and ends."""

from __future__ import annotations

import asyncio
import time

import pytest

from detectors.settings import DetectorSettings
from schemas import topics
from tests.harnesses.worker_site import WorkerSite
from tests.jpeg_files import scan_bomb

pytestmark = pytest.mark.integration

# Fewer scans than are refused before decoding: it takes a second of CPU time or more.
BOMB = scan_bomb(9_600, 9_600, 24)
# Thousands of scans: minutes of CPU time.
REFUSED_BOMB = scan_bomb(9_600, 9_600, 6_000)


async def test_costly_images_become_dead_letters_while_other_devices_continue(site: WorkerSite) -> None:
    ordinary = [await site.frame(f"drone-{number}", number) for number in range(8)]
    bombs = [await site.frame(f"attacker-{number}", number, BOMB) for number in range(2)]
    bombs.append(await site.frame("attacker-0", 3, REFUSED_BOMB))
    await site.publish(*bombs, *ordinary)
    settings = DetectorSettings(max_decode_s=0.3, fetch_threads=2)
    async with site.run_workers(site.parts(settings=settings)):
        await site.wait_for(site.detections, len(ordinary))
        await site.wait_for(site.dead_letters, len(bombs))
        assert site.health.report().ready
    letters = {letter.reason: letter.message for letter in await site.dead_letters()}
    assert set(letters) == {"IMAGE_TOO_COSTLY", "IMAGE_CORRUPT"}
    assert "more than 0.3 s of CPU time" in letters["IMAGE_TOO_COSTLY"]
    assert "scans of 9600×9600 px" in letters["IMAGE_CORRUPT"]


async def test_a_worker_leaves_costly_images_to_the_next_one_when_it_ends(site: WorkerSite) -> None:
    await site.publish(*[await site.frame(f"attacker-{number}", number, BOMB) for number in range(8)])
    async with site.run_workers(site.parts(settings=DetectorSettings(max_decode_s=3_000))):
        await asyncio.sleep(2)
        asked = time.monotonic()
    # Decoding all of them would take half a minute on an idle machine.
    assert time.monotonic() - asked < 20
    assert await site.dead_letters() == []
    admin = await site.broker.admin()
    lag = await admin.group_lag("detector", topics.FRAME_TOPICS)
    await admin.close()
    assert sum(lag.values()) >= 6
