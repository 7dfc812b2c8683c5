"""A replay that is killed again and again publishes each frame once; Ctrl-C ends it at once, and it continues."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.harnesses.replay_site import ReplaySite, write_pictures

pytestmark = pytest.mark.faults

COUNT = 400


async def test_replay_killed_five_times_publishes_each_frame_once(tmp_path: Path) -> None:
    site = ReplaySite(tmp_path, {"STANDGALE_REPLAY__MAX_BACKLOG": "100000", "STANDGALE_REPLAY__BATCH_FRAMES": "8"})
    await site.prepare()
    write_pictures(tmp_path / "pictures", COUNT)
    arguments = (str(tmp_path / "pictures"), "--device", "drone-7", "--rate", "100")
    rng, reached = random.Random(7), 0
    for ending in (*[signal.SIGKILL] * 5, signal.SIGINT):
        process = site.start(*arguments)
        wanted = reached + rng.randint(20, 50)
        while reached < wanted:
            assert process.poll() is None, site.log()
            await asyncio.sleep(0.02)
            reached = len(await site.frames())
        process.send_signal(ending)
        status = process.wait(10)
    assert status == 128 + signal.SIGINT
    assert "the same command continues" in site.log()
    result = site.run(*arguments)
    assert result.returncode == 0, result.stderr
    found = await site.frames()
    assert set(Counter(event.frame_id for event in found).values()) == {1}
    assert len(found) == COUNT
    assert f"{COUNT} frames accepted" in result.stdout
    again = site.run(*arguments)
    assert (again.returncode, len(await site.frames())) == (0, COUNT)
    assert "nothing was sent" in again.stdout
