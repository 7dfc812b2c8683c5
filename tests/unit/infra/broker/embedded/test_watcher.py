"""A process looks for the records of others more often while there are some, and seldom when there are none."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from infra.broker.embedded import watcher
from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.embedded.file.file_identity import FileIdentity
from infra.broker.embedded.watcher import ChangeWatcher, Ends
from schemas.topics import load_topics
from standgale.testing.factories import detections_made, out_record

BUSY_S, IDLE_S = 0.002, 0.011


class Recording(ChangeWatcher):
    """Keeps the pauses between its looks while somebody waits."""

    def __init__(self, identity: FileIdentity) -> None:
        self.pauses: list[float] = []
        super().__init__(identity)

    def _sleep(self, pause: float) -> bool:
        if self._waiters:
            self.pauses.append(pause)
        return super()._sleep(pause)


@pytest.fixture
def intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "_BUSY_INTERVAL_S", BUSY_S)
    monkeypatch.setattr(watcher, "_LOOK_INTERVAL_S", IDLE_S)
    monkeypatch.setattr(watcher, "_BUSY_FOR_S", 0.1)


@pytest.mark.usefixtures("intervals")
async def test_wait_looks_more_often_for_a_while_after_a_change(tmp_path: Path) -> None:
    path = tmp_path / "broker.db"
    broker = EmbeddedBroker(path, load_topics())
    publisher = await broker.publisher()
    await publisher.publish([out_record(detections_made())])
    recording = Recording(FileIdentity(path))
    try:
        assert not await recording.wait(lambda _: False, 0.3)
        assert recording.pauses[-1] == IDLE_S
        recording.pauses.clear()
        before = sum(recording._ends.offsets.values())

        def is_there(ends: Ends) -> bool:
            return sum(ends.offsets.values()) > before

        waiting = asyncio.create_task(recording.wait(is_there, 10))
        await asyncio.sleep(0.02)
        await publisher.publish([out_record(detections_made(1))])
        assert await waiting
        assert not await recording.wait(lambda _: False, 0.05)
        assert BUSY_S in recording.pauses
        assert not await recording.wait(lambda _: False, 0.5)
        assert recording.pauses[-1] == IDLE_S
    finally:
        recording.close()
        await publisher.close()
        await broker.close()
