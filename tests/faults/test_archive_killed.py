"""Kills the process of the archive again and again while it commits; afterwards each frame is there once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.topics import DETECTIONS
from standgale.testing.factories import out_record
from tests.faults.forked import ForkedProcess
from tests.harnesses.archive import REPOSITORY, FolderHarness

pytestmark = pytest.mark.faults

_FRAMES, _KILLS = 200, 4
_TIMEOUT_S = 200.0


@pytest.fixture
def processes() -> Iterator[list[ForkedProcess]]:
    """Collect processes, which are killed at the end."""
    started: list[ForkedProcess] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def start(folder: Path) -> ForkedProcess:
    environment = {
        **os.environ,
        "STANDGALE_DATA_DIR": str(folder),
        "STANDGALE_TELEMETRY__HEALTH_PORT": "0",
        "STANDGALE_LAKEFS__BATCH_SIZE": "3",
        "STANDGALE_LAKEFS__BATCH_TIMEOUT_S": "0.2",
    }
    # With a name of its own the next process takes the partitions over at once.
    return ForkedProcess(("sink", "lakefs", "--instance-id", "one"), environment, folder / "sink.log")


async def test_each_frame_is_archived_once_whenever_the_process_is_killed(
    tmp_path: Path, processes: list[ForkedProcess]
) -> None:
    # C-S1-110
    rng = random.Random(7)
    archive = FolderHarness(tmp_path / "data")
    events = [archive.event(number) for number in range(_FRAMES)]
    publisher = await archive.broker.publisher()
    await publisher.publish([out_record(event, DETECTIONS) for event in events])
    await publisher.close()
    head = archive.root / REPOSITORY / ".heads" / "main"
    deadline = time.monotonic() + _TIMEOUT_S
    for _ in range(_KILLS):
        before = head.read_text() if head.exists() else ""
        processes.append(process := start(archive.folder))
        while not head.exists() or head.read_text() == before:
            assert process.poll() is None, (archive.folder / "sink.log").read_text()
            assert time.monotonic() < deadline, (archive.folder / "sink.log").read_text()
            await asyncio.sleep(0.005)
        await asyncio.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
    processes.append(process := start(archive.folder))
    # The files change while the process works, so only the commits are looked at until it has stopped.
    while len({change["path"] for commit in archive.commits() for change in commit["changes"]}) < _FRAMES + 3:
        assert process.poll() is None, (archive.folder / "sink.log").read_text()
        assert time.monotonic() < deadline, (archive.folder / "sink.log").read_text()
        await asyncio.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 30) == 0
    assert len(await archive.stored()) == _FRAMES
    reported = [image.frame_id for report in await archive.reported() for image in report.images]
    assert set(reported) == {event.frame_id for event in events}
    await archive.close()
