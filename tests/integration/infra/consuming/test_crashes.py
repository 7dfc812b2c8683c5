"""A sink killed with SIGKILL at its worst moments writes every frame once and every poison one into one dead letter."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import uuid
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import orjson
import pytest

from infra.broker.event_records import event_record
from infra.broker.open import open_broker
from infra.broker.port import Broker
from infra.broker.settings import BrokerSettings
from infra.failure.dead_letters import list_dead, redrive
from schemas.events import DeadLetter, FrameCaptured
from schemas.topics import FRAMES_LIVE, REDRIVE, SINKS_DEAD, TopicSpec, load_topics
from standgale.testing.factories import frame_captured

MEMBER = Path(__file__).with_name("consuming_member.py")
MOMENTS = ("in write", "after write", "before dead letter", "after commit")
FRAMES = 300
DEVICES = 5
POISON = {number for number in range(FRAMES) if number % 10 == 7}
TIMEOUT_S = 60.0
NOW = datetime(2026, 11, 20, tzinfo=UTC)


class Members:
    """One broker, a table, and the sink's process."""

    def __init__(self, settings: BrokerSettings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.name = f"crash-{uuid.uuid4().hex[:8]}"
        declared = load_topics()
        small = {"partitions": 4, "replication": 1, "min_insync_replicas": 1}
        self.source, self.dead, self.redrive = (
            declared[name].model_copy(update={"name": f"{self.name}.{name}", **small})
            for name in (FRAMES_LIVE, SINKS_DEAD, REDRIVE)
        )

    @property
    def topics(self) -> dict[str, TopicSpec]:
        return {spec.name: spec for spec in (self.source, self.dead, self.redrive)}

    def start(self, crash: str | None) -> subprocess.Popen[bytes]:
        options = {
            "name": self.name,
            "crash": crash,
            "settings": self.settings.model_dump(mode="json"),
            "data_dir": str(self.folder),
            "table": str(self.folder / "table.sqlite"),
            "topics": [spec.model_dump() for spec in self.topics.values()],
            "instance_id": "only",
        }
        return subprocess.Popen([sys.executable, str(MEMBER), orjson.dumps(options).decode()])

    def numbers(self, table: str) -> list[int]:
        with sqlite3.connect(self.folder / "table.sqlite") as database:
            return [number for (number,) in database.execute(f"SELECT number FROM {table}")]


def frame(number: int) -> FrameCaptured:
    return frame_captured(number, device=f"cam-{number % DEVICES}", frame_id=UUID(int=number))


async def until_done(broker: Broker, site: Members, member: subprocess.Popen[bytes]) -> None:
    admin = await broker.admin()
    async with asyncio.timeout(TIMEOUT_S):
        while sum((await admin.group_lag(f"sink.{site.name}", [site.source.name, site.redrive.name])).values()):
            assert member.poll() is None, "the sink ended though nobody killed it"
            await asyncio.sleep(0.02)
            await asyncio.sleep(0.1)
    await admin.close()


async def letters(broker: Broker, site: Members) -> list[DeadLetter]:
    reader = await broker.reader()
    found = [letter async for letter in list_dead(reader, site.dead.name)]
    await reader.close()
    return found


@pytest.fixture
def site(broker_settings: BrokerSettings, tmp_path: Path) -> Members:
    return Members(broker_settings, tmp_path)


@pytest.mark.integration
async def test_killed_sink_writes_every_frame_once(site: Members) -> None:
    broker = open_broker(site.settings, site.folder, site.topics)
    admin = await broker.admin()
    await admin.apply(list(site.topics.values()))
    await admin.close()
    publisher = await broker.publisher()
    await publisher.publish(
        [
            event_record(site.source.name, event, id=event.frame_id, source="test", subject=None, time=NOW, key=key)
            for event, key in ((frame(number), frame(number).device_id) for number in range(FRAMES))
        ]
    )

    for moment in MOMENTS:
        member = site.start(moment)
        assert await asyncio.to_thread(member.wait, TIMEOUT_S) == -signal.SIGKILL, moment
    member = site.start(None)
    try:
        await until_done(broker, site, member)
        dead = await letters(broker, site)
        # Sending the dead again is harmless: they die again, at their new places, and nothing else changes.
        reader = await broker.reader()
        sent = await redrive(reader, publisher, list_dead(reader, site.dead.name), topic=site.redrive.name)
        assert sent.sent == len(POISON)
        await reader.close()
        await until_done(broker, site, member)
    finally:
        member.terminate()
        status = await asyncio.to_thread(member.wait, TIMEOUT_S)
    again = await letters(broker, site)
    await publisher.close()
    await broker.close()

    assert status == 0
    assert sorted(site.numbers("frames")) == sorted(set(range(FRAMES)) - POISON)
    assert max(Counter(site.numbers("writes")).values()) > 1, "nothing was written twice, so no crash was felt"
    # Order per device, by the first write of each frame.
    first = list(dict.fromkeys(site.numbers("writes")))
    for device in range(DEVICES):
        mine = [number for number in first if number % DEVICES == device]
        assert mine == sorted(mine)
    assert Counter(letter.frame_id.int for letter in dead if letter.frame_id) == Counter(POISON)
    assert {letter.reason for letter in dead} == {"RECORD_ERROR"}
    assert Counter(letter.frame_id.int for letter in again if letter.frame_id) == Counter([*POISON, *POISON])
